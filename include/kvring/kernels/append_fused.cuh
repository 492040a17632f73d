// append_fused: from the rows of a merged Q, K and V projection to rotated Q and to the cache, in
// one pass over memory.
#pragma once

#include <cstdint>

#include "kvring/backend_cuda.cuh"
#include "kvring/cache.hpp"
#include "kvring/error.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/math.hpp"
#include "kvring/kernels/vectors.cuh"

namespace kvring {

/// The steps of RmsNorm, PlainRmsNorm, RotateHeads and Append, in f32, for every row of a batch.
template <class In, Element T>
struct FusedAppend {
  /// [rows, stride]: q, then k and v of the row. Without v if it comes from k, and without both if
  /// the cache is a donor's.
  const In* qkv;
  std::int64_t stride;  // a multiple of 4 elements
  T* q;                 // [rows, q_heads, head_dim]: normed and rotated; must not overlap qkv
  const float* q_norm = nullptr;  // [head_dim]; nullptr: no norm
  const float* k_norm = nullptr;  // [head_dim]; nullptr: no norm
  bool v_norm = false;            // v / rms(v), without weights
  bool value_from_key = false;    // v is k before its norm
  bool append = true;
  float epsilon = 0;
  const float* angles = nullptr;  // [rows, 2, rotated / 2], as RopeTable writes them
  std::int64_t rotated = 0;       // even
};

/// A group of lanes takes some heads of a row. A lane holds rotary pairs, so that only the norm
/// needs other lanes; a head's bits depend on that head alone.
template <class View, class In, int Width, int HeadsAtOnce>
struct AppendFusedKernel {
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr int dim = static_cast<int>(heads.dim);
  static constexpr int vectors = dim / 2 / Width;  // of pairs, in a head
  static constexpr int lanes = vectors > 16  ? 32
                               : vectors > 8 ? 16
                               : vectors > 4 ? 8
                               : vectors > 2 ? 4
                                             : 2;
  static constexpr int held = (vectors + lanes - 1) / lanes;  // by a lane

  struct Params {
    FusedAppend<In, T> task;
    View cache;
    Batch batch;
    std::int32_t loaded_heads, tasks;  // of a row; a task is HeadsAtOnce of them
  };
  struct SharedStorage {};
  static constexpr int threads = 256;
  static constexpr int blocks_per_sm = Width == 1 ? 1 : held > 1 ? 2 : 3;
  static constexpr int groups = threads / lanes;  // a block

  __device__ void operator()(const Params& params, SharedStorage&) const {
    const FusedAppend<In, T>& task = params.task;
    const int half = static_cast<int>(task.rotated / 2);
    const int lane = static_cast<int>(threadIdx.x) % lanes;
    const std::int64_t group =
        std::int64_t{blockIdx.x} * groups + static_cast<int>(threadIdx.x) / lanes;
    const std::int64_t row = group / params.tasks;
    const int first = static_cast<int>(group - row * params.tasks) * HeadsAtOnce;
    const int end = row < params.batch.rows ? params.loaded_heads : 0;

    // Where the values of a pair are: i and half + i; beyond the rotated ones, half of the rest
    // apart.
    int low_at[held], high_at[held];
    bool inside[held], rotates[held];
#pragma unroll
    for (int h = 0; h < held; ++h) {
      const int pair = (lane + h * lanes) * Width;
      inside[h] = pair < dim / 2;
      rotates[h] = inside[h] && pair < half;
      low_at[h] = pair < half ? pair : half + pair;
      high_at[h] = pair < half ? half + pair : dim / 2 + pair;
    }

    float low[HeadsAtOnce][held][Width], high[HeadsAtOnce][held][Width];
#pragma unroll
    for (int n = 0; n < HeadsAtOnce; ++n) {
      const In* from = task.qkv + row * task.stride + (first + n) * dim;
#pragma unroll
      for (int h = 0; h < held; ++h) {
        if (first + n < end && inside[h]) {
          detail::load(low[n][h], from + low_at[h]);
          detail::load(high[n][h], from + high_at[h]);
        } else {
#pragma unroll
          for (int i = 0; i < Width; ++i) low[n][h][i] = high[n][h][i] = 0;
        }
      }
    }
    float cosines[held][Width], sines[held][Width];
#pragma unroll
    for (int h = 0; h < held; ++h) {
      if (first < end && rotates[h]) {
        const float* angles = task.angles + row * task.rotated + low_at[h];
        detail::load(cosines[h], angles);
        detail::load(sines[h], angles + half);
      }
    }
    std::int64_t to_cache = 0;  // elements before the row of this position
    if (first < end && first + HeadsAtOnce > heads.q && task.append) {
      const Segment& segment = params.batch.segment_of(row);
      to_cache = params.cache.row(segment.sequence, Batch::position(segment, row));
    }

#pragma unroll
    for (int n = 0; n < HeadsAtOnce; ++n) {
      const int head = first + n;
      float squares = 0;
#pragma unroll
      for (int h = 0; h < held; ++h) {
#pragma unroll
        for (int i = 0; i < Width; ++i) {
          squares = mul_add(low[n][h][i], low[n][h][i], squares);
          squares = mul_add(high[n][h][i], high[n][h][i], squares);
        }
      }
      squares = detail::sum_of_lanes<lanes>(squares);
      if (head >= end) continue;
      const float scale = __frsqrt_rn(mul_add(squares, 1.0f / dim, task.epsilon));

      const bool is_q = head < heads.q, is_v = head >= heads.q + heads.kv;
      if (is_v || (!is_q && task.value_from_key)) {
        const int v_head =
            head - static_cast<int>(heads.q) - (is_v ? static_cast<int>(heads.kv) : 0);
        store_scaled(params.cache.v + to_cache + v_head * dim, low[n], high[n], low_at, high_at,
                     inside, task.v_norm ? scale : 1.0f);
        if (is_v) continue;
      }
      const float* weight = is_q ? task.q_norm : task.k_norm;
      T* to = is_q ? task.q + row * heads.q_dim() + head * dim
                   : params.cache.k + to_cache + (head - static_cast<int>(heads.q)) * dim;
#pragma unroll
      for (int h = 0; h < held; ++h) {
        if (!inside[h]) continue;
        float(&a)[Width] = low[n][h];
        float(&b)[Width] = high[n][h];
        if (weight != nullptr) {
          float gain_a[Width], gain_b[Width];
          detail::load(gain_a, weight + low_at[h]);
          detail::load(gain_b, weight + high_at[h]);
#pragma unroll
          for (int i = 0; i < Width; ++i) {
            a[i] = a[i] * scale * gain_a[i];
            b[i] = b[i] * scale * gain_b[i];
          }
        }
        if (rotates[h]) {
#pragma unroll
          for (int i = 0; i < Width; ++i) {
            const float x = a[i], y = b[i];
            a[i] = mul_add(x, cosines[h][i], -(y * sines[h][i]));
            b[i] = mul_add(y, cosines[h][i], x * sines[h][i]);
          }
        }
        detail::store(to + low_at[h], a);
        detail::store(to + high_at[h], b);
      }
    }
  }

