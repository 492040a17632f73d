// Traps of writing rows, of caches of many layers and of their copies, for the GPU's memory and its
// two kernels of appending.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "device.cuh"
#include "kvring/kernels/append_fused.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/rope.hpp"
#include "prompts.hpp"
#include "test_cache.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr Heads heads{.q = 6, .kv = 2, .dim = 64};
template <class T>
using Mirror = TestCache<heads, T>;

template <class T>
std::vector<T> noise(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = from_f32<T>(random.signed_unit());
  return values;
}
template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// A cache of the GPU, guards of NaN included.
template <class T>
struct OnGpu {
  Buffer<T, Cuda> k, v;
  std::int64_t slots;
  OnGpu(const Cuda& gpu, const Mirror<T>& mirror)
      : k(to_device(gpu, mirror.k())), v(to_device(gpu, mirror.v())), slots(mirror.slots()) {}
  CacheView<Ring<1>, heads, T> view() {
    return {k.data() + Mirror<T>::guard, v.data() + Mirror<T>::guard, slots};
  }
  bool is_same(const Cuda& gpu, const Mirror<T>& mirror) const {
    return same_bytes(to_host(gpu, k), mirror.k()) && same_bytes(to_host(gpu, v), mirror.v());
  }
};

/// Q, K and V of `rows` rows as one product leaves them, and their segment, on the GPU.
template <class T>
struct Product {
  static constexpr std::int64_t stride = heads.q_dim() + 2 * heads.kv_dim();
  std::vector<T> host;
  Buffer<T, Cuda> qkv, q;
  Segment segment;
  Buffer<Segment, Cuda> segments;
  std::int64_t rows;

  Product(const Cuda& gpu, std::uint64_t seed, std::int64_t start, std::int64_t rows)
      : host(noise<T>(rows * stride, seed)),
        qkv(to_device(gpu, host)),
        q(gpu, rows * heads.q_dim()),
        segment{.sequence = 0, .start = {start}, .first_row = 0, .rows = rows},
        segments(to_device(gpu, std::vector<Segment>{segment})),
        rows(rows) {}
  Batch batch() const { return {segments.data(), 1, rows}; }
  std::vector<T> part(std::int64_t from, std::int64_t width) const {
    std::vector<T> all;
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto begin = host.begin() + row * stride + from;
      all.insert(all.end(), begin, begin + width);
    }
    return all;
  }
  std::vector<T> k() const { return part(heads.q_dim(), heads.kv_dim()); }
  std::vector<T> v() const { return part(heads.q_dim() + heads.kv_dim(), heads.kv_dim()); }

  FusedAppend<T, T> task(const float* angles, std::int64_t rotated, bool append) {
    return {.qkv = qkv.data(),
            .stride = stride,
            .q = q.data(),
            .q_norm = nullptr,
            .k_norm = nullptr,
            .v_norm = false,
            .value_from_key = false,
            .append = append,
            .epsilon = 1e-5f,
            .angles = angles,
            .rotated = rotated};
  }
};

TEST_CASE_TEMPLATE("device trap_04_a_chunk_never_has_two_writers_for_a_slot", T, f32, f16, bf16) {
  if (no_gpu("device trap_04")) return;
  // As many rows as there are slots, at every place of the ring, by both kernels, again and again:
  // the bytes of rows written one after the other.
  const Stream stream;
  const Cuda gpu = stream.backend();
  constexpr std::int64_t ring = 24;
  for (std::int64_t start = 0; start < 2 * ring; ++start) {
    CAPTURE(start);
    Product<T> product(gpu, 4, start, ring);
    Mirror<T> mirror(1, ring);
    OnGpu<T> plain(gpu, mirror), fused(gpu, mirror);
    const auto k = product.k(), v = product.v();
    const auto device_k = to_device(gpu, k), device_v = to_device(gpu, v);
    for (int time = 0; time < 3; ++time) {
      append_rows(gpu, plain.view(), product.batch(), device_k.data(), device_v.data());
      append_fused(gpu, fused.view(), product.batch(), product.task(nullptr, 0, true));
    }
    const Append<CacheView<Ring<1>, heads, T>, T> singly{
        mirror.view(), {&product.segment, 1, ring}, k.data(), v.data()};
    for (std::int64_t row = 0; row < ring; ++row) singly(row);
    CHECK(plain.is_same(gpu, mirror));
    CHECK(fused.is_same(gpu, mirror));
  }
}

