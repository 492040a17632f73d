// Launch on a GPU: f(0) ... f(count - 1), a thread a call, by Thrust; and attention by the plain
// kernel, which runs any shape.
#pragma once

#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/system/cuda/execution_policy.h>

#include <cstdint>

#include "kvring/backend_cuda.cuh"
#include "kvring/chunk.hpp"
#include "kvring/kernels/attend_scalar.hpp"

namespace kvring {

/// Ordered on the stream; returns at once.
template <class F>
void for_each(const Cuda& backend, std::int64_t count, F f) {
  thrust::for_each_n(thrust::cuda::par_nosync.on(backend.stream),
                     thrust::counting_iterator<std::int64_t>(0), count, f);
  check_cuda(cudaGetLastError());
}

template <LayerPolicy Policy, std::int64_t Tile, class View>
void attend(const Cuda& backend, Policy, KeyTile<Tile>, View cache, Batch, Batch batch,
            const float* q, float* out, Scores score) {
  for_each(backend, batch.rows * View::heads.q,
           AttendScalar<Policy, Tile, View>{
               .cache = cache, .batch = batch, .q = q, .out = out, .score = score});
}

}  // namespace kvring
