// What argmax and sampling on a GPU share: logits as integers in the order of their likelihood, and
// the memory that their blocks meet in.
#pragma once

#include <cstdint>

#include "kvring/backend_cuda.cuh"
#include "kvring/config.hpp"

namespace kvring {

/// Of one stream: calls on two streams at once need two. Zero before the first call; every call
/// leaves it so that the next may follow.
struct SampleScratch {
  static constexpr int bins = 2048;
  unsigned long long best;
  unsigned long long histogram[bins];
  std::uint64_t remaining, prefix, floor;
  float highest;
  unsigned arrived;
};

/// Bytes of device memory that argmax_row and sample_row want.
constexpr std::int64_t sample_scratch_bytes() {
  return static_cast<std::int64_t>(sizeof(SampleScratch));
}
inline void clear(const Cuda& backend, SampleScratch* scratch) {
  check_cuda(cudaMemsetAsync(scratch, 0, sizeof(SampleScratch), backend.stream));
}

namespace detail {

/// The most logits of a row: their indices take this many bits of a key.
inline constexpr int index_bits = 22;
inline constexpr std::int64_t most_logits = std::int64_t{1} << index_bits;
inline constexpr int key_bits = 32 + index_bits;

/// Larger for larger x; the same for 0 and -0; 0 for NaN, which is below -infinity.
__device__ inline std::uint32_t order_of(float x) {
  if (x != x) return 0;
  const auto bits = static_cast<std::int32_t>(__float_as_uint(x + 0.0f));
  return static_cast<std::uint32_t>(bits) ^ (static_cast<std::uint32_t>(bits >> 31) | 0x80000000u);
}
__device__ inline float of_order(std::uint32_t order) {
  return __uint_as_float(order & 0x80000000u ? order ^ 0x80000000u : ~order);
}

/// Larger for likelier tokens: a larger value, or an equal one at a smaller index.
__device__ inline std::uint64_t key_of(float x, std::int64_t index) {
  return (std::uint64_t{order_of(x)} << index_bits) |
         static_cast<std::uint64_t>(most_logits - 1 - index);
}
__device__ inline std::int32_t index_of(std::uint64_t key) {
  return static_cast<std::int32_t>(most_logits - 1 -
                                   static_cast<std::int64_t>(key & (most_logits - 1)));
}

/// A block's share of a row: a thread has elements first + t, first + t + 256, ...
inline constexpr int sample_threads = 256;
inline constexpr int sample_share = 8 * sample_threads;

/// f(value, index) of the block's logits; all are requested before the first call.
template <class F>
__device__ inline void for_share(const float* logits, std::int64_t count, F f) {
  constexpr int each = sample_share / sample_threads;
  const std::int64_t first =
      std::int64_t{blockIdx.x} * sample_share + static_cast<int>(threadIdx.x);
  float values[each];
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const std::int64_t index = first + i * sample_threads;
    if (index < count) values[i] = logits[index];
  }
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const std::int64_t index = first + i * sample_threads;
    if (index < count) f(values[i], index);
  }
}

/// True in every thread of the block that calls it last; what the others wrote to device memory
/// before they called it can then be read there.
__device__ inline bool is_last_block(unsigned* arrived) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(arrived, 1u) == gridDim.x - 1;
    if (last) *arrived = 0;
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

}  // namespace detail
}  // namespace kvring
