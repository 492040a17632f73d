// Runs of elements that a thread reads or writes at once, as f32 in registers; and sums over the
// lanes of a warp and the threads of a block, in a fixed order.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kvring/arch/mma.cuh"
#include "kvring/element.hpp"

namespace kvring::detail {

/// As to_f32, by the GPU's own instruction.
__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return to_f32(x); }
__device__ inline float widen(f16 x) { return __half2float(__ushort_as_half(x.bits)); }

template <class T, int N>
struct alignas(sizeof(T) * N) Run {
  static_assert(sizeof(T) * N <= 16, "an instruction moves 16 bytes of a thread at most");
  T at[N];
};

/// Elements in one access: N, or as many as 16 bytes hold.
template <class T, int N>
inline constexpr int access = N* static_cast<int>(sizeof(T)) <= 16
                                  ? N
                                  : 16 / static_cast<int>(sizeof(T));

/// to[i] = from[i]. `from` is aligned to N elements, or to 16 bytes.
template <class T, int N>
__device__ inline void load(float (&to)[N], const T* from) {
  constexpr int step = access<T, N>;
#pragma unroll
  for (int i = 0; i < N; i += step) {
    const auto run = *reinterpret_cast<const Run<T, step>*>(from + i);
#pragma unroll
    for (int j = 0; j < step; ++j) to[i + j] = widen(run.at[j]);
  }
}

/// to[i] = from[i], rounded. `to` is aligned to N elements, or to 16 bytes.
template <class T, int N>
__device__ inline void store(T* to, const float (&from)[N]) {
  constexpr int step = access<T, N>;
#pragma unroll
  for (int i = 0; i < N; i += step) {
    Run<T, step> run;
    if constexpr (std::is_same_v<T, float> || step % 2 != 0) {
#pragma unroll
      for (int j = 0; j < step; ++j) run.at[j] = from_f32<T>(from[i + j]);
    } else {
#pragma unroll
      for (int j = 0; j < step; j += 2) {
        const std::uint32_t pair = arch::pack<T>(from[i + j], from[i + j + 1]);
        run.at[j].bits = static_cast<std::uint16_t>(pair);
        run.at[j + 1].bits = static_cast<std::uint16_t>(pair >> 16);
      }
    }
    *reinterpret_cast<Run<T, step>*>(to + i) = run;
  }
}

/// The sum over each aligned group of `Lanes` lanes, a power of two; all lanes of the warp call it.
template <int Lanes = 32>
__device__ inline float sum_of_lanes(float x) {
#pragma unroll
  for (int width = Lanes / 2; width > 0; width /= 2) x += __shfl_xor_sync(~0u, x, width);
  return x;
}

/// The sum over all threads of a block; `parts` must not be in use for another one.
template <int Threads>
__device__ inline float sum_of_block(float x, float (&parts)[Threads / 32]) {
  x = sum_of_lanes(x);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < Threads / 32; ++i) sum += parts[i];
  return sum;
}

}  // namespace kvring::detail
