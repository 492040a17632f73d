// The small kernels of a forward pass on a GPU: angles, per-layer inputs, rounding, and the step
// from one token to the next.
#pragma once

#include <cstdint>
#include <vector>

#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/elementwise_cuda.cuh"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/rope.hpp"
#include "kvring/kernels/vectors.cuh"
#include "kvring/units.hpp"

namespace kvring {

/// rope_frequency of every pair.
inline std::vector<float> rope_frequencies(const Rope& rope) {
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < rope.rotated / 2; ++i) {
    frequencies.push_back(rope_frequency(rope, i));
  }
  return frequencies;
}

/// As RopeTable, a thread a pair.
struct RopeRowsKernel {
  struct Params {
    Batch batch;
    const float* frequencies;  // [half]
    float* table;              // [rows, 2, half]: cosines, then sines
    std::int64_t half;
  };
  struct SharedStorage {};
  static constexpr int threads = 128, blocks_per_sm = 4;

  __device__ void operator()(const Params& params, SharedStorage&) const {
    const std::int64_t row = blockIdx.x;
    const std::int64_t i = std::int64_t{blockIdx.y} * threads + static_cast<int>(threadIdx.x);
    if (i >= params.half) return;
    const Position position = Batch::position(params.batch.segment_of(row), row);
    const double angle = static_cast<float>(position.value) * params.frequencies[i];
    double sine, cosine;
    sincos(angle, &sine, &cosine);
    float* cosines = params.table + row * 2 * params.half;
    cosines[i] = static_cast<float>(cosine);
    cosines[params.half + i] = static_cast<float>(sine);
  }
};

inline void rope_rows(const Cuda& backend, Batch batch, const float* frequencies,
                      std::int64_t rotated, float* table) {
  const std::int64_t half = rotated / 2;
  launch_kernel<RopeRowsKernel>(
      backend,
      {.grid = dim3(static_cast<unsigned>(batch.rows),
                    static_cast<unsigned>(ceil_div(half, RopeRowsKernel::threads)))},
      {.batch = batch, .frequencies = frequencies, .table = table, .half = half});
}

/// As MixPerLayerInputs, a warp a slice, with rows of the per-layer table looked up on the way.
template <class T, std::int64_t Width>
struct MixInputsKernel {
  static_assert(Width % 4 == 0);
  struct Params {
    const T* table;           // [vocabulary, layers, Width]
    const std::int32_t* ids;  // [rows]
    const float* weight;      // [Width]
    T* mixed;                 // [rows, layers, Width]: projections of the embeddings, overwritten
    std::int64_t rows, layers;
    float scale, table_scale, epsilon;
  };
  struct SharedStorage {};
  static constexpr int threads = 256, blocks_per_sm = 4;
  static constexpr int run = 4, held = static_cast<int>((Width + 32 * run - 1) / (32 * run));

  __device__ void operator()(const Params& params, SharedStorage&) const {
    const std::int64_t slice =
        std::int64_t{blockIdx.x} * (threads / 32) + static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (slice >= params.rows * params.layers) return;
    const std::int64_t row = slice / params.layers, layer = slice - row * params.layers;
    const T* table = params.table + (params.ids[row] * params.layers + layer) * Width;
    T* mixed = params.mixed + slice * Width;

    float x[held][run];
    float squares = 0;
#pragma unroll
    for (int h = 0; h < held; ++h) {
      const int at = (h * 32 + lane) * run;
      if (at >= Width) continue;
      detail::load(x[h], mixed + at);
#pragma unroll
      for (int j = 0; j < run; ++j) {
        x[h][j] *= params.scale;
        squares = mul_add(x[h][j], x[h][j], squares);
      }
    }
    const float mean = detail::sum_of_lanes(squares) / static_cast<float>(Width);
    const float inverse = __frsqrt_rn(__fadd_rn(mean, params.epsilon));
    constexpr float half_root = 0.70710678f;
#pragma unroll
    for (int h = 0; h < held; ++h) {
      const int at = (h * 32 + lane) * run;
      if (at >= Width) continue;
      float weight[run], looked_up[run];
      detail::load(weight, params.weight + at);
      detail::load(looked_up, table + at);
#pragma unroll
      for (int j = 0; j < run; ++j) {
        x[h][j] =
            mul_add(x[h][j] * inverse, weight[j], looked_up[j] * params.table_scale) * half_root;
      }
      detail::store(mixed + at, x[h]);
    }
  }
};

template <std::int64_t Width, class T>
void mix_inputs(const Cuda& backend, const typename MixInputsKernel<T, Width>::Params& params) {
  using Kernel = MixInputsKernel<T, Width>;
  const std::int64_t slices = params.rows * params.layers;
  launch_kernel<Kernel>(
      backend, {.grid = static_cast<unsigned>(ceil_div(slices, Kernel::threads / 32))}, params);
}

namespace detail {

template <class T>
struct RoundRun {
  static constexpr int width_of_run = 4;
  const float* x;
  T* y;
  std::int64_t width;

  __device__ void run(std::int64_t row, std::int64_t i) const {
    float values[width_of_run];
    load(values, x + row * width + i);
    store(y + row * width + i, values);
  }
};

}  // namespace detail

/// y [rows, width] = x, rounded to T.
template <class T>
void round_rows(const Cuda& backend, const float* x, T* y, std::int64_t rows, std::int64_t width) {
  detail::for_runs(backend, rows, width, detail::RoundRun<T>{.x = x, .y = y, .width = width});
}

/// Every sequence of a decoding batch moves on by one position, one thread a segment.
struct AdvanceKernel {
  struct Params {
    Segment* segments;  // [count]
    std::int64_t count;
  };
  struct SharedStorage {};
  static constexpr int threads = 32, blocks_per_sm = 1;

  __device__ void operator()(const Params& params, SharedStorage&) const {
    const std::int64_t i = std::int64_t{blockIdx.x} * threads + static_cast<int>(threadIdx.x);
    if (i < params.count) params.segments[i].start = params.segments[i].start + 1;
  }
};

inline void advance(const Cuda& backend, Segment* segments, std::int64_t count) {
  launch_kernel<AdvanceKernel>(
      backend, {.grid = static_cast<unsigned>(ceil_div(count, AdvanceKernel::threads))},
      {.segments = segments, .count = count});
}

}  // namespace kvring
