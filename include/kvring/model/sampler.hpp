// Sampler: from logits to a token.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "kvring/error.hpp"

namespace kvring {

/// The largest logit; the first of equals.
inline std::int32_t argmax(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

struct SamplerOptions {
  double temperature = 0;  // 0: greedy
  std::int64_t top_k = 0;  // 0: all
  double top_p = 1;        // the fewest tokens whose probabilities reach it
  std::uint64_t seed = 0;
};

/// Temperature, then top-k, then top-p (nucleus; Holtzman et al., 2019). The same seed and logits
/// give the same tokens.
class Sampler {
 public:
  explicit Sampler(SamplerOptions options) : options_(options), random_(options.seed) {
    require(options.temperature >= 0, "a temperature of ", options.temperature, " is below 0");
    require(options.top_k >= 0, "top-k of ", options.top_k, " is below 0");
    require(options.top_p > 0 && options.top_p <= 1, "top-p of ", options.top_p,
            " is not in (0, 1]");
  }

  /// The likeliest token is taken, always.
  bool greedy() const { return options_.temperature == 0; }

  std::int32_t operator()(std::span<const float> logits) {
    if (options_.temperature == 0) return argmax(logits);
    std::vector<std::int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto likelier = [&](std::int32_t a, std::int32_t b) {
      const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
      return x > y || (x == y && a < b);
    };
    std::size_t kept = logits.size();
    if (options_.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options_.top_k));
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                      likelier);

    std::vector<double> weights(kept);
    const double highest = logits[static_cast<std::size_t>(order[0])];
    for (std::size_t i = 0; i < kept; ++i) {
      weights[i] =
          std::exp((logits[static_cast<std::size_t>(order[i])] - highest) / options_.temperature);
    }
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    double reached = 0;
    std::size_t nucleus = 0;
    while (nucleus < kept && reached < options_.top_p * total) reached += weights[nucleus++];
    // A uniform number in [0, 1) by hand: std's distributions differ between standard libraries.
    double remaining = static_cast<double>(random_() >> 11) * 0x1p-53 * reached;
    for (std::size_t i = 0; i + 1 < nucleus; ++i) {
      remaining -= weights[i];
      if (remaining < 0) return order[i];
    }
    return order[nucleus - 1];
  }

 private:
  SamplerOptions options_;
  std::mt19937_64 random_;
};

}  // namespace kvring
