// Attention sinks: the attention of GPT-OSS (windows of 128 beside dense layers, 64 query heads on
// 8 key heads of 64, a learned sink a head) against a double-precision statement of its own.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_host.hpp"
#include "kvring/kernels/attend_scalar.hpp"

namespace kvring::test {
namespace {

constexpr Heads heads{.q = 64, .kv = 8, .dim = 64};

template <class T>
std::vector<float> quantized(std::mt19937& random, std::int64_t count, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = to_f32(from_f32<T>(normal(random)));
  return values;
}

/// One head of one row: keys first ... position, then the sink, which brings no value.
std::vector<double> expected(const float* q, const std::vector<float>& k,
                             const std::vector<float>& v, std::int64_t first, std::int64_t position,
                             std::int64_t kv_head, double sink) {
  std::vector<double> scores;
  double highest = sink;
  for (std::int64_t p = first; p <= position; ++p) {
    double dot = 0;
    for (std::int64_t d = 0; d < heads.dim; ++d) {
      dot += double{q[d]} * k[static_cast<std::size_t>((p * heads.kv + kv_head) * heads.dim + d)];
    }
    scores.push_back(dot / 8);  // sqrt(64)
    highest = std::max(highest, scores.back());
  }
  double total = std::exp(sink - highest);
  for (double& score : scores) total += score = std::exp(score - highest);
  std::vector<double> out(static_cast<std::size_t>(heads.dim));
  for (std::int64_t p = first; p <= position; ++p) {
    for (std::int64_t d = 0; d < heads.dim; ++d) {
      out[static_cast<std::size_t>(d)] +=
          scores[static_cast<std::size_t>(p - first)] / total *
          v[static_cast<std::size_t>((p * heads.kv + kv_head) * heads.dim + d)];
    }
  }
  return out;
}

template <class Policy, class Storage, class T>
void compare(std::int64_t rows, std::int64_t slots, std::int64_t chunk) {
  CAPTURE(rows);
  CAPTURE(slots);
  std::mt19937 random(7);
  const auto k = quantized<T>(random, rows * heads.kv_dim(), 1);
  const auto v = quantized<T>(random, rows * heads.kv_dim(), 1);
  const auto q = quantized<f32>(random, rows * heads.q_dim(), 1.5f);
  const auto sinks = quantized<f32>(random, heads.q, 2);
  using View = CacheView<Storage, heads, T>;
  std::vector<T> memory(static_cast<std::size_t>(2 * slots * heads.kv_dim()), from_f32<T>(NAN));
  const View view{memory.data(), memory.data() + slots * heads.kv_dim(), slots};
  const Scores score{.scale = 0.125f, .sinks = sinks.data()};
  std::vector<float> blocked(q.size()), scalar(q.size());

  for (std::int64_t start = 0; start < rows; start += chunk) {
    const std::int64_t count = smaller(chunk, rows - start);
    const Segment segment{.start = {start}, .rows = count};
    const Batch batch{&segment, 1, count};
    const Append<View> append{view, batch, k.data() + start * heads.kv_dim(),
                              v.data() + start * heads.kv_dim()};
    for (std::int64_t row = 0; row < count; ++row) append(row);
    const float* queries = q.data() + start * heads.q_dim();
    const AttendHost<Policy, 64, View> host{view, batch, queries,
                                            blocked.data() + start * heads.q_dim(), score};
    for (std::int64_t i = 0; i < host.blocks(batch); ++i) host(i);
    const AttendScalar<Policy, 64, View> plain{view, batch, queries,
                                               scalar.data() + start * heads.q_dim(), score};
    for (std::int64_t i = 0; i < count * heads.q; ++i) plain(i);
  }
  CHECK(std::memcmp(blocked.data(), scalar.data(), scalar.size() * sizeof(float)) == 0);

  double worst = 0;
  bool finite = true;
  for (std::int64_t row = 0; row < rows; row += 13) {
    for (std::int64_t head = 0; head < heads.q; head += 3) {
      const std::int64_t at = (row * heads.q + head) * heads.dim;
      const auto out = expected(q.data() + at, k, v, Policy::first_visible({row}).value, row,
                                head / heads.group(), sinks[static_cast<std::size_t>(head)]);
      for (std::int64_t d = 0; d < heads.dim; ++d) {
        const double difference =
            std::abs(scalar[static_cast<std::size_t>(at + d)] - out[static_cast<std::size_t>(d)]);
        finite = finite && std::isfinite(difference);
        worst = std::max(worst, difference);
      }
    }
  }
  CHECK(finite);
  // Inputs are exact in both. Scores reach 8, so exponents carry 8 * 2^-24 * a few roundings of 64
  // products, 3e-6 of a result below 4.
  CHECK(worst <= 1e-5);
}

template <class T>
void compare_both() {
  compare<Swa<128>, Ring<192>, T>(500, 192, 64);
  compare<Dense, Full, T>(300, 300, 300);
}

}  // namespace

TEST_CASE("GPT-OSS attention with sinks, f32") { compare_both<f32>(); }
TEST_CASE("GPT-OSS attention with sinks, f16") { compare_both<f16>(); }
TEST_CASE("GPT-OSS attention with sinks, bf16") { compare_both<bf16>(); }

TEST_CASE("a sink is counted once, and one of minus infinity not at all") {
  // One key, one value of 1: the result is exp(s) / (exp(s) + exp(sink)).
  using View = CacheView<Full, Heads{.q = 2, .kv = 1, .dim = 1}, f32>;
  float memory[2] = {1, 1};
  const float sinks[2] = {0, -INFINITY};
  const View view{memory, memory + 1, 1};
  const Segment segment{.rows = 1};
  const Batch batch{&segment, 1, 1};
  const float q[2] = {0, 0};
  float out[2] = {};
  const AttendScalar<Dense, 64, View> attend{view, batch, q, out, {.sinks = sinks}};
  attend(0);
  attend(1);
  CHECK(out[0] == 0.5f);
  CHECK(out[1] == 1.0f);
}

}  // namespace kvring::test
