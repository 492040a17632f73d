// The element types of GGUF tensors, and their values as f32.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "kvring/element.hpp"
#include "kvring/error.hpp"

namespace kvring {

static_assert(std::endian::native == std::endian::little, "kvring: files are read as they lie");

/// The tensor types that can be read; the numbers are GGUF's.
enum class GgmlType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

/// How a type is stored: `block` consecutive elements of a row take `bytes`.
struct GgmlTypeInfo {
  GgmlType type;
  const char* name;
  std::uint32_t block;  // elements
  std::uint32_t bytes;
};

inline constexpr std::array<GgmlTypeInfo, 11> ggml_types{{
    {GgmlType::f32, "F32", 1, 4},
    {GgmlType::f16, "F16", 1, 2},
    {GgmlType::bf16, "BF16", 1, 2},
    {GgmlType::q8_0, "Q8_0", 32, 34},
    {GgmlType::q4_0, "Q4_0", 32, 18},
    {GgmlType::q4_1, "Q4_1", 32, 20},
    {GgmlType::q5_0, "Q5_0", 32, 22},
    {GgmlType::q5_1, "Q5_1", 32, 24},
    {GgmlType::q4_k, "Q4_K", 256, 144},
    {GgmlType::q5_k, "Q5_K", 256, 176},
    {GgmlType::q6_k, "Q6_K", 256, 210},
}};

/// The entry of `type`, or nullptr if the number names no type that can be read.
constexpr const GgmlTypeInfo* find_type(GgmlType type) {
  for (const GgmlTypeInfo& info : ggml_types) {
    if (info.type == type) return &info;
  }
  return nullptr;
}

/// The entry of `type`. Throws Error with the number and the types that can be read; `where` is put
/// in front of the message.
inline const GgmlTypeInfo& type_info(GgmlType type, std::string_view where = {}) {
  const GgmlTypeInfo* info = find_type(type);
  if (info == nullptr) {
    std::string known;
    for (const GgmlTypeInfo& each : ggml_types) known += concat(" ", each.name);
    fail(where, "tensor type ", static_cast<std::uint32_t>(type),
         " can't be read; requantise to one of", known);
  }
  return *info;
}

/// Bytes of a row of `n` elements. Throws Error unless `n` is a multiple of the type's block and
/// the result fits in 64 bits; `where` is put in front of the message.
inline std::uint64_t row_bytes(GgmlType type, std::uint64_t n, std::string_view where = {}) {
  const GgmlTypeInfo& info = type_info(type, where);
  require(n % info.block == 0, where, "a row of ", n, " elements is no multiple of the ",
          info.block, " that a block of ", info.name, " holds");
  std::uint64_t bytes = 0;
  require(!__builtin_mul_overflow(n / info.block, std::uint64_t{info.bytes}, &bytes), where,
          "a row of ", n, " elements of ", info.name, " exceeds 2^64 bytes");
  return bytes;
}

// Each format below is one function that expands one block. Every product of a scale and a quant is
// exact in f32 (11 + 7 + 5 bits at most), so only the final addition of formats with a minimum
// rounds, once: a fused multiply-add gives the same bits, and so does any vector width.
namespace detail {

inline float load_f16(const std::byte* p) {
  f16 x;
  std::memcpy(&x, p, sizeof x);
  return to_f32(x);
}

inline const std::uint8_t* as_u8(const std::byte* p) {
  return reinterpret_cast<const std::uint8_t*>(p);
}
inline const std::int8_t* as_i8(const std::byte* p) {
  return reinterpret_cast<const std::int8_t*>(p);
}

// { f16 d; i8 q[32]; }  x = d q
inline void expand_q8_0(const std::byte* __restrict src, float* __restrict dst) {
  const float d = load_f16(src);
  const std::int8_t* q = as_i8(src + 2);
  for (int i = 0; i < 32; ++i) dst[i] = d * static_cast<float>(q[i]);
}

// { f16 d; u4 q[32]; }  x = d (q - 8). Low nibbles are elements 0…15, high ones 16…31.
inline void expand_q4_0(const std::byte* __restrict src, float* __restrict dst) {
  const float d = load_f16(src);
  const std::uint8_t* q = as_u8(src + 2);
  for (int i = 0; i < 16; ++i) {
    dst[i] = d * static_cast<float>((q[i] & 15) - 8);
    dst[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
  }
}

// { f16 d, m; u4 q[32]; }  x = d q + m
inline void expand_q4_1(const std::byte* __restrict src, float* __restrict dst) {
  const float d = load_f16(src), m = load_f16(src + 2);
  const std::uint8_t* q = as_u8(src + 4);
  for (int i = 0; i < 16; ++i) {
    dst[i] = d * static_cast<float>(q[i] & 15) + m;
    dst[i + 16] = d * static_cast<float>(q[i] >> 4) + m;
  }
}

// The fifth bits of 32 quants: bit i of the word belongs to element i.
struct FifthBits {
  std::uint32_t word;
  explicit FifthBits(const std::byte* p) { std::memcpy(&word, p, sizeof word); }
  int operator[](int i) const { return static_cast<int>(word >> i & 1u) << 4; }
};

// { f16 d; u32 high; u4 q[32]; }  x = d (q - 16)
inline void expand_q5_0(const std::byte* __restrict src, float* __restrict dst) {
  const float d = load_f16(src);
  const FifthBits high(src + 2);
  const std::uint8_t* q = as_u8(src + 6);
  for (int i = 0; i < 16; ++i) {
    dst[i] = d * static_cast<float>(((q[i] & 15) | high[i]) - 16);
    dst[i + 16] = d * static_cast<float>(((q[i] >> 4) | high[i + 16]) - 16);
  }
}

// { f16 d, m; u32 high; u4 q[32]; }  x = d q + m
inline void expand_q5_1(const std::byte* __restrict src, float* __restrict dst) {
  const float d = load_f16(src), m = load_f16(src + 2);
  const FifthBits high(src + 4);
  const std::uint8_t* q = as_u8(src + 8);
  for (int i = 0; i < 16; ++i) {
    dst[i] = d * static_cast<float>((q[i] & 15) | high[i]) + m;
    dst[i + 16] = d * static_cast<float>((q[i] >> 4) | high[i + 16]) + m;
  }
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes. The first four of each are the low six
// bits of bytes 0…3 and 4…7; the last four have their low nibbles in bytes 8…11 (scale low, minimum
// high) and their two top bits above the first four.
struct ScaleAndMin {
  int scale, min;
  ScaleAndMin(const std::uint8_t* packed, int i) {
    if (i < 4) {
      scale = packed[i] & 63;
      min = packed[i + 4] & 63;
    } else {
      scale = (packed[i + 4] & 15) | (packed[i - 4] >> 6 << 4);
      min = (packed[i + 4] >> 4) | (packed[i] >> 6 << 4);
    }
  }
};

// { f16 d, dmin; u6 scale[8], min[8]; u4 q[256]; }  x = (d scale) q - (dmin min), per 32 elements.
// Each 32 bytes of quants hold two groups: low nibbles first, then high ones.
inline void expand_q4_k(const std::byte* __restrict src, float* __restrict dst) {
  const float d = load_f16(src), dmin = load_f16(src + 2);
  const std::uint8_t* packed = as_u8(src + 4);
  const std::uint8_t* q = as_u8(src + 16);
  for (int pair = 0; pair < 4; ++pair, q += 32, dst += 64) {
    const ScaleAndMin low(packed, 2 * pair), high(packed, 2 * pair + 1);
    const float d0 = d * static_cast<float>(low.scale), m0 = dmin * static_cast<float>(low.min);
    const float d1 = d * static_cast<float>(high.scale), m1 = dmin * static_cast<float>(high.min);
    for (int i = 0; i < 32; ++i) dst[i] = d0 * static_cast<float>(q[i] & 15) - m0;
    for (int i = 0; i < 32; ++i) dst[i + 32] = d1 * static_cast<float>(q[i] >> 4) - m1;
  }
}

// As Q4_K, with 32 bytes of fifth bits before the quants: bit g of byte i belongs to element i of
// group g.
inline void expand_q5_k(const std::byte* __restrict src, float* __restrict dst) {
  const float d = load_f16(src), dmin = load_f16(src + 2);
  const std::uint8_t* packed = as_u8(src + 4);
  const std::uint8_t* fifth = as_u8(src + 16);
  const std::uint8_t* q = as_u8(src + 48);
  for (int pair = 0; pair < 4; ++pair, q += 32, dst += 64) {
    const int g0 = 2 * pair, g1 = 2 * pair + 1;
    const ScaleAndMin low(packed, g0), high(packed, g1);
    const float d0 = d * static_cast<float>(low.scale), m0 = dmin * static_cast<float>(low.min);
    const float d1 = d * static_cast<float>(high.scale), m1 = dmin * static_cast<float>(high.min);
    for (int i = 0; i < 32; ++i) {
      dst[i] = d0 * static_cast<float>((q[i] & 15) | (fifth[i] >> g0 & 1) << 4) - m0;
    }
    for (int i = 0; i < 32; ++i) {
      dst[i + 32] = d1 * static_cast<float>((q[i] >> 4) | (fifth[i] >> g1 & 1) << 4) - m1;
    }
  }
}

// { u4 low[256]; u2 high[256]; i8 scale[16]; f16 d; }  x = (d scale) (q - 32), a scale per 16
// elements. A half of 128 elements takes 64 bytes of low nibbles and 32 of high pairs: element
// 32 g + i has pair g of high byte i, and nibble g / 2 of low byte 32 (g % 2) + i.
inline void expand_q6_k(const std::byte* __restrict src, float* __restrict dst) {
  const std::uint8_t* low = as_u8(src);
  const std::uint8_t* high = as_u8(src + 128);
  const std::int8_t* scale = as_i8(src + 192);
  const float d = load_f16(src + 208);
  for (int half = 0; half < 2; ++half, low += 64, high += 32, scale += 8, dst += 128) {
    for (int part = 0; part < 8; ++part) {
      const int g = part / 2, first = part % 2 * 16;
      const float s = d * static_cast<float>(scale[part]);
      const std::uint8_t* nibbles = low + g % 2 * 32 + first;
      for (int i = 0; i < 16; ++i) {
        const int q = (nibbles[i] >> g / 2 * 4 & 15) | (high[first + i] >> 2 * g & 3) << 4;
        dst[part * 16 + i] = s * static_cast<float>(q - 32);
      }
    }
  }
}

template <class T>
void widen(const std::byte* __restrict src, float* __restrict dst, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    T x;
    std::memcpy(&x, src + i * sizeof x, sizeof x);
    dst[i] = to_f32(x);
  }
}

template <int Block, int Bytes, void Expand(const std::byte* __restrict, float* __restrict)>
void expand(const std::byte* src, float* dst, std::size_t n) {
  for (std::size_t i = 0; i < n / Block; ++i) Expand(src + i * Bytes, dst + i * Block);
}

}  // namespace detail

/// Writes the `n` values of a row to `dst`: the bits that llama.cpp's reference code gives.
/// src: row_bytes(type, n) bytes, of any alignment; dst: [n], not overlapping src. `n` must be a
/// multiple of the type's block, which row_bytes checks. Throws Error for an unknown type.
inline void dequantize(GgmlType type, const std::byte* src, float* dst, std::size_t n) {
  using namespace detail;
  switch (type) {
    case GgmlType::f32:
      return widen<float>(src, dst, n);
    case GgmlType::f16:
      return widen<f16>(src, dst, n);
    case GgmlType::bf16:
      return widen<bf16>(src, dst, n);
    case GgmlType::q8_0:
      return expand<32, 34, expand_q8_0>(src, dst, n);
    case GgmlType::q4_0:
      return expand<32, 18, expand_q4_0>(src, dst, n);
    case GgmlType::q4_1:
      return expand<32, 20, expand_q4_1>(src, dst, n);
    case GgmlType::q5_0:
      return expand<32, 22, expand_q5_0>(src, dst, n);
    case GgmlType::q5_1:
      return expand<32, 24, expand_q5_1>(src, dst, n);
    case GgmlType::q4_k:
      return expand<256, 144, expand_q4_k>(src, dst, n);
    case GgmlType::q5_k:
      return expand<256, 176, expand_q5_k>(src, dst, n);
    case GgmlType::q6_k:
      return expand<256, 210, expand_q6_k>(src, dst, n);
  }
  type_info(type);  // throws
}

}  // namespace kvring
