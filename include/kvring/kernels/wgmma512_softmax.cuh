// Wgmma512Softmax: the softmax of 64 packed query rows, in the registers of a warpgroup.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/arch/mma.cuh"
#include "kvring/arch/stream.cuh"
#include "kvring/kernels/softmax_cuda.cuh"
#include "kvring/kernels/wgmma_work.cuh"

namespace kvring {

/// A thread holds of two rows, halves 0 and 1, every fourth pair of scores. The two warpgroups of a
/// block take tiles in turns, and hand each other where they are: a row is one chain over all of
/// its tiles, whoever computes them.
///
/// A row's maximum follows its scores lazily: it moves when it is exceeded by 2^8, so that sums are
/// seldom rescaled. Whether it moves is decided by the row alone; the vote of a warp only skips
/// work that would change nothing.
template <LayerPolicy Policy, class View, int keys>
class Wgmma512Softmax {
  static constexpr int rows = 64;
  static constexpr int group = static_cast<int>(View::heads.group());

 public:
  __device__ __forceinline__ explicit Wgmma512Softmax(const Scores& score)
      : score_(score),
        to_power_(softmax_exponent(score)),
        tolerance_(8 / to_power_),
        row_(static_cast<int>(threadIdx.x) / 32 % 4 * 16 + static_cast<int>(threadIdx.x) % 32 / 4),
        column_(static_cast<int>(threadIdx.x) % 4 * 2) {}

  /// `first`: position of row 0, from the item's first tile on.
  __device__ __forceinline__ void begin(int kv_head, int first) {
    first_ = first;
    int row = row_;
    arch::forget(row);  // nothing derived from it is worth a register over all items
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      maximum_[half] = -INFINITY;
      denominator_[half] = 0;
      if (score_.sinks != nullptr) {
        maximum_[half] = sink_score(score_, kv_head * group + (row + 8 * half) % group);
        denominator_[half] = column_ == 0;  // one lane of the row's
      }
    }
  }

  /// Takes the scores of the tile that begins at `tile`: caps and masks them, and moves maxima.
  __device__ __forceinline__ void take_scores(float (&scores)[keys / 2], int tile) {
    if (score_.softcap != 0) {
#pragma unroll
      for (float& score : scores) score = softcapped(score, score_);
    }
    mask(scores, tile);
    float highest[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = scores[half * 2];
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
        most = fmaxf(most, fmaxf(scores[n * 4 + half * 2], scores[n * 4 + half * 2 + 1]));
      }
      highest[half] = most;
      correction_[half] = 1;
    }
    moved_ = __any_sync(
        ~0u, highest[0] > maximum_[0] + tolerance_ || highest[1] > maximum_[1] + tolerance_);
    if (moved_) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float most = highest[half];
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        if (most > maximum_[half] + tolerance_) {
          correction_[half] = arch::exp2_fast((maximum_[half] - most) * to_power_);
          maximum_[half] = most;
          denominator_[half] *= correction_[half];
        }
      }
    }
  }
  /// Scores of keys 16 n ... 16 n + 15 of the tile to probabilities, in place.
  __device__ __forceinline__ void exponentiate(float (&scores)[keys / 2], int n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      // A row that has seen nothing yet has no maximum to subtract: -inf - -inf is NaN.
      const float subtracted = maximum_[half] == -INFINITY ? 0 : maximum_[half] * to_power_;
#pragma unroll
      for (int i = 8 * n + 2 * half; i < 8 * n + 8; i += 4) {
        scores[i] = arch::exp2_fast(__fmaf_rn(scores[i], to_power_, -subtracted));
        scores[i + 1] = arch::exp2_fast(__fmaf_rn(scores[i + 1], to_power_, -subtracted));
        denominator_[half] += scores[i] + scores[i + 1];
      }
    }
  }

  /// What the other warpgroup needs to know of the tiles so far.
  __device__ __forceinline__ float4 state() const {
    return {maximum_[0], maximum_[1], denominator_[0], denominator_[1]};
  }
  /// Goes on from what the other warpgroup made of the tile after the last one of this.
  __device__ __forceinline__ void take(float4 state) {
    const float maximum[2] = {state.x, state.y};
    moved_ = __any_sync(~0u, maximum[0] != maximum_[0] || maximum[1] != maximum_[1]);
    correction_[0] = correction_[1] = 1;
    if (moved_) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (maximum[half] != maximum_[half]) {
          correction_[half] = arch::exp2_fast((maximum_[half] - maximum[half]) * to_power_);
          maximum_[half] = maximum[half];
        }
      }
    }
    denominator_[0] = state.z;
    denominator_[1] = state.w;
  }

  /// Whether sums so far must be multiplied by correction(), after take_scores() and take().
  __device__ __forceinline__ bool moved() const { return moved_; }
  __device__ __forceinline__ float correction(int half) const { return correction_[half]; }

  /// What sums are multiplied by in the end.
  __device__ __forceinline__ float inverse(int half) const {
    float sum = denominator_[half];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    return 1 / sum;
  }

 private:
  /// Scores of keys that a row does not see become -infinity; most tiles have none.
  __device__ __forceinline__ void mask(float (&scores)[keys / 2], int tile) {
    if (tile + keys - 1 > first_) {
      mask_rows(scores, [&](Position own, int key) {
        return key < static_cast<int>(visible_keys<Policy>(own).end.value) - tile;
      });
    }
    if (Policy::first_visible(Position{first_ + rows / group - 1}) > Position{tile}) {
      mask_rows(scores, [&](Position own, int key) {
        return key >= static_cast<int>(visible_keys<Policy>(own).begin.value) - tile;
      });
    }
  }
  template <class Sees>
  __device__ __forceinline__ void mask_rows(float (&scores)[keys / 2], Sees sees) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Position own{first_ + (row_ + 8 * half) / group};
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[n * 4 + half * 2 + e];
          score = sees(own, 8 * n + column_ + e) ? score : -INFINITY;  // chosen, never added
        }
      }
    }
  }

  const Scores& score_;
  float to_power_, tolerance_;
  int row_, column_;  // of half 0
  int first_ = 0;
  bool moved_ = false;
  float maximum_[2], denominator_[2], correction_[2];
};

}  // namespace kvring
