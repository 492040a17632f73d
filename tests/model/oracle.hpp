// What transformers in float64 makes of real weights and text, and how far a run is from it: what
// the tests of real models share on the host and on a GPU.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "kvring/io/safetensors.hpp"
#include "prompts.hpp"

namespace kvring::test {

/// What transformers makes of a text in float64; tests/data/README.md lists the tensors.
struct Oracle {
  explicit Oracle(const std::string& name)
      : file(KVRING_TEST_DATA "/real/" + name + ".safetensors") {}

  SafetensorsFile file;
  std::vector<std::int32_t> ids = to_ids(file.read_i64("ids"));
  std::vector<float> logsumexp = file.read_f32("logsumexp"), nll = file.read_f32("nll");
  std::vector<float> top_logits = file.read_f32("top_logits");   // [ids, 8]
  std::vector<std::int64_t> top_ids = file.read_i64("top_ids");  // [ids, 8]

  double mean_nll() const {
    return std::accumulate(nll.begin(), nll.end(), 0.0) / static_cast<double>(nll.size());
  }
  float margin(std::size_t position) const {
    return top_logits[position * 8] - top_logits[position * 8 + 1];
  }
};

/// How far a run is from the oracle, over all positions.
struct Distance {
  double logsumexp = 0, logit = 0;  // largest
  double logsumexp_rms = 0, logit_rms = 0;
  double mean_nll = 0;
  std::int64_t top1_differs = 0;
  float largest_margin = 0;  // of the oracle, where top-1 differs

  /// NaN compares as the largest difference.
  static double larger_of(double a, double b) { return b <= a ? a : (b > a ? b : INFINITY); }
};

/// What a bfloat16 run of transformers does to Gemma 3 270M (weights, activations and residual
/// stream all rounded; 600 positions). A cache in bf16 rounds a part of what that run rounds, by
/// the same 2^-9; a cache in f16 rounds by 2^-12, an eighth of it. So these, divided by 1 and by 8,
/// bound the two: a detail that is wrong only for narrow types would not keep to a rounding's size.
struct Bfloat16Run {
  double logit = 0.81, logit_rms = 0.106, logsumexp = 0.55, logsumexp_rms = 0.097,
         mean_nll = 1.8e-3;
};

inline void check_narrow(const Distance& distance, const Oracle& oracle, double factor) {
  const Bfloat16Run bound;
  CHECK(distance.logit <= bound.logit * factor);
  CHECK(distance.logit_rms <= bound.logit_rms * factor);
  CHECK(distance.logsumexp <= bound.logsumexp * factor);
  CHECK(distance.logsumexp_rms <= bound.logsumexp_rms * factor);
  CHECK(std::abs(distance.mean_nll - oracle.mean_nll()) <= bound.mean_nll * factor);
  // Two logits that move towards each other by the largest error each.
  CHECK(distance.largest_margin <= 2 * bound.logit * factor);
}

}  // namespace kvring::test
