// Every tensor type against a naive statement of its format in double precision, as bits.
//
// The comparison is exact because the numbers are: a scale has 11 significant bits, times a 7-bit
// scale and a 5-bit quant that makes 23, which f32 holds; and the sum of two such products spans
// less than the 53 bits of a double. So rounding the double once gives what f32 arithmetic gives.
#include "kvring/io/quants.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "io_test.hpp"

using io_test::check_refused;
using io_test::Random;
using kvring::GgmlType;

namespace {

using Block = std::vector<std::uint8_t>;

double half(const Block& b, std::size_t at) {
  const unsigned bits = b[at] + 256u * b[at + 1];
  const double sign = bits & 0x8000u ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 10 & 31u);
  const double fraction = bits & 1023u;
  if (exponent == 31) return fraction > 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

int bit(const Block& b, std::size_t first_byte, std::size_t index) {
  return b[first_byte + index / 8] >> index % 8 & 1;
}

// Element i of 32 in 16 bytes: its nibble.
int nibble32(const Block& b, std::size_t first_byte, std::size_t i) {
  const int byte = b[first_byte + i % 16];
  return i < 16 ? byte % 16 : byte / 16;
}

// Element i of 256 in 128 bytes of a Q4_K or Q5_K block: 64 elements share 32 bytes.
int nibble256(const Block& b, std::size_t first_byte, std::size_t i) {
  const int byte = b[first_byte + i / 64 * 32 + i % 32];
  return i % 64 < 32 ? byte % 16 : byte / 16;
}

// The 12 bytes from `at`: the g-th six-bit scale, and the g-th minimum.
int scale6(const Block& b, std::size_t at, std::size_t g) {
  return g < 4 ? b[at + g] % 64 : b[at + 8 + g - 4] % 16 + b[at + g - 4] / 64 * 16;
}
int min6(const Block& b, std::size_t at, std::size_t g) {
  return g < 4 ? b[at + 4 + g] % 64 : b[at + 8 + g - 4] / 16 + b[at + 4 + g - 4] / 64 * 16;
}

// Element i of the block, as its format defines it.
double expected(GgmlType type, const Block& b, std::size_t i) {
  switch (type) {
    case GgmlType::f32: {
      float x;
      std::memcpy(&x, b.data(), 4);
      return x;
    }
    case GgmlType::f16:
      return half(b, 0);
    case GgmlType::bf16: {
      const unsigned bits = b[0] + 256u * b[1];
      const int exponent = static_cast<int>(bits >> 7 & 255u);
      const double sign = bits & 0x8000u ? -1 : 1, fraction = bits & 127u;
      if (exponent == 255) return fraction > 0 ? std::nan("") : sign * INFINITY;
      if (exponent == 0) return sign * std::ldexp(fraction, -133);
      return sign * std::ldexp(128 + fraction, exponent - 134);
    }
    case GgmlType::q8_0:
      return half(b, 0) * static_cast<std::int8_t>(b[2 + i]);
    case GgmlType::q4_0:
      return half(b, 0) * (nibble32(b, 2, i) - 8);
    case GgmlType::q4_1:
      return half(b, 0) * nibble32(b, 4, i) + half(b, 2);
    case GgmlType::q5_0:
      return half(b, 0) * (nibble32(b, 6, i) + 16 * bit(b, 2, i) - 16);
    case GgmlType::q5_1:
      return half(b, 0) * (nibble32(b, 8, i) + 16 * bit(b, 4, i)) + half(b, 2);
    case GgmlType::q4_k:
      return half(b, 0) * scale6(b, 4, i / 32) * nibble256(b, 16, i) -
             half(b, 2) * min6(b, 4, i / 32);
    case GgmlType::q5_k:
      return half(b, 0) * scale6(b, 4, i / 32) *
                 (nibble256(b, 48, i) + 16 * bit(b, 16 + i % 32, i / 32)) -
             half(b, 2) * min6(b, 4, i / 32);
    case GgmlType::q6_k: {
      const std::size_t half_at = i / 128, in_half = i % 128, row = in_half / 32, column = i % 32;
      const int low_byte = b[half_at * 64 + row % 2 * 32 + column];
      const int low = row < 2 ? low_byte % 16 : low_byte / 16;
      const int high = b[128 + half_at * 32 + column] >> 2 * row & 3;
      const int scale = static_cast<std::int8_t>(b[192 + i / 16]);
      return half(b, 208) * scale * (low + 16 * high - 32);
    }
  }
  return std::nan("");
}

bool same(double want, float got) {
  if (std::isnan(want)) return std::isnan(got);
  return std::bit_cast<std::uint32_t>(static_cast<float>(want)) ==
         std::bit_cast<std::uint32_t>(got);
}

// Where the f16 scales of a block are.
std::vector<std::size_t> scale_places(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return {};
    case GgmlType::q4_1:
    case GgmlType::q5_1:
    case GgmlType::q4_k:
    case GgmlType::q5_k:
      return {0, 2};
    case GgmlType::q6_k:
      return {208};
    default:
      return {0};
  }
}

