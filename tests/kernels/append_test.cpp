// Append, bit for bit: each valid row in the slot of its position, converted once, and no other
// byte touched.
#include "kvring/kernels/append.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

using namespace kvring;

namespace {

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// What a test cache held before: bits that are no converted row's.
template <class T>
T canary() {
  std::array<unsigned char, sizeof(T)> bytes;
  bytes.fill(0x5b);
  return std::bit_cast<T>(bytes);
}

/// Any bits: subnormals, both zeros, infinities and NaN come by themselves in 16 bits.
template <class Source>
std::vector<Source> noise(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Source> values(count);
  for (Source& value : values) {
    const std::uint32_t bits = random();
    if constexpr (sizeof(Source) == 2) {
      value.bits = static_cast<std::uint16_t>(bits);
    } else if (bits % 64 == 0) {
      value = bits % 128 == 0 ? 0.0f : -0.0f;
    } else if (bits % 2 == 0) {  // most bits of an f32 are out of a smaller format's range
      value = static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-31f;
    } else {
      value = std::bit_cast<float>(bits);
    }
  }
  return values;
}

template <Heads H, class T, class Storage>
struct Memory {
  std::int64_t sequences, slots;
  std::vector<T> k, v;  // with a row of guard at either end

  Memory(std::int64_t sequences, std::int64_t slots)
      : sequences(sequences),
        slots(slots),
        k(static_cast<std::size_t>((sequences * slots + 2) * H.kv_dim()), canary<T>()),
        v(k) {}
  CacheView<Storage, H, T> view() { return {k.data() + H.kv_dim(), v.data() + H.kv_dim(), slots}; }
  bool operator==(const Memory& other) const {
    return std::memcmp(k.data(), other.k.data(), k.size() * sizeof(T)) == 0 &&
           std::memcmp(v.data(), other.v.data(), v.size() * sizeof(T)) == 0;
  }
};

/// Runs the batch, rows in a shuffled order, and the plain statement of it; compares all memory.
template <Heads H, class T, class Source, class Storage>
bool as_stated(Memory<H, T, Storage>& memory, const std::vector<Segment>& segments, unsigned seed) {
  std::int64_t rows = 0;
  for (const Segment& segment : segments) rows += segment.rows;
  const std::size_t count = static_cast<std::size_t>(rows * H.kv_dim());
  const std::vector<Source> k = noise<Source>(count, 2 * seed),
                            v = noise<Source>(count, 2 * seed + 1);

  Memory<H, T, Storage> right = memory;
  std::size_t from = 0;
  for (const Segment& segment : segments) {
    std::int64_t slot = 0;  // counted, not calculated
    for (std::int64_t p = 0; p < segment.start.value; ++p)
      slot = slot + 1 == right.slots ? 0 : slot + 1;
    for (std::int64_t i = 0; i < segment.rows; ++i) {
      std::size_t to =
          static_cast<std::size_t>((1 + segment.sequence * right.slots + slot) * H.kv_dim());
      for (std::int64_t j = 0; j < H.kv_dim(); ++j, ++from, ++to) {
        right.k[to] = from_f32<T>(to_f32(k[from]));
        right.v[to] = from_f32<T>(to_f32(v[from]));
      }
      slot = slot + 1 == right.slots ? 0 : slot + 1;
    }
  }

  std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
  for (std::int64_t row = 0; row < rows; ++row) order[static_cast<std::size_t>(row)] = row;
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  const Append<CacheView<Storage, H, T>, Source> kernel{
      memory.view(),
      {segments.data(), static_cast<std::int64_t>(segments.size()), rows},
      k.data(),
      v.data()};
  for (const std::int64_t row : order) kernel(row);
  return memory == right;
}

constexpr Heads heads{.q = 6, .kv = 3, .dim = 5};
constexpr std::int64_t slots = 16;

template <class T, class Source>
void every_start_and_count() {
  for (std::int64_t start = 0; start < 3 * slots; ++start) {
    for (std::int64_t rows = 1; rows <= slots; ++rows) {
      Memory<heads, T, Ring<slots>> memory(1, slots);
      const Segment segment{.sequence = 0, .start = {start}, .first_row = 0, .rows = rows};
      REQUIRE(as_stated<heads, T, Source>(memory, {segment},
                                          static_cast<unsigned>(start * slots + rows)));
    }
  }
}

TEST_CASE_TEMPLATE("1 ... R rows at every start, from f32, f16 and bf16", T, f32, f16, bf16) {
  every_start_and_count<T, f32>();
  every_start_and_count<T, f16>();
  every_start_and_count<T, bf16>();
}

TEST_CASE_TEMPLATE("a source of the cache's own type arrives as the same bits", T, f16, bf16) {
  // All of them but NaN, which becomes the canonical one.
  constexpr Heads one{.q = 1, .kv = 1, .dim = 256};
  std::vector<T> all(65'536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
  std::vector<T> k(all.size()), v(all.size());
  const Segment segment{.sequence = 0, .start = {0}, .first_row = 0, .rows = 256};
  const Append<CacheView<Full, one, T>, T> kernel{
      {k.data(), v.data(), 256}, {&segment, 1, 256}, all.data(), all.data()};
  for (std::int64_t row = 0; row < 256; ++row) kernel(row);
  int wrong = 0, nans = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool is_nan = to_f32(all[i]) != to_f32(all[i]);
    nans += is_nan;
    wrong += is_nan ? k[i].bits != 0x7fff : k[i].bits != all[i].bits;
    wrong += k[i].bits != v[i].bits;
  }
  CHECK(nans > 0);
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("f32 into an f32 cache arrives as the same bits, -0 and infinities too", T,
                   f32) {
  constexpr Heads one{.q = 1, .kv = 1, .dim = 64};
  const std::vector<T> all = noise<T>(64 * 64, 9);
  std::vector<T> k(all.size()), v(all.size());
  const Segment segment{.sequence = 0, .start = {0}, .first_row = 0, .rows = 64};
  const Append<CacheView<Full, one, T>> kernel{
      {k.data(), v.data(), 64}, {&segment, 1, 64}, all.data(), all.data()};
  for (std::int64_t row = 0; row < 64; ++row) kernel(row);
  CHECK(std::memcmp(k.data(), all.data(), all.size() * sizeof(T)) == 0);
  CHECK(std::memcmp(v.data(), all.data(), all.size() * sizeof(T)) == 0);
}

/// Segments of unequal starts and lengths for some of `sequences`, in any order.
std::vector<Segment> ragged(std::mt19937& random, std::int64_t sequences, std::int64_t most_rows) {
  std::vector<Segment> segments;
  std::vector<std::int64_t> order;
  for (std::int64_t s = 0; s < sequences; ++s) order.push_back(s);
  std::shuffle(order.begin(), order.end(), random);
  std::int64_t rows = 0;
  for (const std::int64_t s : order) {
    if (random() % 4 == 0) continue;
    const std::int64_t count = random() % (most_rows + 1);
    segments.push_back({.sequence = s,
                        .start = {static_cast<std::int64_t>(random() % 100)},
                        .first_row = rows,
                        .rows = count});
    rows += count;
  }
  return segments;
}

template <Heads H, class T, class Source>
void ragged_batches(unsigned seed) {
  std::mt19937 random(seed);
  for (int i = 0; i < 100; ++i) {
    const std::int64_t ring = 1 + random() % 40;
    Memory<H, T, Ring<1>> memory(6, ring);
    for (int launch = 0; launch < 4; ++launch) {  // over what the last one left
      const std::vector<Segment> segments = ragged(random, 6, ring);
      if (segments.empty()) continue;
      REQUIRE(as_stated<H, T, Source>(memory, segments, random()));
    }
  }
}

TEST_CASE_TEMPLATE("ragged batches of unequal lengths and starts", T, f32, f16, bf16) {
  ragged_batches<Heads{.q = 1, .kv = 1, .dim = 1}, T, f32>(1);
  ragged_batches<Heads{.q = 8, .kv = 2, .dim = 33}, T, bf16>(2);
  ragged_batches<Heads{.q = 4, .kv = 4, .dim = 64}, T, f16>(3);
}

TEST_CASE_TEMPLATE("n rows at once leave the bits of n appends of one row", T, f32, f16, bf16) {
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    const std::int64_t ring = 1 + random() % 30, rows = 1 + random() % ring;
    const std::int64_t start = random() % 200;
    const std::vector<float> k = noise<float>(static_cast<std::size_t>(rows * heads.kv_dim()), i);
    const std::vector<float> v = noise<float>(k.size(), 1'000 + i);
    Memory<heads, T, Ring<1>> together(2, ring), singly(2, ring);

    const Segment all{.sequence = 1, .start = {start}, .first_row = 0, .rows = rows};
    const Append<CacheView<Ring<1>, heads, T>> at_once{
        together.view(), {&all, 1, rows}, k.data(), v.data()};
    for (std::int64_t row = 0; row < rows; ++row) at_once(row);
    for (std::int64_t row = 0; row < rows; ++row) {
      const Segment one{.sequence = 1, .start = {start + row}, .first_row = 0, .rows = 1};
      const std::int64_t from = row * heads.kv_dim();
      Append<CacheView<Ring<1>, heads, T>>{
          singly.view(), {&one, 1, 1}, k.data() + from, v.data() + from}(0);
    }
    REQUIRE(together == singly);
  }
}

TEST_CASE_TEMPLATE("trap_16_the_tail_of_a_padded_chunk_is_not_written", T, f32, f16, bf16) {
  // The source has room for a whole chunk; rows past the batch's are garbage, and would wrap over
  // the window that is still in sight.
  constexpr std::int64_t chunk = 12;
  const std::vector<float> k = noise<float>(chunk * heads.kv_dim(), 1),
                           v = noise<float>(k.size(), 2);
  for (std::int64_t rows = 1; rows < chunk; ++rows) {
    for (std::int64_t start = 0; start < 2 * slots; ++start) {
      Memory<heads, T, Ring<slots>> memory(1, slots);
      const Segment segment{.sequence = 0, .start = {start}, .first_row = 0, .rows = rows};
      const Append<CacheView<Ring<slots>, heads, T>> kernel{
          memory.view(), {&segment, 1, rows}, k.data(), v.data()};
      for (std::int64_t row = 0; row < rows; ++row) kernel(row);
      int touched = 0;
      for (std::size_t i = 0; i < memory.k.size(); i += heads.kv_dim()) {
        bool row_touched = false;
        for (std::size_t j = i; j < i + heads.kv_dim(); ++j) {
          row_touched |=
              !same_bits(memory.k[j], canary<T>()) || !same_bits(memory.v[j], canary<T>());
        }
        touched += row_touched;
      }
      REQUIRE(touched == rows);
    }
  }
}

TEST_CASE_TEMPLATE("trap_29_rings_of_every_type_wrap", T, f32, f16, bf16) {
  // 5 R positions, in chunks of every length: the newest R rows are there, each in its slot.
  const std::int64_t length = 5 * slots + 3;
  const std::vector<float> k = noise<float>(static_cast<std::size_t>(length * heads.kv_dim()), 3);
  const std::vector<float> v = noise<float>(k.size(), 4);
  for (std::int64_t chunk = 1; chunk <= slots; ++chunk) {
    Memory<heads, T, Ring<slots>> memory(1, slots);
    for (std::int64_t p = 0; p < length; p += chunk) {
      const std::int64_t rows = p + chunk < length ? chunk : length - p;
      const Segment segment{.sequence = 0, .start = {p}, .first_row = 0, .rows = rows};
      const Append<CacheView<Ring<slots>, heads, T>> kernel{memory.view(),
                                                            {&segment, 1, rows},
                                                            k.data() + p * heads.kv_dim(),
                                                            v.data() + p * heads.kv_dim()};
      for (std::int64_t row = 0; row < rows; ++row) kernel(row);
    }
    int wrong = 0;
    for (std::int64_t p = length - slots; p < length; ++p) {
      for (std::int64_t j = 0; j < heads.kv_dim(); ++j) {
        const std::size_t at = static_cast<std::size_t>((1 + p % slots) * heads.kv_dim() + j);
        const std::size_t from = static_cast<std::size_t>(p * heads.kv_dim() + j);
        wrong += !same_bits(memory.k[at], from_f32<T>(k[from]));
        wrong += !same_bits(memory.v[at], from_f32<T>(v[from]));
      }
    }
    REQUIRE(wrong == 0);
  }
}

TEST_CASE("trap_15_slots_of_positions_around_2_to_the_31_and_far_beyond") {
  std::vector<float> k(7 * heads.kv_dim()), v(k.size());
  for (const int bit : {31, 32, 33, 53, 62}) {
    for (std::int64_t p = (std::int64_t{1} << bit) - 9; p <= (std::int64_t{1} << bit) + 9; ++p) {
      std::fill(k.begin(), k.end(), 0.0f);
      const CacheView<Ring<7>, heads, float> view{k.data(), v.data(), 7};
      const std::vector<float> row(heads.kv_dim(), 1.0f);
      const Segment segment{.sequence = 0, .start = {p}, .first_row = 0, .rows = 1};
      Append<CacheView<Ring<7>, heads, float>>{view, {&segment, 1, 1}, row.data(), row.data()}(0);
      for (std::int64_t slot = 0; slot < 7; ++slot) {
        const bool right = static_cast<std::uint64_t>(p) % 7 == static_cast<std::uint64_t>(slot);
        REQUIRE(k[static_cast<std::size_t>(slot * heads.kv_dim())] == (right ? 1.0f : 0.0f));
      }
    }
  }
}

}  // namespace
