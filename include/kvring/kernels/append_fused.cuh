// append_fused: from the rows of a merged Q, K and V projection to rotated Q and to the cache, in
// one pass over memory.
#pragma once

#include <cstdint>

#include "kvring/arch/cluster.cuh"
#include "kvring/backend_cuda.cuh"
#include "kvring/cache.hpp"
#include "kvring/error.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/math.hpp"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/kernels/vectors.cuh"

namespace kvring {

/// The steps of RmsNorm, PlainRmsNorm, RotateHeads and Append, in f32, for every row of a batch.
template <class In, Element T>
struct FusedAppend {
  /// [rows, stride]: q, then k and v of the row. Without v if it comes from k, and without both if
  /// the cache is a donor's.
  const In* qkv;
  std::int64_t stride;  // a multiple of 8 elements
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

/// A group of lanes takes a head of a row. A lane holds rotary pairs, Width at a time, so that only
/// the norm needs other lanes; a head's bits depend on that head alone.
template <class View, class In, int Width>
struct AppendFusedKernel {
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr int dim = static_cast<int>(heads.dim);
  static constexpr int vectors = dim / 2 / Width;  // of pairs, in a head
  static constexpr int lanes = vectors > 16  ? 32
                               : vectors > 8 ? 16
                               : vectors > 4 ? 8
                               : vectors > 2 ? 4
                               : vectors > 1 ? 2
                                             : 1;
  static constexpr int held = (vectors + lanes - 1) / lanes;  // by a lane

  struct Params {
    FusedAppend<In, T> task;
    View cache;
    Batch batch;
    unsigned loaded_heads;  // of a row
  };
  struct SharedStorage {};
  static constexpr int threads = 128, blocks_per_sm = Width == 8 ? 8 : 4;
  static constexpr int groups = threads / lanes;  // a block

  __device__ void operator()(const Params& params, SharedStorage&) const {
    const FusedAppend<In, T>& task = params.task;
    const int half = static_cast<int>(task.rotated / 2);
    const int lane = static_cast<int>(threadIdx.x) % lanes;
    arch::let_successor_begin();
    arch::wait_for_predecessor();
    // 32 bits: a division of 64 would cost as much as the norm.
    const unsigned group = blockIdx.x * groups + threadIdx.x / lanes;
    const unsigned row_of_batch = group / params.loaded_heads;
    const int head = static_cast<int>(group - row_of_batch * params.loaded_heads);
    const std::int64_t row = row_of_batch;
    const bool is_here = row < params.batch.rows;
    const bool is_q = head < heads.q, is_v = head >= heads.q + heads.kv;

    // Where the values of a pair are: i and half + i; beyond the rotated ones, half of the rest
    // apart.
    int low_at[held], high_at[held];
    bool inside[held], rotates[held];
    Values low, high, cosines, sines;
    const In* from = task.qkv + row * task.stride + head * dim;
#pragma unroll
    for (int h = 0; h < held; ++h) {
      const int pair = (lane + h * lanes) * Width;
      inside[h] = is_here && pair < dim / 2;
      rotates[h] = inside[h] && pair < half && !is_v;
      low_at[h] = pair < half ? pair : half + pair;
      high_at[h] = pair < half ? half + pair : dim / 2 + pair;
      if (inside[h]) {
        detail::load(low[h], from + low_at[h]);
        detail::load(high[h], from + high_at[h]);
      } else {
#pragma unroll
        for (int i = 0; i < Width; ++i) low[h][i] = high[h][i] = 0;
      }
    }
#pragma unroll
    for (int h = 0; h < held; ++h) {
      if (!rotates[h]) continue;
      const float* angles = task.angles + row * task.rotated + low_at[h];
      detail::load(cosines[h], angles);
      detail::load(sines[h], angles + half);
    }
    KvPointers<T> to_cache{};  // the row of this position
    if (is_here && !is_q) {
      const Segment& segment = params.batch.segment_of(row);
      to_cache = params.cache.template of_segment<1>(params.batch.index_of(segment))
                     .rows(segment.sequence, Batch::position(segment, row));
    }

    float squares = 0;
#pragma unroll
    for (int h = 0; h < held; ++h) {
#pragma unroll
      for (int i = 0; i < Width; ++i) {
        squares = mul_add(low[h][i], low[h][i], squares);
        squares = mul_add(high[h][i], high[h][i], squares);
      }
    }
    squares = detail::sum_of_lanes<lanes>(squares);
    const float scale = __frsqrt_rn(mul_add(squares, 1.0f / dim, task.epsilon));

    const int kv_head = head - static_cast<int>(is_v ? heads.q + heads.kv : heads.q);
    if (is_v || (!is_q && task.value_from_key)) {
      T* to = to_cache.v + kv_head * dim;
      const float value_scale = task.v_norm ? scale : 1.0f;
#pragma unroll
      for (int h = 0; h < held; ++h) {
        if (!inside[h]) continue;
        store_scaled(to + low_at[h], low[h], value_scale);
        store_scaled(to + high_at[h], high[h], value_scale);
      }
      if (is_v) return;
    }
    const float* weight = is_q ? task.q_norm : task.k_norm;
    T* to = is_q ? task.q + row * heads.q_dim() + head * dim : to_cache.k + kv_head * dim;
#pragma unroll
    for (int h = 0; h < held; ++h) {
      if (!inside[h]) continue;
      if (weight != nullptr) {
        apply_norm(low[h], scale, weight + low_at[h]);
        apply_norm(high[h], scale, weight + high_at[h]);
      }
      if (rotates[h]) {
#pragma unroll
        for (int i = 0; i < Width; ++i) {
          const float a = low[h][i], b = high[h][i];
          low[h][i] = mul_add(a, cosines[h][i], -(b * sines[h][i]));
          high[h][i] = mul_add(b, cosines[h][i], a * sines[h][i]);
        }
      }
      detail::store(to + low_at[h], low[h]);
      detail::store(to + high_at[h], high[h]);
    }
  }