 private:
  using Values = float[held][Width];

  __device__ static void store_scaled(T* to, const Values& low, const Values& high,
                                      const int (&low_at)[held], const int (&high_at)[held],
                                      const bool (&inside)[held], float scale) {
#pragma unroll
    for (int h = 0; h < held; ++h) {
      if (!inside[h]) continue;
      float a[Width], b[Width];
#pragma unroll
      for (int i = 0; i < Width; ++i) {
        a[i] = low[h][i] * scale;
        b[i] = high[h][i] * scale;
      }
      detail::store(to + low_at[h], a);
      detail::store(to + high_at[h], b);
    }
  }
};

namespace detail {

template <int Width, int HeadsAtOnce, class View, class In>
void launch_append_fused(const Cuda& backend, View cache, Batch batch,
                         const FusedAppend<In, typename View::Element>& task) {
  using Kernel = AppendFusedKernel<View, In, Width, HeadsAtOnce>;
  const std::int64_t kv_heads = task.append ? View::heads.kv * (task.value_from_key ? 1 : 2) : 0;
  const std::int64_t heads = View::heads.q + kv_heads, tasks = ceil_div(heads, HeadsAtOnce);
  launch_kernel<Kernel>(
      backend, {.grid = static_cast<unsigned>(ceil_div(batch.rows * tasks, Kernel::groups))},
      {.task = task,
       .cache = cache,
       .batch = batch,
       .loaded_heads = static_cast<std::int32_t>(heads),
       .tasks = static_cast<std::int32_t>(tasks)});
}

}  // namespace detail

/// Q of all rows of the batch to `task.q`; K and V to the slots of their positions. Rows never
/// share a slot, as long as each segment is no longer than the ring.
template <class View, class In>
void append_fused(const Cuda& backend, View cache, Batch batch,
                  const FusedAppend<In, typename View::Element>& task) {
  constexpr std::int64_t dim = View::heads.dim;
  static_assert(dim % 16 == 0 && dim <= 512, "head_dim must be a multiple of 16 up to 512");
  require(task.rotated >= 0 && task.rotated % 2 == 0 && task.rotated <= dim, "rotary over ",
          task.rotated, " of ", dim, " values: it must be even and no more than there are");
  require(task.stride % 4 == 0, "rows of Q, K and V ", task.stride,
          " elements apart: make it a multiple of 4");
  // Pairs that don't come in fours are rare (no model has them yet): one at a time.
  if (task.rotated % 8 != 0) {
    return detail::launch_append_fused<1, 1>(backend, cache, batch, task);
  }
  // Several heads a lane keep memory busy; few rows want many warps instead. The same bits.
  constexpr int at_once = dim > 256 ? 2 : 4;
  constexpr std::int64_t few_rows = 128;
  if (batch.rows <= few_rows) {
    return detail::launch_append_fused<4, 1>(backend, cache, batch, task);
  }
  detail::launch_append_fused<4, at_once>(backend, cache, batch, task);
}

}  // namespace kvring
