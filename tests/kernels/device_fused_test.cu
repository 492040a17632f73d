// The fused append and the plain one on the GPU: against the same steps in double precision, with
// NaN wherever nothing may be written or read; and a row's bits follow from that row alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
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

constexpr double u = 0x1p-24;  // half a unit in the last place of f32, relative

template <class T>
constexpr double rounding_of = std::is_same_v<T, float>  ? u
                               : std::is_same_v<T, bf16> ? 0x1p-8
                                                         : 0x1p-11;

template <class T>
T nan_of() {
  return from_f32<T>(std::numeric_limits<float>::quiet_NaN());
}

template <class T>
std::vector<T> noise_of(std::int64_t count, std::uint64_t seed, float size) {
  Random random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = from_f32<T>(random.signed_unit() * size);
  return values;
}

struct Variant {
  std::int64_t rotated;
  bool qk_norm, v_norm, value_from_key, append;
};

/// A ragged batch over four sequences of a ring: both ends of the range of positions, one row, and
/// more rows than a block takes.
const std::vector<Segment> ragged{{.sequence = 2, .start = {131'071}, .first_row = 0, .rows = 3},
                                  {.sequence = 0, .start = {0}, .first_row = 3, .rows = 2},
                                  {.sequence = 3, .start = {4'095}, .first_row = 5, .rows = 1},
                                  {.sequence = 1, .start = {1}, .first_row = 6, .rows = 130}};
constexpr std::int64_t ragged_rows = 136, slots = 144, sequences = 4;

/// Everything that a call wrote.
template <class T>
struct Written {
  std::vector<T> q, k, v;
  bool operator==(const Written& other) const {
    const auto same = [](const std::vector<T>& a, const std::vector<T>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
    };
    return same(q, other.q) && same(k, other.k) && same(v, other.v);
  }
};

template <Heads H, class In, class T>
struct Fused {
  using View = CacheView<Ring<1>, H, T>;
  Variant variant;
  std::vector<Segment> segments;
  std::int64_t rows;
  std::int64_t stride;
  std::vector<In> qkv;  // [rows, stride], NaN between rows
  std::vector<float> q_norm, k_norm, angles;
  static constexpr float epsilon = 1e-5f;

  Fused(Variant variant, std::vector<Segment> segments, std::int64_t rows)
      : variant(variant), segments(std::move(segments)), rows(rows) {
    const std::int64_t kv = variant.append ? (variant.value_from_key ? 1 : 2) : 0;
    const std::int64_t used = H.q_dim() + kv * H.kv_dim();
    stride = used + 16;
    qkv = noise_of<In>(rows * stride, 11, 3);
    for (std::int64_t row = 0; row < rows; ++row) {
      std::fill_n(qkv.begin() + row * stride + used, stride - used, nan_of<In>());
    }
    q_norm = noise_of<float>(H.dim, 12, 2);
    k_norm = noise_of<float>(H.dim, 13, 2);
    angles.assign(static_cast<std::size_t>(rows * variant.rotated), 0);
    const RopeTable table{{this->segments.data(), count(), rows},
                          {.theta = 1e6, .scaling = 1, .rotated = variant.rotated},
                          angles.data()};
    for (std::int64_t row = 0; row < rows && variant.rotated > 0; ++row) table(row);
  }
  std::int64_t count() const { return static_cast<std::int64_t>(segments.size()); }

  Written<T> run(const Cuda& gpu) const {
    const std::int64_t kv = sequences * slots * H.kv_dim();
    auto k = to_device(gpu, std::vector<T>(static_cast<std::size_t>(kv), nan_of<T>()));
    auto v = to_device(gpu, std::vector<T>(static_cast<std::size_t>(kv), nan_of<T>()));
    // A row more than there are: it must stay as it is.
    auto q = to_device(
        gpu, std::vector<T>(static_cast<std::size_t>((rows + 1) * H.q_dim()), nan_of<T>()));
    const auto dqkv = to_device(gpu, qkv);
    const auto dq_norm = to_device(gpu, q_norm), dk_norm = to_device(gpu, k_norm);
    const auto dangles = to_device(gpu, angles);
    const auto dsegments = to_device(gpu, segments);
    append_fused(gpu, View{k.data(), v.data(), slots}, Batch{dsegments.data(), count(), rows},
                 FusedAppend<In, T>{.qkv = dqkv.data(),
                                    .stride = stride,
                                    .q = q.data(),
                                    .q_norm = variant.qk_norm ? dq_norm.data() : nullptr,
                                    .k_norm = variant.qk_norm ? dk_norm.data() : nullptr,
                                    .v_norm = variant.v_norm,
                                    .value_from_key = variant.value_from_key,
                                    .append = variant.append,
                                    .epsilon = epsilon,
                                    .angles = dangles.data(),
                                    .rotated = variant.rotated});
    return {to_host(gpu, q), to_host(gpu, k), to_host(gpu, v)};
  }

  /// One head in double precision, and how far f32 and its rounding to T may be from it. The sum of
  /// squares is of 16 fused steps a lane at most and 5 sums of lanes, halved by the root, which
  /// rounds as the mean and epsilon do; two products; the rotation rounds a product and a sum: 18.
  struct Head {
    std::vector<double> right, bound;
  };
  Head head(const In* from, const float* weight, bool norm, const float* turn) const {
    std::vector<double> x(H.dim), size(H.dim);
    double squares = 0;
    for (std::int64_t i = 0; i < H.dim; ++i) {
      x[i] = to_f32(from[i]);
      squares += x[i] * x[i];
    }
    const double scale = norm ? 1 / std::sqrt(squares / H.dim + double{epsilon}) : 1;
    for (std::int64_t i = 0; i < H.dim; ++i) {
      x[i] *= scale * (weight != nullptr ? weight[i] : 1.0);
      size[i] = std::fabs(x[i]);
    }
    const std::int64_t half = turn != nullptr ? variant.rotated / 2 : 0;
    for (std::int64_t i = 0; i < half; ++i) {
      const double a = x[i], b = x[half + i], cosine = turn[i], sine = turn[half + i];
      x[i] = a * cosine - b * sine;
      x[half + i] = b * cosine + a * sine;
      size[i] = size[half + i] = std::fabs(a) + std::fabs(b);
    }
    Head head{x, size};
    for (std::int64_t i = 0; i < H.dim; ++i) {
      const double f32_error = 18 * u * size[i];
      // Half a unit of T; below the smallest normal f16, half of 2^-24.
      head.bound[i] = f32_error + rounding_of<T> * (std::fabs(x[i]) + f32_error) +
                      (std::is_same_v<T, f16> ? 0x1p-25 : 0);
    }
    return head;
  }

  /// Elements that are wrong: out of bound, not written, or written though they must not be.
  long wrong(const Written<T>& written) const {
    const std::size_t q_size = static_cast<std::size_t>((rows + 1) * H.q_dim());
    const std::size_t kv_size = static_cast<std::size_t>(sequences * slots * H.kv_dim());
    if (written.q.size() != q_size || written.k.size() != kv_size) return -1;
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    std::vector<double> q(q_size, none), k(kv_size, none), v(kv_size, none);
    std::vector<double> q_bound(q_size), k_bound(kv_size), v_bound(kv_size);
    const Batch batch{segments.data(), count(), rows};
    for (std::int64_t row = 0; row < rows; ++row) {
      const In* from = qkv.data() + row * stride;
      const float* turn = variant.rotated > 0 ? angles.data() + row * variant.rotated : nullptr;
      const auto put = [](const Head& head, std::vector<double>& to, std::vector<double>& bound,
                          std::int64_t at) {
        std::copy(head.right.begin(), head.right.end(), to.begin() + at);
        std::copy(head.bound.begin(), head.bound.end(), bound.begin() + at);
      };
      for (std::int64_t h = 0; h < H.q; ++h) {
        put(head(from + h * H.dim, variant.qk_norm ? q_norm.data() : nullptr, variant.qk_norm,
                 turn),
            q, q_bound, (row * H.q + h) * H.dim);
      }
      if (!variant.append) continue;
      const Segment& segment = batch.segment_of(row);
      const std::int64_t position = segment.start.value + row - segment.first_row;
      for (std::int64_t h = 0; h < H.kv; ++h) {
        const std::int64_t at = ((segment.sequence * slots + position % slots) * H.kv + h) * H.dim;
        const In* key = from + H.q_dim() + h * H.dim;
        const In* value = variant.value_from_key ? key : key + H.kv_dim();
        put(head(key, variant.qk_norm ? k_norm.data() : nullptr, variant.qk_norm, turn), k, k_bound,
            at);
        put(head(value, nullptr, variant.v_norm, nullptr), v, v_bound, at);
      }
    }
    long count = 0;
    const auto compare = [&](const std::vector<T>& got, const std::vector<double>& right,
                             const std::vector<double>& bound) {
      for (std::size_t i = 0; i < right.size(); ++i) {
        const double x = to_f32(got[i]);
        count += std::isnan(right[i]) ? !std::isnan(x) : !(std::fabs(x - right[i]) <= bound[i]);
      }
    };
    compare(written.q, q, q_bound);
    compare(written.k, k, k_bound);
    compare(written.v, v, v_bound);
    return count;
  }
};

template <Heads H, class In, class T>
void fused_case(const Cuda& gpu, Variant variant) {
  CAPTURE(H.dim);
  CAPTURE(variant.rotated);
  CAPTURE(variant.qk_norm);
  CAPTURE(variant.v_norm);
  CAPTURE(variant.value_from_key);
  CAPTURE(variant.append);
  CAPTURE(std::string(element_name<In>));
  CAPTURE(std::string(element_name<T>));
  const Fused<H, In, T> fused(variant, ragged, ragged_rows);
  CHECK(fused.wrong(fused.run(gpu)) == 0);
}

template <std::int64_t Dim, class In, class T>
void fused_variants(const Cuda& gpu) {
  // Ten heads: a group of lanes that takes four at a time has some left over.
  constexpr Heads heads{.q = 6, .kv = 2, .dim = Dim};
  for (const std::int64_t rotated :
       {Dim, Dim / 2, Dim / 4 / 2 * 2, std::int64_t{6}, std::int64_t{0}}) {
    fused_case<heads, In, T>(gpu, {rotated, true, true, false, true});
  }
  fused_case<heads, In, T>(gpu, {Dim, false, false, false, true});
  fused_case<heads, In, T>(gpu, {Dim, true, true, true, true});
  fused_case<heads, In, T>(gpu, {Dim / 4 / 2 * 2, false, true, true, true});
  fused_case<heads, In, T>(gpu, {Dim, true, false, true, true});
  fused_case<heads, In, T>(gpu, {Dim, true, false, false, false});
  fused_case<Heads{.q = 1, .kv = 1, .dim = Dim}, In, T>(gpu, {Dim, true, true, false, true});
}

template <class In, class T>
void fused_dims(const Cuda& gpu) {
  fused_variants<64, In, T>(gpu);
  fused_variants<80, In, T>(gpu);
  fused_variants<128, In, T>(gpu);
  fused_variants<256, In, T>(gpu);
  fused_variants<512, In, T>(gpu);
}

TEST_CASE("device: the fused append is its steps in double precision") {
  if (no_gpu("device: the fused append is its steps in double precision")) return;
  const Stream stream;
  fused_dims<bf16, bf16>(stream.backend());
  fused_dims<float, bf16>(stream.backend());
  fused_dims<f16, f16>(stream.backend());
  fused_dims<float, float>(stream.backend());
  fused_variants<16, float, f16>(stream.backend());
  fused_variants<112, float, f16>(stream.backend());
  fused_variants<336, bf16, bf16>(stream.backend());
}

template <Heads H, class T>
void fused_bits(const Cuda& gpu, std::int64_t rotated) {
  CAPTURE(H.dim);
  const Variant variant{rotated, true, true, false, true};
  // All rows at once, then each count alone: the rows that both have are the same bits.
  const auto rows_of = [&](std::int64_t rows) {
    return Fused<H, T, T>(variant,
                          {{.sequence = 1, .start = {4'000}, .first_row = 0, .rows = rows}}, rows)
        .run(gpu);
  };
  const auto all = rows_of(slots);
  for (const std::int64_t rows : {1, 2, 31, 127, 128, 129, 143}) {
    CAPTURE(rows);
    const auto some = rows_of(rows);
    CHECK(std::memcmp(some.q.data(), all.q.data(),
                      static_cast<std::size_t>(rows * H.q_dim()) * sizeof(T)) == 0);
    long differing = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t at = (slots + (4'000 + row) % slots) * H.kv_dim();
      differing += std::memcmp(some.k.data() + at, all.k.data() + at, H.kv_dim() * sizeof(T)) != 0;
      differing += std::memcmp(some.v.data() + at, all.v.data() + at, H.kv_dim() * sizeof(T)) != 0;
    }
    CHECK(differing == 0);
  }
  CHECK(rows_of(slots) == all);
}

TEST_CASE_TEMPLATE("device: the fused append of a row is the same bits in any batch", T, bf16, f16,
                   float) {
  if (no_gpu("device: the fused append of a row is the same bits in any batch")) return;
  const Stream stream;
  fused_bits<Heads{.q = 6, .kv = 2, .dim = 80}, T>(stream.backend(), 80);
  fused_bits<Heads{.q = 6, .kv = 2, .dim = 256}, T>(stream.backend(), 256);
  fused_bits<Heads{.q = 6, .kv = 2, .dim = 256}, T>(stream.backend(), 10);
  fused_bits<Heads{.q = 6, .kv = 2, .dim = 512}, T>(stream.backend(), 128);
}

template <Heads H, class Source, class T>
void plain_case(const Cuda& gpu) {
  CAPTURE(H.dim);
  CAPTURE(std::string(element_name<T>));
  using View = CacheView<Ring<1>, H, T>;
  const auto k = noise_of<Source>(ragged_rows * H.kv_dim(), 21, 3);
  const auto v = noise_of<Source>(ragged_rows * H.kv_dim(), 22, 3);
  TestCache<H, T> mirror(sequences, slots);
  auto dk_cache = to_device(gpu, mirror.k()), dv_cache = to_device(gpu, mirror.v());
  const auto dk = to_device(gpu, k), dv = to_device(gpu, v);
  const auto dsegments = to_device(gpu, ragged);
  const std::int64_t count = static_cast<std::int64_t>(ragged.size());
  constexpr std::int64_t guard = TestCache<H, T>::guard;
  append_rows(gpu, View{dk_cache.data() + guard, dv_cache.data() + guard, slots},
              Batch{dsegments.data(), count, ragged_rows}, dk.data(), dv.data());
  const Append<View, Source> on_host{
      mirror.view(), {ragged.data(), count, ragged_rows}, k.data(), v.data()};
  for (std::int64_t row = 0; row < ragged_rows; ++row) on_host(row);
  const auto got_k = to_host(gpu, dk_cache), got_v = to_host(gpu, dv_cache);
  CHECK(std::memcmp(got_k.data(), mirror.k().data(), got_k.size() * sizeof(T)) == 0);
  CHECK(std::memcmp(got_v.data(), mirror.v().data(), got_v.size() * sizeof(T)) == 0);
}

template <class Source, class T>
void plain_cases(const Cuda& gpu) {
  plain_case<Heads{.q = 1, .kv = 1, .dim = 7}, Source, T>(gpu);
  plain_case<Heads{.q = 1, .kv = 1, .dim = 64}, Source, T>(gpu);
  plain_case<Heads{.q = 3, .kv = 3, .dim = 80}, Source, T>(gpu);
  plain_case<Heads{.q = 2, .kv = 2, .dim = 512}, Source, T>(gpu);
}

TEST_CASE("device: append_rows writes the bytes of Append") {
  if (no_gpu("device: append_rows writes the bytes of Append")) return;
  const Stream stream;
  plain_cases<float, float>(stream.backend());
  plain_cases<float, f16>(stream.backend());
  plain_cases<float, bf16>(stream.backend());
  plain_cases<bf16, bf16>(stream.backend());
  plain_cases<f16, f16>(stream.backend());
}

TEST_CASE_TEMPLATE("device: conversion of every kind of float", T, f16, bf16) {
  if (no_gpu("device: conversion of every kind of float")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  constexpr Heads heads{.q = 1, .kv = 1, .dim = 8};
  using View = CacheView<Full, heads, T>;
  // Every upper half of a float, with lower halves around the ties of both types.
  std::vector<float> x;
  for (std::uint32_t high = 0; high < 0x10000u; ++high) {
    for (const std::uint32_t low :
         {0u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      x.push_back(__builtin_bit_cast(float, high << 16 | low));
    }
  }
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / heads.dim;
  const std::vector<Segment> segments{{.sequence = 0, .start = {0}, .first_row = 0, .rows = rows}};
  const auto dx = to_device(gpu, x);
  const auto dsegments = to_device(gpu, segments);
  Buffer<T, Cuda> k(gpu, dx.size()), v(gpu, dx.size());
  append_rows(gpu, View{k.data(), v.data(), rows}, Batch{dsegments.data(), 1, rows}, dx.data(),
              dx.data());
  const auto got = to_host(gpu, k);
  long wrong = 0;
  for (std::size_t i = 0; i < x.size(); ++i) wrong += got[i].bits != from_f32<T>(x[i]).bits;
  CHECK(wrong == 0);
}

}  // namespace