// Dequantises one block from an odd address and counts the elements that differ.
std::size_t differences(const kvring::GgmlTypeInfo& info, const Block& block) {
  std::vector<std::byte> shifted(block.size() + 1);
  std::memcpy(shifted.data() + 1, block.data(), block.size());
  std::vector<float> out(info.block);
  kvring::dequantize(info.type, shifted.data() + 1, out.data(), info.block);
  std::size_t bad = 0;
  for (std::size_t i = 0; i < info.block; ++i) bad += !same(expected(info.type, block, i), out[i]);
  return bad;
}

Block random_block(std::size_t bytes, Random& random) {
  Block out(bytes);
  for (std::uint8_t& byte : out) byte = static_cast<std::uint8_t>(random());
  return out;
}

}  // namespace

TEST_CASE("quants: every type, every f16 scale, random quants") {
  for (const kvring::GgmlTypeInfo& info : kvring::ggml_types) {
    CAPTURE(info.name);
    Random random(1 + static_cast<std::uint64_t>(info.type));
    std::size_t bad = 0, blocks = 0;
    const unsigned step = info.block == 256 ? 5 : 1;  // odd: meets every exponent and sign
    for (unsigned scale = 0; scale < 65536; scale += step, ++blocks) {
      Block block = random_block(info.bytes, random);
      for (const std::size_t at : scale_places(info.type)) {
        const unsigned bits = at == 2 ? (scale * 40503u) % 65536 : scale;
        block[at] = static_cast<std::uint8_t>(bits);
        block[at + 1] = static_cast<std::uint8_t>(bits >> 8);
      }
      bad += differences(info, block);
    }
    CHECK(blocks > 13000);
    CHECK(bad == 0);
  }
}

TEST_CASE("quants: extreme quants meet extreme scales") {
  // 0 and -0, smallest and largest subnormal, smallest normal, 1, largest, infinity.
  const unsigned scales[] = {0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x3c00, 0x7bff, 0xfbff, 0x7c00};
  for (const kvring::GgmlTypeInfo& info : kvring::ggml_types) {
    CAPTURE(info.name);
    std::size_t bad = 0;
    for (const int fill : {0x00, 0xff, 0x0f, 0xf0, 0x80, 0x7f}) {
      for (const unsigned first : scales) {
        for (const unsigned second : scales) {
          Block block(info.bytes, static_cast<std::uint8_t>(fill));
          for (const std::size_t at : scale_places(info.type)) {
            const unsigned bits = at == 2 ? second : first;
            block[at] = static_cast<std::uint8_t>(bits);
            block[at + 1] = static_cast<std::uint8_t>(bits >> 8);
          }
          bad += differences(info, block);
        }
      }
    }
    CHECK(bad == 0);
  }
}

TEST_CASE("quants: f32 special values keep their bits") {
  const std::uint32_t bits[] = {0,          0x80000000, 1,          0x807fffff,
                                0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc01234};
  float out[8];
  kvring::dequantize(GgmlType::f32, reinterpret_cast<const std::byte*>(bits), out, 8);
  for (int i = 0; i < 8; ++i) CHECK(std::bit_cast<std::uint32_t>(out[i]) == bits[i]);
}

