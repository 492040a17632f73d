// attend: attention of a batch of f32 queries on a GPU, by the kernel that suits the cache.
#pragma once

#include <cstdint>

#include "kvring/chunk.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/attend_simt.cuh"
#include "kvring/kernels/launch_cuda.cuh"

namespace kvring {

/// out = attention of every row of a batch, whose keys and values have been appended, by the plain
/// kernel: any shape, any element type.
template <LayerPolicy Policy, std::int64_t Tile, class View>
void attend_plainly(const Cuda& backend, Policy, KeyTile<Tile>, View cache, Batch batch,
                    const float* q, float* out, Scores score) {
  for_each(backend, batch.rows * View::heads.q,
           AttendScalar<Policy, Tile, View>{
               .cache = cache, .batch = batch, .q = q, .out = out, .score = score});
}

/// The same: by attend_simt for caches of f32 with a head_dim that is a multiple of 4 up to 512,
/// plainly for all others.
template <LayerPolicy Policy, std::int64_t Tile, class View>
void attend(const Cuda& backend, Policy policy, KeyTile<Tile> tile, View cache, Batch, Batch batch,
            const float* q, float* out, Scores score) {
  if constexpr (has_attend_simt<View>) {
    attend_simt(backend, policy, cache, batch, q, out, score);
  } else {
    attend_plainly(backend, policy, tile, cache, batch, q, out, score);
  }
}

}  // namespace kvring
