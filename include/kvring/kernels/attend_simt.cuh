// attend_simt: attention in full f32 on a GPU, by tiles that threads share, without tensor cores.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kvring/arch/copy_async.cuh"
#include "kvring/backend_cuda.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/row_tiles.hpp"
#include "kvring/kernels/simt_tile.cuh"
#include "kvring/kernels/tile_walk.cuh"
#include "kvring/kernels/tiles.hpp"
#include "kvring/kernels/vectors.cuh"

namespace kvring {

template <LayerPolicy Policy, class View,
          SimtShape Shape = simt_shape(View::heads.dim, compiled_arch())>
struct AttendSimt {
  using Tile = SimtTile<View, Shape>;
  using SharedStorage = typename Tile::SharedStorage;
  static constexpr Heads heads = View::heads;
  static constexpr int dim = Tile::dim, group = static_cast<int>(heads.group());
  static constexpr int keys = Tile::keys, side = Tile::side, all_rows = Tile::all_rows;
  static constexpr SimtShape shape = Shape;
  static constexpr int threads = Tile::threads, blocks_per_sm = shape.blocks_per_sm;

  struct Params {
    View cache;
    RowTiles tiles;
    const float* q;  // [rows, q_heads, head_dim]
    float* out;      // [rows, q_heads, head_dim]
    Scores score;
  };

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    // The heads of a tile are neighbours, for they read other columns of the same rows; the last
    // tiles, which see most keys, begin first.
    constexpr int kv_heads = static_cast<int>(heads.kv);
    const std::int64_t tile = (gridDim.x - 1 - blockIdx.x) / kv_heads;
    const std::int64_t s = params.tiles.segment_of(tile);
    const Segment segment = params.tiles.batch.segments[s];
    const std::int64_t begin = (tile - params.tiles.first_of(s)) * shape.rows;
    const std::int64_t left = segment.rows * group - begin;
    if (left <= 0) return;
    const Work work{.segment = segment,
                    .index = s,
                    .begin = begin,
                    .rows = static_cast<int>(smaller(left, shape.rows)),
                    .kv_head = static_cast<int>(blockIdx.x) % kv_heads};
    // A row of threads is enough for a decoded token's heads, or for the rest of a chunk.
    if (all_rows > 1 && work.rows <= side) {
      attend<1>(params, shared, work);
    } else {
      attend<all_rows>(params, shared, work);
    }
  }

 private:
  struct Work {
    Segment segment;
    std::int64_t index;  // of the segment
    std::int64_t begin;  // first packed row, of the segment's: row * group + head of the group
    int rows;            // of them, at least 1
    int kv_head;

    __device__ Position position(int row) const {
      const std::int64_t packed = begin + (row < rows ? row : rows - 1);
      return segment.start + packed / group;
    }
    /// Elements before a packed row of q and out.
    __device__ std::int64_t at(int row) const {
      const std::int64_t packed = begin + row, token = segment.first_row + packed / group;
      return (token * heads.q + kv_head * group + packed % group) * dim;
    }
    __device__ int head(int row) const {
      return kv_head * group + static_cast<int>((begin + row) % group);
    }
  };

  template <int Rows>
  __device__ static void attend(const Params& params, SharedStorage& shared, const Work& work) {
    const int x = static_cast<int>(threadIdx.x) % side, y = static_cast<int>(threadIdx.x) / side;
    const Position first = work.position(0), last = work.position(work.rows - 1);
    const KeyRange tiles = visible_tiles<Policy, keys>(first, last);
    const KeyRange seen{visible_keys<Policy>(first).begin, visible_keys<Policy>(last).end};
    const Position all_see_from = visible_keys<Policy>(last).begin;
    const auto& view = params.cache.template of_segment<keys>(work.index);
    TileWalk<std::remove_cvref_t<decltype(view)>, std::int64_t> walk;
    walk.begin(view, work.segment.sequence, work.kv_head, tiles.begin);

    float m[Rows], l[Rows], sums[Rows][Tile::column_steps][4] = {};
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      const int row = y + i * side;
      const SoftmaxState state = params.score.start(work.head(row < work.rows ? row : 0));
      m[i] = state.maximum;
      l[i] = x == 0 ? state.denominator : 0;  // a thread's share
    }