TEST_CASE_TEMPLATE("device trap_23_a_reader_leaves_its_donor_as_it_is", T, f32, f16, bf16) {
  if (no_gpu("device trap_23")) return;
  // The reader's pass makes queries of its product, at the positions that the donor was given.
  const Stream stream;
  const Cuda gpu = stream.backend();
  const Mirror<T> nobody(1, 24);
  for (const std::int64_t start : {0, 7, 23, 24, 100}) {
    Product<T> product(gpu, 23, start, 9);
    OnGpu<T> donor(gpu, nobody), owner(gpu, nobody);
    append_fused(gpu, donor.view(), product.batch(), product.task(nullptr, 0, false));
    CHECK(donor.is_same(gpu, nobody));
    CHECK(same_bytes(to_host(gpu, product.q), product.part(0, heads.q_dim())));
    append_fused(gpu, owner.view(), product.batch(), product.task(nullptr, 0, true));
    CHECK(!owner.is_same(gpu, nobody));
  }
}

TEST_CASE_TEMPLATE("device trap_37_partial_rotary_turns_its_pairs_and_nothing_else", T, f32, f16,
                   bf16) {
  if (no_gpu("device trap_37")) return;
  // The fused append against the unfused steps of the host: a quarter of the head, pairs with a
  // multiple of four and without, and all of it with a quarter of its angles 0 or not.
  const Stream stream;
  const Cuda gpu = stream.backend();
  constexpr std::int64_t rows = 40, ring = 48;
  for (const Rope rope :
       {Rope{.theta = 100, .rotated = 16}, Rope{.theta = 100, .rotated = 6},
        Rope{.theta = 100, .rotated = 64, .turning = 8}, Rope{.theta = 100, .rotated = 64}}) {
    CAPTURE(rope.rotated);
    CAPTURE(rope.turning);
    Product<T> product(gpu, 37, 131, rows);
    std::vector<float> angles(static_cast<std::size_t>(rows * rope.rotated));
    const Batch batch{&product.segment, 1, rows};
    for (std::int64_t row = 0; row < rows; ++row) RopeTable{batch, rope, angles.data()}(row);
    const auto device_angles = to_device(gpu, angles);
    OnGpu<T> cache(gpu, Mirror<T>(1, ring));
    append_fused(gpu, cache.view(), product.batch(),
                 product.task(device_angles.data(), rope.rotated, true));

    std::vector<float> rotated;
    for (const T x : product.k()) rotated.push_back(to_f32(x));
    const std::vector<float> raw = rotated;
    for (std::int64_t row = 0; row < rows; ++row) {
      RotateHeads{angles.data(), rotated.data(), heads.kv, heads.dim, rope.rotated}(row);
    }
    const std::vector<T> k = to_host(gpu, cache.k);
    long wrong = 0;
    for (std::int64_t i = 0; i < rows * heads.kv_dim(); ++i) {
      const std::int64_t row = i / heads.kv_dim(), d = i % heads.dim, half = rope.rotated / 2;
      const std::int64_t at =
          Mirror<T>::guard + (131 + row) % ring * heads.kv_dim() + i % heads.kv_dim();
      const double x = to_f32(k[static_cast<std::size_t>(at)]);
      const auto from = static_cast<std::size_t>(i);
      const bool turns = d < rope.rotated && (rope.turning == 0 || d % half < rope.turning);
      // Three roundings on either side of values below 2, and that to T.
      const double rounding = std::is_same_v<T, f32>   ? 0x1p-24
                              : std::is_same_v<T, f16> ? 0x1p-11
                                                       : 0x1p-8;
      wrong += turns ? !(std::fabs(x - rotated[from]) <=
                         12 * 0x1p-24 + rounding * std::fabs(rotated[from]) + 0x1p-25)
                     : x != raw[from];
    }
    CHECK(wrong == 0);
  }
}

}  // namespace
