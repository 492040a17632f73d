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

/// A row in the registers of a block: thread t has elements 4t ... 4t + 3 of every 4 * Threads,
/// Held times. Its bits depend on Threads, and not on Held.
template <int Threads, int Held = 4>
struct RowOfBlock {
  static constexpr int run = 4, held = Held;
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

template <class T, int Threads, int Held>
struct NormRowsKernel {
  using Row = detail::RowOfBlock<Threads, Held>;
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

/// What a block adds to a row of the residual stream, and what it makes of it for the next product.
template <class In>
struct AddNorm {
  const In* added;           // [rows, width]; nullptr: nothing
  const float* post_weight;  // [width], or nullptr: `added` is not normed
  const float* residual;     // [rows, width]
  float* to_residual;        // [rows, width], may be `residual`
  float scale;
  const float* next_weight;  // [width], or nullptr: y is no norm
  std::int64_t width;
  float epsilon;

  /// Of one row, that begins at element `row`: the new residual is stored if `stores`; y(i, values)
  /// gets its values, or those of its norm, if `wants_y`.
  template <int Threads, int Held = 4, class Y>
  __device__ void operator()(std::int64_t row, bool stores, bool wants_y,
                             float (&added_parts)[Threads / 32], float (&next_parts)[Threads / 32],
                             Y y) const {
    using Row = detail::RowOfBlock<Threads, Held>;
    typename Row::Values x;
    Row::each(width, [&](int n, std::int64_t i) { detail::load(x[n], residual + row + i); });
    if (added != nullptr) {
      typename Row::Values other;
      Row::each(width, [&](int n, std::int64_t i) { detail::load(other[n], added + row + i); });
      if (post_weight != nullptr) {
        const float rms = Row::inverse_rms(other, width, epsilon, added_parts);
        Row::each(width, [&](int n, std::int64_t i) {
          float weight[Row::run];
          detail::load(weight, post_weight + i);
#pragma unroll
          for (int j = 0; j < Row::run; ++j) {
            x[n][j] = mul_add(other[n][j] * rms, weight[j], x[n][j]);
          }
        });
      } else {
        Row::each(width, [&](int n, std::int64_t) {
#pragma unroll
          for (int j = 0; j < Row::run; ++j) x[n][j] = __fadd_rn(x[n][j], other[n][j]);
        });
      }
      Row::each(width, [&](int n, std::int64_t i) {
#pragma unroll
        for (int j = 0; j < Row::run; ++j) x[n][j] *= scale;
        if (stores) detail::store(to_residual + row + i, x[n]);
      });
    }
    if (!wants_y) return;
    if (next_weight == nullptr) {
      Row::each(width, [&](int n, std::int64_t i) { y(i, x[n]); });
      return;
    }
    const float rms = Row::inverse_rms(x, width, epsilon, next_parts);
    Row::each(width, [&](int n, std::int64_t i) {
      float weight[Row::run];
      detail::load(weight, next_weight + i);
#pragma unroll
      for (int j = 0; j < Row::run; ++j) x[n][j] = x[n][j] * rms * weight[j];
      y(i, x[n]);
    });
  }
};

template <class In, class T, int Threads, int Held>
struct AddNormRowsKernel {
  struct Params {
    AddNorm<In> task;
    T* y;  // [rows, width], or nullptr
  };
  struct SharedStorage {
    float added_parts[Threads / 32], next_parts[Threads / 32];
  };
  static constexpr int threads = Threads, blocks_per_sm = (Held == 1 ? 1536 : 1024) / Threads;

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    const std::int64_t row = std::int64_t{blockIdx.x} * params.task.width;
    params.task.template operator()<Threads, Held>(row, true, params.y != nullptr,
                                                   shared.added_parts, shared.next_parts,
                                                   [&](std::int64_t i, const float(&values)[4]) {
                                                     detail::store(params.y + row + i, values);
                                                   });
  }
};

namespace detail {

/// f of the smallest block whose registers hold a row: the choice depends on the width alone.
template <class F>
void with_block_of_row(std::int64_t width, F f) {
  constexpr std::int64_t most = RowOfBlock<1024>::most;
  require(width >= 4 && width % 4 == 0 && width <= most, "rows of ", width,
          " elements: kernels of rows take multiples of 4 up to ", most);
  if (width <= RowOfBlock<256, 1>::most) return f(RowOfBlock<256, 1>{});
  if (width <= RowOfBlock<256>::most) return f(RowOfBlock<256>{});
  if (width <= RowOfBlock<512>::most) return f(RowOfBlock<512>{});
  f(RowOfBlock<1024>{});
}

}  // namespace detail

/// y = norm(x) * weight. x and y may be the same.
template <class T>
void norm_rows(const Cuda& backend, const float* x, const float* weight, T* y, std::int64_t rows,
               std::int64_t width, float epsilon) {
  detail::with_block_of_row(width, [&]<int Threads, int Held>(detail::RowOfBlock<Threads, Held>) {
    launch_kernel<NormRowsKernel<T, Threads, Held>>(
        backend, {.grid = static_cast<unsigned>(rows)},
        {.x = x, .weight = weight, .y = y, .width = width, .epsilon = epsilon});
  });
}

/// residual = (residual + added) * scale, `added` normed first if post_weight is given; then, if y
/// is given, y = norm(residual) * next_weight, or without next_weight y = residual, rounded.
template <class In, class T>
void add_norm_rows(const Cuda& backend, const In* added, const float* post_weight, float* residual,
                   float scale, const float* next_weight, T* y, std::int64_t rows,
                   std::int64_t width, float epsilon) {
  detail::with_block_of_row(width, [&]<int Threads, int Held>(detail::RowOfBlock<Threads, Held>) {
    launch_kernel<AddNormRowsKernel<In, T, Threads, Held>>(backend,
                                                           {.grid = static_cast<unsigned>(rows)},
                                                           {.task = {.added = added,
                                                                     .post_weight = post_weight,
                                                                     .residual = residual,
                                                                     .to_residual = residual,
                                                                     .scale = scale,
                                                                     .next_weight = next_weight,
                                                                     .width = width,
                                                                     .epsilon = epsilon},
                                                            .y = y});
  });
}

}  // namespace kvring