    copy_queries<Rows>(shared.q, params.q, work);
    Tile::template copy_keys<Tile::key_pitch>(shared.k, walk.k(), walk.slot(), walk.slots(),
                                              within_tile(seen, tiles.begin, keys));
    arch::commit_copies();
    for (Position tile = tiles.begin; tile < tiles.end; tile = tile + keys) {
      // K is here, and nobody reads V any more.
      arch::wait_for_copies<0>();
      __syncthreads();
      Tile::template copy_keys<dim>(shared.v, walk.v(), walk.slot(), walk.slots(),
                                    within_tile(seen, tile, keys));
      arch::commit_copies();

      float scores[Rows][Tile::key_steps];
      Tile::template multiply_keys<Rows>(scores, shared, x, y);
      Tile::template score<Rows>(scores, params.score);
      if (all_see_from > tile || tile + keys > first + 1) hide<Rows>(scores, work, tile, x, y);
      Tile::template weigh<Rows>(scores, m, l, sums, shared.weights + y * Tile::weight_pitch + x);

      // V and the weights are here, and nobody reads K any more.
      arch::wait_for_copies<0>();
      __syncthreads();
      if (tile + keys < tiles.end) {
        walk.advance(keys);
        Tile::template copy_keys<Tile::key_pitch>(shared.k, walk.k(), walk.slot(), walk.slots(),
                                                  within_tile(seen, tile + keys, keys));
      }
      arch::commit_copies();
      Tile::template multiply_values<Rows>(sums, shared, x, y);
    }

#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      const int row = y + i * side;
      const float denominator = detail::sum_of_lanes<side>(l[i]);
      if (row >= work.rows) continue;
      float* to = params.out + work.at(row);
#pragma unroll
      for (int c = 0; c < Tile::column_steps; ++c) {
        const int column = 4 * x + c * 4 * side;
        if (column >= dim) continue;
        float result[4];
        // + 0: how many tiles nobody saw must not decide the sign of a 0.
#pragma unroll
        for (int j = 0; j < 4; ++j) result[j] = __fadd_rn(sums[i][c][j], 0.0f) / denominator;
        detail::store(to + column, result);
      }
    }
  }

  /// The scores of keys that a row does not see become -infinity: a choice, not a sum, for what
  /// nobody may see can be anything.
  template <int Rows>
  __device__ static void hide(float (&scores)[Rows][Tile::key_steps], const Work& work,
                              Position tile, int x, int y) {
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      const TileRange range =
          within_tile(visible_keys<Policy>(work.position(y + i * side)), tile, keys);
      const int begin = static_cast<int>(range.begin), end = static_cast<int>(range.end);
#pragma unroll
      for (int c = 0; c < Tile::key_steps; ++c) {
        const int key = x + c * side;
        if (key < begin || key >= end) scores[i][c] = -INFINITY;
      }
    }
  }

  template <int Rows>
  __device__ static void copy_queries(float* to, const float* q, const Work& work) {
    const std::uint32_t begin = arch::shared_address(to);
    for (int n = static_cast<int>(threadIdx.x); n < Rows * side * Tile::chunks; n += threads) {
      const int row = n / Tile::chunks, chunk = n % Tile::chunks;
      const int place = Tile::swaps ? chunk ^ (row % 2) : chunk;
      const bool valid = row < work.rows;
      arch::copy_async_16(begin + 4 * (row * dim + place * 4),
                          valid ? q + work.at(row) + chunk * 4 : q, valid);
    }
  }
};

/// Shapes that attend_simt takes.
template <class View>
inline constexpr bool has_attend_simt =
    std::is_same_v<typename View::Element, float>&& View::heads.dim % 4 == 0 &&
    View::heads.dim <= 512;

/// out = attention of every row of a batch, whose keys and values have been appended, in f32. Rows
/// of q, out and the cache are aligned to 16 bytes, and out must not overlap q. The values that
/// some query sees are finite: a neighbour in its tile multiplies them by 0.
///
/// The grid follows from batch.rows and batch.count; `batch.segments` is device memory and is read
/// when the kernel runs. A row's bits depend on its query and the keys that it sees: not on the
/// chunk, the start, the neighbours, the ring, or where it wraps.
template <LayerPolicy Policy, class View>
void attend_simt(const Cuda& backend, Policy, View cache, Batch batch, const float* q, float* out,
                 Scores score) {
  static_assert(has_attend_simt<View>, "f32, with a head_dim that is a multiple of 4 up to 512");
  using Kernel = AttendSimt<Policy, View>;
  const RowTiles tiles{batch, Kernel::group, Kernel::shape.rows};
  launch_kernel<Kernel>(backend, {.grid = static_cast<unsigned>(tiles.count() * View::heads.kv)},
                        {.cache = cache, .tiles = tiles, .q = q, .out = out, .score = score});
}

}  // namespace kvring
