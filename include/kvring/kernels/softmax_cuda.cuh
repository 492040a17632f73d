// What the tensor-core kernels share of softmax: powers of two, and capped scores.
#pragma once

#include "kvring/arch/mma.cuh"
#include "kvring/kernels/attend_scalar.hpp"

namespace kvring {

/// What scores are multiplied by to become powers of two. Without a softcap they are not scaled
/// before.
__device__ inline float softmax_exponent(const Scores& score) {
  constexpr float log2_e = 1.44269504f;
  return score.softcap == 0 ? score.scale * log2_e : log2_e;
}

/// softcap * tanh(scale * dot / softcap), with tanh(x) = 1 - 2 / (2^(2 x log2(e)) + 1): exact in
/// both tails and to 2e-7 near 0.
__device__ inline float softcapped(float dot, const Scores& score) {
  const float to_power = 2 * 1.44269504f * score.scale / score.softcap;
  const float power = arch::exp2_fast(dot * to_power);
  return score.softcap * (1 - 2 * arch::reciprocal_fast(power + 1));
}

/// The score of a sink in the units in which maxima are kept.
__device__ inline float sink_score(const Scores& score, std::int64_t head) {
  const float sink = score.sinks[head];
  return score.softcap == 0 ? sink / score.scale : sink;
}

}  // namespace kvring
