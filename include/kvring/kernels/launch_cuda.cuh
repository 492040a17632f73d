// Launch on a GPU: f(0) ... f(count - 1), a thread a call, by Thrust.
#pragma once

#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/system/cuda/execution_policy.h>

#include <cstdint>

#include "kvring/backend_cuda.cuh"

namespace kvring {

/// Ordered on the stream; returns at once.
template <class F>
void for_each(const Cuda& backend, std::int64_t count, F f) {
  thrust::for_each_n(thrust::cuda::par_nosync.on(backend.stream),
                     thrust::counting_iterator<std::int64_t>(0), count, f);
  check_cuda(cudaGetLastError());
}

}  // namespace kvring
