// The kernels for a GPU in which no element of a row needs another one: gates, embedding, softcap.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kvring/backend_cuda.cuh"
#include "kvring/error.hpp"
#include "kvring/kernels/activation.hpp"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/math.hpp"
#include "kvring/kernels/vectors.cuh"
#include "kvring/units.hpp"

namespace kvring {

namespace detail {

/// 1 / (1 + e^-x) by the GPU's approximations: a relative error of 2^-20 where it is not tiny.
__device__ inline float sigmoid_fast(float x) {
  constexpr float log2_e = 1.44269504f;
  return __fdividef(1.0f, 1.0f + arch::exp2_fast(-log2_e * x));
}

template <class Activation>
__device__ inline float activate(float x) {
  if constexpr (std::is_same_v<Activation, GeluTanh>) {
    // (1 + tanh(y)) / 2 = sigmoid(2 y)
    constexpr float two_sqrt_2_over_pi = 1.5957691216f;
    return x * sigmoid_fast(two_sqrt_2_over_pi * mul_add(0.044715f * x * x, x, x));
  } else if constexpr (std::is_same_v<Activation, Silu>) {
    return x * sigmoid_fast(x);
  } else {
    return Activation{}(x);
  }
}

}  // namespace detail

/// f.run(row, i): elements i ... i + 7 of a row, or up to its end.
template <class F>
struct RunsKernel {
  struct Params {
    F f;
    std::int64_t runs;   // of a row
    std::int64_t total;  // of all rows
  };
  struct SharedStorage {};
  static constexpr int threads = 256, blocks_per_sm = 4;

  __device__ void operator()(const Params& params, SharedStorage&) const {
    const std::int64_t i = std::int64_t{blockIdx.x} * threads + static_cast<int>(threadIdx.x);
    if (i >= params.total) return;
    const std::int64_t row = i / params.runs;
    params.f.run(row, (i - row * params.runs) * F::width_of_run);
  }
};

namespace detail {

template <class F>
void for_runs(const Cuda& backend, std::int64_t rows, std::int64_t width, const F& f) {
  require(width >= 1 && width % F::width_of_run == 0, "rows of ", width,
          " elements: this kernel takes multiples of ", F::width_of_run);
  const std::int64_t runs = width / F::width_of_run, total = rows * runs;
  using Kernel = RunsKernel<F>;
  launch_kernel<Kernel>(backend, {.grid = static_cast<unsigned>(ceil_div(total, Kernel::threads))},
                        {.f = f, .runs = runs, .total = total});
}

template <class Activation, class In, class Up, class T>
struct GateRun {
  static constexpr int width_of_run = 8;
  const In* gate;
  std::int64_t stride;
  const Up* up;
  std::int64_t up_stride;
  T* out;
  std::int64_t width;

  __device__ void run(std::int64_t row, std::int64_t i) const {
    float x[width_of_run], factor[width_of_run];
    load(x, gate + row * stride + i);
    load(factor, up + row * up_stride + i);
#pragma unroll
    for (int j = 0; j < width_of_run; ++j) x[j] = activate<Activation>(x[j]) * factor[j];
    store(out + row * width + i, x);
  }
};

template <class T>
struct EmbedRun {
  static constexpr int width_of_run = 4;
  const T* table;
  const std::int32_t* ids;
  float* x;
  std::int64_t width;
  float scale;

  __device__ void run(std::int64_t row, std::int64_t i) const {
    float values[width_of_run];
    load(values, table + ids[row] * width + i);
#pragma unroll
    for (int j = 0; j < width_of_run; ++j) values[j] *= scale;
    store(x + row * width + i, values);
  }
};

struct SoftcapRun {
  static constexpr int width_of_run = 4;
  float* x;
  std::int64_t width;
  float cap;

  __device__ void run(std::int64_t row, std::int64_t i) const {
    float values[width_of_run];
    load(values, x + row * width + i);
#pragma unroll
    for (int j = 0; j < width_of_run; ++j) values[j] = cap * tanh_f32(values[j] / cap);
    store(x + row * width + i, values);
  }
};

}  // namespace detail

/// out [rows, width] = activation(gate) * up. Rows of gate and up are `stride` and `up_stride`
/// elements apart, multiples of 8, as `width` is. `out` may be `gate` if the strides agree.
template <class Activation, class In, class Up, class T>
void gate_rows(const Cuda& backend, const In* gate, std::int64_t stride, const Up* up,
               std::int64_t up_stride, T* out, std::int64_t rows, std::int64_t width) {
  require(stride % 8 == 0 && up_stride % 8 == 0, "rows of gates ", stride, " and ", up_stride,
          " elements apart: make both multiples of 8");
  detail::for_runs(backend, rows, width,
                   detail::GateRun<Activation, In, Up, T>{.gate = gate,
                                                          .stride = stride,
                                                          .up = up,
                                                          .up_stride = up_stride,
                                                          .out = out,
                                                          .width = width});
}

/// x [rows, width] = rows `ids` of the table [vocabulary, width], scaled.
template <class T>
void embed_rows(const Cuda& backend, const T* table, const std::int32_t* ids, std::int64_t rows,
                std::int64_t width, float scale, float* x) {
  detail::for_runs(
      backend, rows, width,
      detail::EmbedRun<T>{.table = table, .ids = ids, .x = x, .width = width, .scale = scale});
}

/// x = cap * tanh(x / cap), in place, [rows, width].
inline void softcap_rows(const Cuda& backend, float* x, std::int64_t rows, std::int64_t width,
                         float cap) {
  detail::for_runs(backend, rows, width, detail::SoftcapRun{.x = x, .width = width, .cap = cap});
}

}  // namespace kvring