 private:
  using Values = float[held][Width];

  __device__ static void store_scaled(T* to, const float (&from)[Width], float scale) {
    float values[Width];
#pragma unroll
    for (int i = 0; i < Width; ++i) values[i] = from[i] * scale;
    detail::store(to, values);
  }
  __device__ static void apply_norm(float (&x)[Width], float scale, const float* weight) {
    float gain[Width];
    detail::load(gain, weight);
#pragma unroll
    for (int i = 0; i < Width; ++i) x[i] = x[i] * scale * gain[i];
  }
};

namespace detail {

template <int Width, class View, class In>
void launch_append_fused(const Cuda& backend, View cache, Batch batch,
                         const FusedAppend<In, typename View::Element>& task) {
  using Kernel = AppendFusedKernel<View, In, Width>;
  const std::int64_t kv_heads = task.append ? View::heads.kv * (task.value_from_key ? 1 : 2) : 0;
  const std::int64_t heads = View::heads.q + kv_heads;
  constexpr std::int64_t most = std::int64_t{1} << 31;
  require(batch.rows * heads < most, "a batch of ", batch.rows, " rows of ", heads,
          " heads: append_fused takes fewer than ", most, " heads in all");
  launch_kernel<Kernel>(
      backend,
      {.grid = static_cast<unsigned>(ceil_div(batch.rows * heads, Kernel::groups)),
       .overlaps_predecessor = compiled_arch() >= 90},
      {.task = task, .cache = cache, .batch = batch, .loaded_heads = static_cast<unsigned>(heads)});
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
  require(task.stride % 8 == 0, "rows of Q, K and V ", task.stride,
          " elements apart: make it a multiple of 8");
  // Partial rotary decides how many neighbours have their partners side by side.
  if (task.rotated % 16 == 0) return detail::launch_append_fused<8>(backend, cache, batch, task);
  if (task.rotated % 4 == 0) return detail::launch_append_fused<2>(backend, cache, batch, task);
  detail::launch_append_fused<1>(backend, cache, batch, task);
}

}  // namespace kvring
