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

/// A warp takes a part of a row, of K or of V. Warps of a block take the same part of neighbouring
/// rows, and the blocks of K come before those of V. On an H100, 4,096 rows of 8 heads of 128 so
/// run at 93% of a copy; with the parts of a row in neighbouring warps at 69%, with K and V in one
/// warp besides at 56%.
template <class View, class Source>
struct AppendRowsKernel {
  using T = typename View::Element;
  static constexpr std::int64_t width = View::heads.kv_dim();
  // Elements of a lane at once, 16 bytes where rows allow; up to 32 are read before any is written.
  static constexpr int wide = 16 / static_cast<int>(sizeof(T)), run = width % 8 == 0 ? wide : 1;
  static constexpr std::int64_t step = 32 * run;
  static constexpr int at_once = static_cast<int>(smaller(32 / run, (width + step - 1) / step));
  static constexpr std::int64_t part = step * at_once;
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
    const std::int64_t row = std::int64_t{blockIdx.x} * warps + static_cast<int>(threadIdx.x) / 32;
    if (row >= params.batch.rows) return;
    const bool is_v = blockIdx.y >= parts;
    const std::int64_t first =
        (blockIdx.y % parts) * part + static_cast<int>(threadIdx.x) % 32 * run;
    const Source* from = (is_v ? params.v : params.k) + row * width;
    float values[at_once][run];
#pragma unroll
    for (int n = 0; n < at_once; ++n) {
      const std::int64_t i = first + n * step;
      if (i < width) detail::load(values[n], from + i);
    }
    const Segment& segment = params.batch.segment_of(row);
    const Position p = Batch::position(segment, row);
    const auto& view = params.cache.template of_segment<1>(params.batch.index_of(segment));
    T* to = (is_v ? view.base(p).v : view.base(p).k) + view.row(segment.sequence, p);
#pragma unroll
    for (int n = 0; n < at_once; ++n) {
      const std::int64_t i = first + n * step;
      if (i < width) detail::store(to + i, values[n]);
    }
  }
};

/// The rows of K and V of a batch to the slots of their positions, as Append does.
template <class View, class Source>
void append_rows(const Cuda& backend, View cache, Batch batch, const Source* k, const Source* v) {
  using Kernel = AppendRowsKernel<View, Source>;
  launch_kernel<Kernel>(
      backend,
      {.grid = dim3(static_cast<unsigned>(ceil_div(batch.rows, Kernel::warps)), 2 * Kernel::parts)},
      {.cache = cache, .batch = batch, .k = k, .v = v});
}

}  // namespace kvring
