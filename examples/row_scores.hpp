// Log-sum-exp and the highest logits of rows, on all cores of the host.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "kvring/kernels/launch.hpp"
#include "kvring/kernels/math.hpp"
#include "kvring/units.hpp"

namespace kvring::programs {

struct TopLogit {
  std::int32_t id;
  float logit;
  /// Higher logits first; of equals, the lower id.
  friend bool operator<(const TopLogit& a, const TopLogit& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  }
};

/// What is asked of one row of logits after the other. Everything is allocated beforehand: no
/// exception gets out of a parallel loop.
class RowScores {
 public:
  RowScores(std::int64_t rows, std::int64_t vocabulary, std::int64_t top)
      : vocabulary_(vocabulary),
        top_(top),
        logsumexp_(static_cast<std::size_t>(rows)),
        tops_(static_cast<std::size_t>(rows * top)),
        block_max_(static_cast<std::size_t>(rows * ceil_div(vocabulary, block))) {}

  /// `logits`: [rows, vocabulary], `rows` at most as many as were announced.
  void compute(const float* logits, std::int64_t rows) {
    for_each(Host{}, rows, [&](std::int64_t row) {
      const float* x = logits + row * vocabulary_;
      float* maxima = block_max_.data() + row * ceil_div(vocabulary_, block);
      logsumexp_[static_cast<std::size_t>(row)] = logsumexp(x, maxima);
      if (top_ > 0) select(x, maxima, tops_.data() + row * top_);
    });
  }

  double logsumexp(std::int64_t row) const { return logsumexp_[static_cast<std::size_t>(row)]; }
  /// [top], best first.
  const TopLogit* top(std::int64_t row) const { return tops_.data() + row * top_; }

 private:
  static constexpr std::int64_t block = 1024, lanes = 16;

  /// Sums in f32 over short runs and in double over those: the result is good to 1e-6.
  double logsumexp(const float* x, float* maxima) const {
    float highest = -INFINITY;
    for (std::int64_t begin = 0; begin < vocabulary_; begin += block) {
      const std::int64_t end = smaller(begin + block, vocabulary_);
      std::array<float, lanes> lane;
      lane.fill(-INFINITY);
      std::int64_t i = begin;
      for (; i + lanes <= end; i += lanes) {
        for (std::int64_t j = 0; j < lanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
      }
      for (; i < end; ++i) lane[0] = std::max(lane[0], x[i]);
      maxima[begin / block] = *std::max_element(lane.begin(), lane.end());
      highest = std::max(highest, maxima[begin / block]);
    }
    double sum = 0;
    for (std::int64_t begin = 0; begin < vocabulary_; begin += block) {
      const std::int64_t end = smaller(begin + block, vocabulary_);
      std::array<float, lanes> lane{};
      std::int64_t i = begin;
      for (; i + lanes <= end; i += lanes) {
        for (std::int64_t j = 0; j < lanes; ++j) lane[j] += exp_f32(x[i + j] - highest);
      }
      for (; i < end; ++i) sum += exp_f32(x[i] - highest);
      for (const float part : lane) sum += part;
    }
    return highest + std::log(sum);
  }

  /// A heap of the best so far, worst on top; blocks that hold nothing better are passed over.
  void select(const float* x, const float* maxima, TopLogit* best) const {
    std::int64_t kept = 0;
    for (std::int64_t begin = 0; begin < vocabulary_; begin += block) {
      if (kept == top_ && maxima[begin / block] <= best[0].logit) continue;
      const std::int64_t end = smaller(begin + block, vocabulary_);
      for (std::int64_t i = begin; i < end; ++i) {
        const TopLogit candidate{static_cast<std::int32_t>(i), x[i]};
        if (kept < top_) {
          best[kept++] = candidate;
          std::push_heap(best, best + kept);
        } else if (candidate < best[0]) {
          std::pop_heap(best, best + kept);
          best[kept - 1] = candidate;
          std::push_heap(best, best + kept);
        }
      }
    }
    std::sort_heap(best, best + kept);
  }

  std::int64_t vocabulary_, top_;
  std::vector<double> logsumexp_;  // [rows]
  std::vector<TopLogit> tops_;     // [rows, top]
  std::vector<float> block_max_;   // [rows, blocks of the vocabulary]
};

}  // namespace kvring::programs