TEST_CASE("quants: known blocks, worked out by hand") {
  float out[256];
  const auto run = [&](GgmlType type, const Block& block, std::size_t n) {
    kvring::dequantize(type, reinterpret_cast<const std::byte*>(block.data()), out, n);
  };
  Block q8(34);
  q8[1] = 0x38;  // d = 0.5
  q8[2] = 3, q8[33] = 0x80;
  run(GgmlType::q8_0, q8, 32);
  CHECK(out[0] == 1.5f);
  CHECK(out[1] == 0.0f);
  CHECK(out[31] == -64.0f);

  Block q5(22);
  q5[1] = 0x40;            // d = 2
  q5[2] = 1, q5[5] = 128;  // fifth bits of elements 0 and 31
  q5[6] = 0x0f, q5[21] = 0x70;
  run(GgmlType::q5_0, q5, 32);
  CHECK(out[0] == 30.0f);    // 2 (15 + 16 - 16)
  CHECK(out[31] == 14.0f);   // 2 (7 + 16 - 16)
  CHECK(out[16] == -32.0f);  // 2 (0 - 16)

  Block q4k(144);
  q4k[1] = 0x3c, q4k[3] = 0x40;  // d = 1, dmin = 2
  q4k[4 + 3] = 0x80 | 5;         // scale 3 is 5; its top bits give scale 7 the 32
  q4k[4 + 7] = 0x40 | 9;         // minimum 3 is 9; its top bits give minimum 7 the 16
  q4k[4 + 11] = 0x21;            // scale 7 is 1 + 32 = 33, minimum 7 is 2 + 16 = 18
  q4k[16 + 32 + 31] = 0x70;      // element 127: group 3, quant 7
  q4k[16 + 96 + 0] = 0xa0;       // element 224: group 7, quant 10
  run(GgmlType::q4_k, q4k, 256);
  CHECK(out[127] == 5 * 7 - 2 * 9);
  CHECK(out[224] == 33 * 10 - 2 * 18);

  Block q6(210);
  q6[209] = 0x3c;                  // d = 1
  q6[192 + 15] = 0xfe;             // the last scale is -2
  q6[127] = 0xb0, q6[191] = 0xc0;  // element 255: nibble 11, pair 3
  run(GgmlType::q6_k, q6, 256);
  CHECK(out[255] == -2.0f * (11 + 48 - 32));
}

TEST_CASE("quants: rows of many blocks, and of none") {
  Random random(7);
  for (const kvring::GgmlTypeInfo& info : kvring::ggml_types) {
    CAPTURE(info.name);
    const Block row = random_block(info.bytes * 5, random);
    const auto* bytes = reinterpret_cast<const std::byte*>(row.data());
    std::vector<float> whole(info.block * 5), one(info.block);
    kvring::dequantize(info.type, bytes, whole.data(), whole.size());
    for (std::size_t i = 0; i < 5; ++i) {
      kvring::dequantize(info.type, bytes + i * info.bytes, one.data(), info.block);
      CHECK(std::memcmp(one.data(), whole.data() + i * info.block, info.block * 4) == 0);
    }
    kvring::dequantize(info.type, bytes, nullptr, 0);
  }
}

TEST_CASE("quants: sizes of rows, and rows that can't be") {
  CHECK(kvring::row_bytes(GgmlType::f32, 7) == 28);
  CHECK(kvring::row_bytes(GgmlType::bf16, 7) == 14);
  CHECK(kvring::row_bytes(GgmlType::q8_0, 640) == 680);
  CHECK(kvring::row_bytes(GgmlType::q6_k, 2048) == 1680);
  CHECK(kvring::row_bytes(GgmlType::q4_k, 0) == 0);
  check_refused([] { kvring::row_bytes(GgmlType::q8_0, 31); }, {"31 elements", "32", "Q8_0"});
  check_refused([] { kvring::row_bytes(GgmlType::q4_k, 320); }, {"320 elements", "256", "Q4_K"});
  check_refused([] { kvring::row_bytes(GgmlType{10}, 256, "here: "); },
                {"here: tensor type 10", "Q8_0"});
  check_refused([] { kvring::row_bytes(GgmlType::f32, std::numeric_limits<std::uint64_t>::max()); },
                {"2^64"});
  float out[1];
  const std::byte in[4]{};
  check_refused([&] { kvring::dequantize(GgmlType{5}, in, out, 1); }, {"tensor type 5"});
}
