// AttentionProducts: the two matrix products of attention on mma.sync, from shared memory and
// registers.
#pragma once

#include <cstdint>

#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/kernels/attention_layout.cuh"

namespace kvring {

template <class Layout>
struct AttentionProducts {
  using T = typename Layout::T;
  using HeadTile = typename Layout::HeadTile;
  using ProbabilityTile = typename Layout::ProbabilityTile;
  using SharedStorage = typename Layout::SharedStorage;
  using Place = typename Layout::Place;
  static constexpr int head_dim = Layout::head_dim;
  static constexpr int keys = Layout::keys;
  static constexpr int column_warps = Layout::column_warps;
  static constexpr int band_rows = Layout::band_rows;
  static constexpr int warp_keys = Layout::warp_keys;
  static constexpr int warp_columns = Layout::warp_columns;
  static constexpr int m_tiles = Layout::m_tiles;
  static constexpr int key_tiles = Layout::key_tiles;
  static constexpr int column_tiles = Layout::column_tiles;

  /// scores = Q K^T, for the rows of the band and this warp's keys.
  __device__ static void scores(const SharedStorage& shared, const Place& place,
                                float (&scores)[m_tiles][key_tiles][4]) {
    const std::uint32_t q =
        arch::shared_address(shared.q) +
        HeadTile::offset(place.band * band_rows + place.lane % 16, place.lane / 16);
    const std::uint32_t k =
        arch::shared_address(shared.k) +
        HeadTile::offset(place.column_warp * warp_keys + place.lane % 8 + place.lane / 16 * 8,
                         place.lane / 8 % 2);
    // Products wait for the sums before them. Where a warp has few, even and odd steps are summed
    // apart.
    constexpr int chains = Layout::shape.row_warps == 1 && head_dim >= 32 ? 2 : 1;
    float sums[chains][m_tiles][key_tiles][4] = {};
#pragma unroll
    for (int d = 0; d < head_dim / 16; ++d) {
      std::uint32_t a[m_tiles][4];
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        arch::load_matrices(a[m], HeadTile::step(q, 2 * d) + m * 16 * HeadTile::pitch);
      }
#pragma unroll
      for (int n = 0; n < key_tiles; n += 2) {
        std::uint32_t b[4];
        arch::load_matrices(b, HeadTile::step(k, 2 * d) + n * 8 * HeadTile::pitch);
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) {
          arch::mma<T>(sums[d % chains][m][n], a[m], b[0], b[1]);
          arch::mma<T>(sums[d % chains][m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          scores[m][n][e] = sums[0][m][n][e];
          if constexpr (chains == 2) scores[m][n][e] += sums[1][m][n][e];
        }
      }
    }
  }

  /// out += P V, for the rows of the band and this warp's columns.
  __device__ static void sums(const SharedStorage& shared, const Place& place,
                              const std::uint32_t (&p)[m_tiles][warp_keys / 16][4],
                              float (&out)[m_tiles][column_tiles][4]) {
    constexpr int warp_chunks = warp_columns / 8;
    const std::uint32_t v_tile = arch::shared_address(shared.v);
    const int v_chunk = place.column_warp * warp_chunks + place.lane / 16;
    const std::uint32_t v = v_tile + HeadTile::offset(place.lane % 16, v_chunk);
    const std::uint32_t shared_p =
        arch::shared_address(shared.p) +
        ProbabilityTile::offset(place.band * band_rows + place.lane % 16, place.lane / 16);
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
      std::uint32_t a[m_tiles][4];
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        if constexpr (column_warps > 1) {
          arch::load_matrices(
              a[m], ProbabilityTile::step(shared_p, 2 * j) + m * 16 * ProbabilityTile::pitch);
        } else {
#pragma unroll
          for (int e = 0; e < 4; ++e) a[m][e] = p[m][j][e];
        }
      }
#pragma unroll
      for (int n = 0; n < column_tiles; n += 2) {
        std::uint32_t b[4];
        if constexpr (HeadTile::steps_within(warp_chunks)) {
          arch::load_matrices_transposed(b, HeadTile::step(v, n) + j * 16 * HeadTile::pitch);
        } else {
          arch::load_matrices_transposed(
              b,
              v_tile + HeadTile::offset(place.lane % 16, v_chunk + n) + j * 16 * HeadTile::pitch);
        }
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) {
          arch::mma<T>(out[m][n], a[m], b[0], b[1]);
          arch::mma<T>(out[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }
};

}  // namespace kvring
