// CombineParts: the second launch of decode attention whose parts meet in global memory.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/arch/cluster.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/kernels/decode_parts.cuh"
#include "kvring/kernels/softmax_cuda.cuh"

namespace kvring {

/// Combines the parts of a row and head, 64 columns a block.
template <class T, Heads heads>
struct CombineParts {
  static constexpr int threads = 256, blocks_per_sm = 2, most_parts = threads;
  static constexpr int head_dim = static_cast<int>(heads.dim), columns = 64;
  static constexpr int column_blocks = static_cast<int>(ceil_div(head_dim, columns));
  static constexpr int lanes = columns / 4;       // of four columns each
  static constexpr int groups = threads / lanes;  // of parts: group g sums parts g, g + groups ...

  struct SharedStorage {
    float weight[most_parts];
    float4 sums[groups][lanes];
    float by_warp[threads / 32];
  };
  struct Params {
    PartSums<heads> parts;
    int count;
    T* out;  // [rows, q_heads, head_dim]
    Scores score;
  };

  /// Grid: rows * q_heads, column blocks.
  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    arch::let_successor_begin();
    arch::wait_for_predecessor();
    const int thread = static_cast<int>(threadIdx.x), count = params.count;
    const int group = thread / lanes, lane = thread % lanes;
    const int column = static_cast<int>(blockIdx.y) * columns + lane * 4;
    const std::int64_t first = std::int64_t{blockIdx.x} * count;
    const PartSoftmax own =
        thread < count ? params.parts.softmax[first + thread] : PartSoftmax{-INFINITY, 0};
    // Asked for before it is known what they weigh: one round trip, not two.
    constexpr int held = most_parts / groups;
    float4 values[held];
#pragma unroll
    for (int i = 0; i < held; ++i) {
      const int part = group + i * groups;
      values[i] = {0, 0, 0, 0};
      if (part < count && column < head_dim) {
        values[i] = *reinterpret_cast<const float4*>(params.parts.sums + (first + part) * head_dim +
                                                     column);
      }
    }
    const float highest = of_block<true>(own.maximum, shared);
    const float weight = arch::exp2_fast((own.maximum - highest) * softmax_exponent(params.score));
    shared.weight[thread] = weight;
    const float denominator = of_block<false>(weight * own.denominator, shared);
    float4 total{0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < held; ++i) {
      detail::add_weighted(total, shared.weight[group + i * groups], values[i]);
    }
    shared.sums[group][lane] = total;
    __syncthreads();
    if (thread >= lanes || column >= head_dim) return;
    for (int g = 1; g < groups; ++g) {
      const float4 value = shared.sums[g][lane];
      total.x += value.x;
      total.y += value.y;
      total.z += value.z;
      total.w += value.w;
    }
    detail::store_divided(total, denominator,
                          params.out + std::int64_t{blockIdx.x} * head_dim + column);
  }

 private:
  /// The largest of, or the sum over, what the threads of the block have, in one order.
  template <bool largest>
  __device__ static float of_block(float value, SharedStorage& shared) {
    for (int lane = 16; lane > 0; lane /= 2) {
      const float other = __shfl_xor_sync(~0u, value, lane);
      value = largest ? fmaxf(value, other) : value + other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared.by_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = shared.by_warp[0];
    for (int warp = 1; warp < threads / 32; ++warp) {
      value = largest ? fmaxf(value, shared.by_warp[warp]) : value + shared.by_warp[warp];
    }
    return value;
  }
};

}  // namespace kvring
