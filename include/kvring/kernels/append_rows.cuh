// append_rows: Append for a GPU, with wide loads and stores.
#pragma once

#include <cstdint>

#include "kvring/backend_cuda.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/vectors.cuh"

namespace kvring {

/// A warp takes a part of a row, of K and of V.
template <class View, class Source>
struct AppendRowsKernel {
  using T = typename View::Element;
  static constexpr std::int64_t width = View::heads.kv_dim();
  static constexpr int run = width % 8 == 0 ? 8 : 1;  // elements of a lane at once
  static constexpr int at_once = 2;                   // of those, before any is written
  static constexpr std::int64_t part = 32 * run * at_once;
  static constexpr std::int64_t parts = (width + part - 1) / part;  // of a row

  struct Params {
    View cache;
    Batch batch;
    const Source* k;  // [rows, kv_heads, head_dim]
    const Source* v;  // [rows, kv_heads, head_dim]
  };
  struct SharedStorage {};
  static constexpr int threads = 256, blocks_per_sm = 4;
  static constexpr int warps = threads / 32;

  __device__ void operator()(const Params& params, SharedStorage&) const {
    const std::int64_t warp = std::int64_t{blockIdx.x} * warps + static_cast<int>(threadIdx.x) / 32;
    const std::int64_t row = warp / parts;
    if (row >= params.batch.rows) return;
    const std::int64_t first =
        (warp - row * parts) * part + static_cast<int>(threadIdx.x) % 32 * run;
    const std::int64_t from = row * width;
    float k[at_once][run], v[at_once][run];
#pragma unroll
    for (int n = 0; n < at_once; ++n) {
      const std::int64_t i = first + n * 32 * run;
      if (i >= width) continue;
      detail::load(k[n], params.k + from + i);
      detail::load(v[n], params.v + from + i);
    }
    const Segment& segment = params.batch.segment_of(row);
    const std::int64_t to = params.cache.row(segment.sequence, Batch::position(segment, row));
#pragma unroll
    for (int n = 0; n < at_once; ++n) {
      const std::int64_t i = first + n * 32 * run;
      if (i >= width) continue;
      detail::store(params.cache.k + to + i, k[n]);
      detail::store(params.cache.v + to + i, v[n]);
    }
  }
};

/// The rows of K and V of a batch to the slots of their positions, as Append does.
template <class View, class Source>
void append_rows(const Cuda& backend, View cache, Batch batch, const Source* k, const Source* v) {
  using Kernel = AppendRowsKernel<View, Source>;
  launch_kernel<Kernel>(
      backend, {.grid = static_cast<unsigned>(ceil_div(batch.rows * Kernel::parts, Kernel::warps))},
      {.cache = cache, .batch = batch, .k = k, .v = v});
}

}  // namespace kvring
