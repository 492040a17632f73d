// AttentionLayout: where everything is in a block of the tensor-core kernels: which rows, keys and
// columns a warp and a lane hold, and what lies in shared memory.
#pragma once

#include <cstdint>

#include "kvring/cache.hpp"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/kernels/shared_tile.cuh"
#include "kvring/units.hpp"

namespace kvring {

/// Packed query rows of one kv head of a segment: packed row x is query head x % group of position
/// start + x / group. A block takes rows begin ... end - 1, at most as many as its shape has.
struct PackedRows {
  std::int64_t sequence;
  Position start;  // of the segment
  int first_row;   // of the segment, in the launch
  int begin, end;
  int kv_head;

  /// Elements before a row of the block in q and out.
  template <Heads heads>
  __device__ std::int64_t query_offset(int row) const {
    constexpr auto group = static_cast<int>(heads.group());
    const int x = begin + row;
    return (std::int64_t{first_row + x / group} * heads.q + kv_head * group + x % group) *
           heads.dim;
  }
};

template <class View, MmaShape block_shape>
struct AttentionLayout {
  static constexpr MmaShape shape = block_shape;
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr int group = static_cast<int>(heads.group());
  static constexpr int head_dim = static_cast<int>(heads.dim);
  static constexpr int threads = shape.threads();
  static constexpr int rows = shape.rows, keys = shape.keys;
  static constexpr int row_warps = shape.row_warps, column_warps = shape.column_warps;
  static constexpr int band_rows = rows / row_warps;     // of a warp
  static constexpr int warp_keys = keys / column_warps;  // whose scores a warp computes
  static constexpr int columns = static_cast<int>(round_up(head_dim, 16 * column_warps));
  static constexpr int warp_columns = columns / column_warps;  // whose sums a warp holds
  static_assert(compiled_arch() >= 80,
                "kvring: tensor-core attention needs sm_80: name an architecture, such as nvcc "
                "-arch=native");
  static_assert(
      head_dim % 16 == 0 && head_dim <= 512,
      "kvring: tensor-core attention takes head dims that are multiples of 16, up to 512");
  static_assert(rows % (16 * row_warps) == 0 && keys % (16 * column_warps) == 0);
  static_assert(threads % 64 == 0, "rows that a thread copies must agree modulo 8");

  using HeadTile = SharedTile<columns>;      // Q, K, V
  using ProbabilityTile = SharedTile<keys>;  // P, where warps share it

  struct SharedStorage {
    alignas(128) unsigned char k[keys * HeadTile::pitch];
    alignas(128) unsigned char v[keys * HeadTile::pitch];
    alignas(128) unsigned char q[rows * HeadTile::pitch];
    alignas(128) unsigned char p[column_warps > 1 ? rows* ProbabilityTile::pitch : 16];
    float by_warp[column_warps > 1 ? column_warps : 1][rows];  // maxima, and at last denominators
    PackedRows packed;  // for the end: in the loop over tiles every register counts
  };

  static constexpr int m_tiles = band_rows / 16;
  static constexpr int key_tiles = warp_keys / 8;
  static constexpr int column_tiles = warp_columns / 8;

  /// A thread's place: its warp owns the rows of a band, and one warp of columns.
  struct Place {
    int lane, band, column_warp;

    __device__ static Place of_this_thread() {
      const int warp = static_cast<int>(threadIdx.x) / 32;
      return {static_cast<int>(threadIdx.x) % 32, warp / column_warps, warp % column_warps};
    }
    /// Row of the block that the lane holds in half 0 or 1 of an m tile.
    __device__ int row(int m, int half) const {
      return band * band_rows + m * 16 + half * 8 + lane / 4;
    }
  };
};

}  // namespace kvring
