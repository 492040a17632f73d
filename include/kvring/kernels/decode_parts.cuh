// What the parts of a row of decode attention leave for each other, and how their sums are added.
#pragma once

#include <cstdint>

#include "kvring/arch/mma.cuh"
#include "kvring/heads.hpp"

namespace kvring {

/// Softmax of one part of a row: its maximum, in the units of AttentionBlock, and denominator.
struct PartSoftmax {
  float maximum, denominator;
};

/// Where parts that are no cluster leave their sums.
template <Heads heads>
struct PartSums {
  float* sums;           // [rows, q_heads, parts, head_dim]
  PartSoftmax* softmax;  // [rows, q_heads, parts]

  static PartSums in(float* scratch, std::int64_t rows, int parts) {
    return {scratch, reinterpret_cast<PartSoftmax*>(scratch + rows * heads.q * parts * heads.dim)};
  }
};

namespace detail {

__device__ inline void add_weighted(float4& total, float weight, float4 value) {
  total.x = __fmaf_rn(weight, value.x, total.x);
  total.y = __fmaf_rn(weight, value.y, total.y);
  total.z = __fmaf_rn(weight, value.z, total.z);
  total.w = __fmaf_rn(weight, value.w, total.w);
}

/// + 0: whether a part without keys added 0 to a -0 must not show.
template <class T>
__device__ void store_divided(float4 total, float denominator, T* to) {
  const float scale = 1 / denominator;
  *reinterpret_cast<uint2*>(to) = {arch::pack<T>(total.x * scale + 0.0f, total.y * scale + 0.0f),
                                   arch::pack<T>(total.z * scale + 0.0f, total.w * scale + 0.0f)};
}

}  // namespace detail

}  // namespace kvring
