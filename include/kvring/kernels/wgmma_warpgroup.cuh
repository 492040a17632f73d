// WgmmaWarpgroup: 64 packed query rows of a work item, from scores to sums. What one of the two
// attending warpgroups of attend_wgmma does.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/arch/tensor_map.cuh"
#include "kvring/arch/wgmma.cuh"
#include "kvring/kernels/softmax_cuda.cuh"
#include "kvring/kernels/wgmma_shape.hpp"
#include "kvring/kernels/wgmma_work.cuh"

namespace kvring {

/// Operands in shared memory are blocks of 64 or 32 columns: [blocks][rows][columns], rows of 128
/// or 64 bytes permuted as tensor maps do.
///
/// A row's maximum follows its scores lazily: it moves when it is exceeded by 2^8, so that sums are
/// seldom rescaled. Whether it moves is decided by the row alone; the vote of a warp only skips
/// work that would change nothing.
template <class View, LayerPolicy Policy, int keys>
class WgmmaWarpgroup {
 public:
  using T = typename View::Element;
  static constexpr int head_dim = static_cast<int>(View::heads.dim);
  static constexpr int group = static_cast<int>(View::heads.group());
  static constexpr int rows = 64, columns = block_columns(View::heads.dim), row_bytes = 2 * columns;

  __device__ __forceinline__ WgmmaWarpgroup(const Scores& score, int warpgroup)
      : score_(score),
        to_power_(softmax_exponent(score)),
        tolerance_(8 / to_power_),
        warpgroup_(warpgroup),
        warp_(static_cast<int>(threadIdx.x) / 32 % 4),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  /// Row of the warpgroup that this lane holds in half 0 or 1.
  __device__ __forceinline__ int row_of(int half) const {
    return warp_ * 16 + lane_ / 4 + half * 8;
  }

  __device__ __forceinline__ void begin(const WorkItem& item) {
    first_ = item.first + warpgroup_ * (rows / group);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      maximum_[half] = -INFINITY;
      denominator_[half] = 0;
      if (score_.sinks != nullptr) {
        maximum_[half] = sink_score(score_, item.kv_head * group + row_of(half) % group);
        denominator_[half] = lane_ % 4 == 0;  // one lane of the row's
      }
      correction_[half] = 1;
    }
  }
  __device__ __forceinline__ void clear_sums() {
#pragma unroll
    for (int i = 0; i < head_dim / 2; ++i) sums_[i] = 0;
  }

