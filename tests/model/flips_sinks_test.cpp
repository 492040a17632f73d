// A detail of attention sinks wrong at a time: a double-precision statement of them notices each.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_host.hpp"
#include "kvring/kernels/attend_scalar.hpp"

namespace kvring::test {
namespace {

constexpr Heads heads{.q = 8, .kv = 2, .dim = 16};
constexpr std::int64_t rows = 40;
constexpr float scale = 0.25f;  // 1 / sqrt(16)

std::vector<float> normal_values(std::mt19937& random, std::int64_t count, float size) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

/// 40 positions of a window of 12, or of none.
struct Attention {
  std::mt19937 random{11};
  std::vector<float> q = normal_values(random, rows* heads.q_dim(), 1);
  std::vector<float> k = normal_values(random, rows* heads.kv_dim(), 1);
  std::vector<float> v = normal_values(random, rows* heads.kv_dim(), 1);
  std::vector<float> sinks = normal_values(random, heads.q, 1.5f);

  /// In double precision, with loops and conditions of its own.
  double expected(std::int64_t row, std::int64_t head, std::int64_t d, std::int64_t window) const {
    const std::int64_t kv_head = head < 4 ? 0 : 1;
    double above = 0, below = std::exp(double{sinks[static_cast<std::size_t>(head)]});
    for (std::int64_t p = 0; p <= row; ++p) {
      if (row - p >= window) continue;
      const auto key = static_cast<std::size_t>((p * heads.kv + kv_head) * heads.dim);
      double dot = 0;
      for (std::size_t i = 0; i < static_cast<std::size_t>(heads.dim); ++i) {
        dot += double{q[static_cast<std::size_t>((row * heads.q + head) * heads.dim) + i]} *
               k[key + i];
      }
      const double weight = std::exp(dot / 4);
      above += weight * v[key + static_cast<std::size_t>(d)];
      below += weight;
    }
    return above / below;
  }

  /// The largest difference of the kernel with these scores.
  template <template <class, std::int64_t, class> class Kernel, class Policy>
  double difference(Scores score) {
    using View = CacheView<Full, heads, f32>;
    const View view{k.data(), v.data(), rows};
    const Segment segment{.rows = rows};
    const Batch batch{&segment, 1, rows};
    std::vector<float> out(q.size());
    const Kernel<Policy, 16, View> attend{view, batch, q.data(), out.data(), score};
    if constexpr (requires { attend.blocks(batch); }) {
      for (std::int64_t i = 0; i < attend.blocks(batch); ++i) attend(i);
    } else {
      for (std::int64_t i = 0; i < rows * heads.q; ++i) attend(i);
    }
    double worst = 0;
    for (std::int64_t i = 0; i < rows * heads.q_dim(); ++i) {
      const double right =
          expected(i / heads.q_dim(), i % heads.q_dim() / heads.dim, i % heads.dim, Policy::window);
      const double by = std::abs(double{out[static_cast<std::size_t>(i)]} - right);
      if (std::isnan(by)) return INFINITY;
      worst = std::max(worst, by);
    }
    return worst;
  }
};

void print(const char* kernel, const char* detail, double difference, const char* verdict) {
  const std::string text = std::string(kernel) + ": " + detail;
  std::printf("flip  %-13s  %-60s  %-8.1e  %s\n", "sinks", text.c_str(), difference, verdict);
}

template <template <class, std::int64_t, class> class Kernel, class Policy>
void flip_sinks(const char* kernel) {
  constexpr double tolerance = 3e-6, factor = 100;
  Attention attention;
  const std::vector<float>& right = attention.sinks;
  const auto difference = [&](const std::vector<float>& sinks) {
    return attention.difference<Kernel, Policy>(
        {.scale = scale, .sinks = sinks.empty() ? nullptr : sinks.data()});
  };
  const auto flip = [&](const char* detail, const std::vector<float>& sinks) {
    CAPTURE(detail);
    const double by = difference(sinks);
    const bool noticed = by > factor * tolerance;
    print(kernel, detail, by, noticed ? "noticed" : "missed");
    CHECK(noticed);
    CHECK(std::isfinite(by));
  };
  const auto changed = [&](auto change) {
    std::vector<float> sinks = right;
    for (float& sink : sinks) sink = change(sink);
    return sinks;
  };
  const double none = difference(right);
  print(kernel, "none", none, none <= tolerance ? "passes" : "fails");
  CHECK(none <= tolerance);

  flip("no sinks", {});
  flip("0 for each head", changed([](float) { return 0.0f; }));
  flip("counted twice", changed([](float sink) { return sink + std::log(2.0f); }));
  flip("scaled as a score is", changed([](float sink) { return sink * scale; }));
  flip("0.01 more", changed([](float sink) { return sink + 0.01f; }));
  std::vector<float> moved = right;
  std::rotate(moved.begin(), moved.begin() + 1, moved.end());
  flip("the next head's", moved);
  std::vector<float> of_kv_heads = right;
  for (std::size_t head = 0; head < right.size(); ++head) of_kv_heads[head] = right[head / 4];
  flip("one for each kv head", of_kv_heads);
}

}  // namespace

TEST_CASE("each detail of sinks is noticed") {
  flip_sinks<AttendScalar, Dense>("dense, plain kernel");
  flip_sinks<AttendScalar, Swa<12>>("window, plain kernel");
  flip_sinks<AttendHost, Dense>("dense, blocked kernel");
  flip_sinks<AttendHost, Swa<12>>("window, blocked kernel");
}

}  // namespace kvring::test
