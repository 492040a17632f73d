// The kernels of whole rows for a GPU: norms here, and those without sums in elementwise_cuda.cuh.
// A row's bits depend on that row alone, never on how many there are: a block sums a row in an
// order that its width fixes.
#pragma once

#include <cstdint>

#include "kvring/backend_cuda.cuh"
#include "kvring/error.hpp"
#include "kvring/kernels/elementwise_cuda.cuh"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/math.hpp"
#include "kvring/kernels/vectors.cuh"
#include "kvring/units.hpp"

namespace kvring {

namespace detail {

/// A row in the registers of a block: thread t has elements 4t ... 4t + 3 of every 4 * Threads.
template <int Threads>
struct RowOfBlock {
  static constexpr int run = 4, held = 4;
  static constexpr std::int64_t most = std::int64_t{Threads} * run * held;

  /// f(n, i): the thread's run n begins at element i.
  template <class F>
  __device__ static void each(std::int64_t width, F f) {
#pragma unroll
    for (int n = 0; n < held; ++n) {
      const std::int64_t i = (n * Threads + static_cast<int>(threadIdx.x)) * run;
      if (i < width) f(n, i);
    }
  }
  using Values = float[held][run];

  /// 1 / rms of the row.
  __device__ static float inverse_rms(const Values& x, std::int64_t width, float epsilon,
                                      float (&parts)[Threads / 32]) {
    float squares = 0;
    each(width, [&](int n, std::int64_t) {
#pragma unroll
      for (int j = 0; j < run; ++j) squares = mul_add(x[n][j], x[n][j], squares);
    });
    const float sum = sum_of_block<Threads>(squares, parts);
    return __frsqrt_rn(__fadd_rn(sum / static_cast<float>(width), epsilon));
  }
};

}  // namespace detail

template <class T, int Threads>
struct NormRowsKernel {
  using Row = detail::RowOfBlock<Threads>;
  struct Params {
    const float* x;       // [rows, width]
    const float* weight;  // [width]
    T* y;                 // [rows, width]
    std::int64_t width;
    float epsilon;
  };
  struct SharedStorage {
    float parts[Threads / 32];
  };
  static constexpr int threads = Threads, blocks_per_sm = 1536 / Threads;

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    const float* from = params.x + blockIdx.x * params.width;
    T* to = params.y + blockIdx.x * params.width;
    typename Row::Values x;
    Row::each(params.width, [&](int n, std::int64_t i) { detail::load(x[n], from + i); });
    const float scale = Row::inverse_rms(x, params.width, params.epsilon, shared.parts);
    Row::each(params.width, [&](int n, std::int64_t i) {
      float weight[Row::run];
      detail::load(weight, params.weight + i);
#pragma unroll
      for (int j = 0; j < Row::run; ++j) x[n][j] = x[n][j] * scale * weight[j];
      detail::store(to + i, x[n]);
    });
  }
};

template <class In, class T, int Threads>
struct AddNormRowsKernel {
  using Row = detail::RowOfBlock<Threads>;
  struct Params {
    const In* added;           // [rows, width]
    const float* post_weight;  // [width], or nullptr
    float* residual;           // [rows, width]
    float scale;
    const float* next_weight;  // [width], or nullptr
    T* y;                      // [rows, width]
    std::int64_t width;
    float epsilon;
  };
  struct SharedStorage {
    float added_parts[Threads / 32], next_parts[Threads / 32];
  };
  static constexpr int threads = Threads, blocks_per_sm = 1024 / Threads;

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    const std::int64_t row = std::int64_t{blockIdx.x} * params.width;
    typename Row::Values added, x;
    Row::each(params.width, [&](int n, std::int64_t i) {
      detail::load(added[n], params.added + row + i);
      detail::load(x[n], params.residual + row + i);
    });
    if (params.post_weight != nullptr) {
      const float rms = Row::inverse_rms(added, params.width, params.epsilon, shared.added_parts);
      Row::each(params.width, [&](int n, std::int64_t i) {
        float weight[Row::run];
        detail::load(weight, params.post_weight + i);
#pragma unroll
        for (int j = 0; j < Row::run; ++j) {
          x[n][j] = mul_add(added[n][j] * rms, weight[j], x[n][j]);
        }
      });
    } else {
      Row::each(params.width, [&](int n, std::int64_t) {
#pragma unroll
        for (int j = 0; j < Row::run; ++j) x[n][j] = __fadd_rn(x[n][j], added[n][j]);
      });
    }
    Row::each(params.width, [&](int n, std::int64_t i) {
#pragma unroll
      for (int j = 0; j < Row::run; ++j) x[n][j] *= params.scale;
      detail::store(params.residual + row + i, x[n]);
    });
    if (params.next_weight == nullptr) return;
    const float rms = Row::inverse_rms(x, params.width, params.epsilon, shared.next_parts);
    Row::each(params.width, [&](int n, std::int64_t i) {
      float weight[Row::run];
      detail::load(weight, params.next_weight + i);
#pragma unroll
      for (int j = 0; j < Row::run; ++j) x[n][j] = x[n][j] * rms * weight[j];
      detail::store(params.y + row + i, x[n]);
    });
  }
};

namespace detail {

/// f of the smallest block whose registers hold a row: its bits depend on the width alone.
template <class F>
void with_block_of_row(std::int64_t width, F f) {
  using Small = RowOfBlock<256>;
  using Large = RowOfBlock<1024>;
  require(width >= 4 && width % 4 == 0 && width <= Large::most, "rows of ", width,
          " elements: kernels of rows take multiples of 4 up to ", Large::most);
  width <= Small::most ? f(Small{}) : f(Large{});
}
template <int Threads>
constexpr int threads_of(RowOfBlock<Threads>) {
  return Threads;
}

}  // namespace detail

/// y = norm(x) * weight. x and y may be the same.
template <class T>
void norm_rows(const Cuda& backend, const float* x, const float* weight, T* y, std::int64_t rows,
               std::int64_t width, float epsilon) {
  detail::with_block_of_row(width, [&]<int Threads>(detail::RowOfBlock<Threads>) {
    launch_kernel<NormRowsKernel<T, Threads>>(
        backend, {.grid = static_cast<unsigned>(rows)},
        {.x = x, .weight = weight, .y = y, .width = width, .epsilon = epsilon});
  });
}

/// residual = (residual + added) * scale, `added` normed first if post_weight is given; then, if
/// next_weight is given, y = norm(residual) * next_weight.
template <class In, class T>
void add_norm_rows(const Cuda& backend, const In* added, const float* post_weight, float* residual,
                   float scale, const float* next_weight, T* y, std::int64_t rows,
                   std::int64_t width, float epsilon) {
  detail::with_block_of_row(width, [&]<int Threads>(detail::RowOfBlock<Threads>) {
    launch_kernel<AddNormRowsKernel<In, T, Threads>>(backend, {.grid = static_cast<unsigned>(rows)},
                                                     {.added = added,
                                                      .post_weight = post_weight,
                                                      .residual = residual,
                                                      .scale = scale,
                                                      .next_weight = next_weight,
                                                      .y = y,
                                                      .width = width,
                                                      .epsilon = epsilon});
  });
}

}  // namespace kvring