  /// Issues scores = Q K^T; in flight until waited for.
  __device__ __forceinline__ void issue_scores(std::uint32_t q, std::uint32_t k) {
    // A step's operands lie so many bytes further: descriptors count in 16.
    const std::uint64_t first_q = arch::matrix_descriptor<row_bytes>(q, 16);
    const std::uint64_t first_k = arch::matrix_descriptor<row_bytes>(k, 16);
    constexpr int steps = columns / 16;  // of a block
    arch::fence_wgmma();
#pragma unroll
    for (int d = 0; d < head_dim / 16; ++d) {
      const auto further = [&](int block_rows) {
        return static_cast<std::uint64_t>(d / steps * block_rows * row_bytes + d % steps * 32) >> 4;
      };
      arch::Wgmma<T, keys>::scores(scores_, first_q + further(rows), first_k + further(keys),
                                   d != 0);
    }
    arch::commit_wgmma();
  }
  /// Issues sums += P V; in flight until waited for.
  __device__ __forceinline__ void issue_sums(std::uint32_t v) {
    const std::uint64_t first = arch::matrix_descriptor<row_bytes>(v, keys * row_bytes);
    arch::fence_wgmma();
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
      arch::Wgmma<T, head_dim>::sums(sums_, p_[j],
                                     first + static_cast<std::uint64_t>(j * row_bytes));
    }
    arch::commit_wgmma();
  }

  /// Scores of the tile that begins at `tile` to probabilities, in place.
  __device__ __forceinline__ void softmax(int tile) {
    if (score_.softcap != 0) {
#pragma unroll
      for (int i = 0; i < keys / 2; ++i) scores_[i] = softcapped(scores_[i], score_);
    }
    mask(tile);
    float highest[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = scores_[half * 2];
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
        most = fmaxf(most, fmaxf(scores_[n * 4 + half * 2], scores_[n * 4 + half * 2 + 1]));
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
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      // A row that has seen nothing yet has no maximum to subtract: -inf - -inf is NaN.
      const float subtracted = maximum_[half] == -INFINITY ? 0 : maximum_[half] * to_power_;
      float sum = 0;
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
        float& a = scores_[n * 4 + half * 2];
        float& b = scores_[n * 4 + half * 2 + 1];
        a = arch::exp2_fast(__fmaf_rn(a, to_power_, -subtracted));
        b = arch::exp2_fast(__fmaf_rn(b, to_power_, -subtracted));
        sum += a + b;
      }
      denominator_[half] += sum;
    }
  }
  /// Probabilities to operands of the next product, once the last one has been waited for.
  __device__ __forceinline__ void pack() {
#pragma unroll
    for (int i = 0; i < keys / 4; ++i) {
      p_[i / 4][i % 4] = arch::pack<T>(scores_[2 * i], scores_[2 * i + 1]);
    }
  }
  __device__ __forceinline__ void rescale() {
    if (!moved_) return;
#pragma unroll
    for (int n = 0; n < head_dim / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums_[4 * n + e] *= correction_[e / 2];
    }
  }

  /// Takes the denominators of a finished item, before begin() of the next.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = denominator_[half];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      inverse_[half] = 1 / sum;
    }
  }
  /// The rows of the finished item to shared memory, in the queries' layout.
  __device__ __forceinline__ void stage(std::uint32_t to) const {
    constexpr int steps = columns / 16;  // of a block
    const int matrix = lane_ / 8, row = warp_ * 16 + matrix % 2 * 8 + lane_ % 8;
#pragma unroll
    for (int n = 0; n < head_dim / 16; ++n) {
      const int chunk = 2 * (n % steps) + matrix / 2;
      // + 0: whether a masked tile added 0 to a -0 must not show.
      const auto pair = [&](int i, int half) {
        return arch::pack<T>(sums_[8 * n + i] * inverse_[half] + 0.0f,
                             sums_[8 * n + i + 1] * inverse_[half] + 0.0f);
      };
      arch::store_matrices(
          to + static_cast<std::uint32_t>(n / steps * rows * row_bytes + row * row_bytes +
                                          arch::permuted<row_bytes>(chunk, row) * 16),
          pair(0, 0), pair(2, 1), pair(4, 0), pair(6, 1));
    }
  }

 private:
  /// Scores of keys that a row does not see become -infinity; most tiles have none.
  __device__ __forceinline__ void mask(int tile) {
    constexpr int positions = rows / group;
    if (tile + keys - 1 > first_) {
      mask_rows([&](Position own, int key) {
        return key < static_cast<int>(visible_keys<Policy>(own).end.value) - tile;
      });
    }
    if (Policy::first_visible(Position{first_ + positions - 1}) > Position{tile}) {
      mask_rows([&](Position own, int key) {
        return key >= static_cast<int>(visible_keys<Policy>(own).begin.value) - tile;
      });
    }
  }
  template <class Sees>
  __device__ __forceinline__ void mask_rows(Sees sees) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Position own{first_ + row_of(half) / group};
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& value = scores_[n * 4 + half * 2 + e];
          value = sees(own, 8 * n + lane_ % 4 * 2 + e) ? value : -INFINITY;  // chosen, never added
        }
      }
    }
  }

  const Scores& score_;
  float to_power_, tolerance_;
  int warpgroup_, warp_, lane_;
  int first_ = 0;  // position of the first row, from the item's first tile on
  bool moved_ = false;
  float maximum_[2], denominator_[2], correction_[2], inverse_[2];
  float scores_[keys / 2];
  float sums_[head_dim / 2];
  std::uint32_t p_[keys / 16][4];
};

}  // namespace kvring
