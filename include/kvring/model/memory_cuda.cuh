// Whether a GPU has room for a plan, said before anything is allocated.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kvring/backend_cuda.cuh"
#include "kvring/error.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Bytes that can be allocated on the current device: what is free, and what the pool of
/// asynchronous allocations holds without using it.
inline std::int64_t cuda_free_bytes() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total));
  int device = 0;
  check_cuda(cudaGetDevice(&device));
  cudaMemPool_t pool = nullptr;
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, device));
  std::uint64_t reserved = 0, used = 0;
  check_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
  check_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
  return static_cast<std::int64_t>(free + reserved - std::min(used, reserved));
}

/// What no plan counts: the pool grows in steps of 32 MiB, and kernels are loaded when they are
/// first launched (another 32 MiB were seen with cuBLASLt's).
inline constexpr std::int64_t cuda_reserve_bytes = std::int64_t{64} << 20;

/// Throws Error, with what is wanted, what is free and the longest context that would fit, unless
/// `bytes_of(context)` and a reserve are free. bytes_of must not fall with a longer context.
template <class BytesOf>
void require_cuda_memory(std::int64_t context, std::int64_t sequences, BytesOf bytes_of) {
  const std::int64_t free = larger(0, cuda_free_bytes() - cuda_reserve_bytes);
  const std::int64_t wanted = bytes_of(context);
  if (wanted <= free) return;
  std::int64_t fits = 0, too_long = context;
  while (too_long - fits > 1) {
    const std::int64_t middle = fits + (too_long - fits) / 2;
    (bytes_of(middle) <= free ? fits : too_long) = middle;
  }
  fail("out of memory: a context of ", context, " positions for ", sequences,
       sequences == 1 ? " sequence" : " sequences", " takes ", wanted,
       " bytes of caches and scratch, but the GPU has ", free, " free; ",
       fits == 0 ? std::string("no context fits: ask for fewer sequences or a smaller chunk")
                 : concat("the longest context that fits is ", fits));
}

}  // namespace kvring
