// AttentionScores: what becomes of dot products before the softmax: a softcap, and the mask.
#pragma once

#include <cmath>

#include "kvring/kernels/attention_layout.cuh"
#include "kvring/kernels/softmax_cuda.cuh"
#include "kvring/kernels/tiles.hpp"

namespace kvring {

/// Positions of a block, from the first tile that it visits on: of its first and its last row, and
/// of the first key that one of them sees. Which head of its group the first row is.
struct BlockPositions {
  int first = 0, last = 0, begin = 0, remainder = 0;
};

template <class Layout, LayerPolicy Policy>
class AttentionScores {
  using Place = typename Layout::Place;
  static constexpr int group = Layout::group, keys = Layout::keys;
  static constexpr int m_tiles = Layout::m_tiles, key_tiles = Layout::key_tiles;
  static constexpr int warp_keys = Layout::warp_keys;

 public:
  __device__ static void cap(const Scores& score, float (&scores)[m_tiles][key_tiles][4]) {
    if (score.softcap == 0) return;
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
        for (float& value : scores[m][n]) {
          value = softcapped(value, score);
        }
      }
    }
  }

  /// Scores of keys that a row does not see become -infinity; most tiles have none. The two edges
  /// apart: a tile seldom has both, and bounds of rows take registers.
  __device__ static void mask(const Place& place, const BlockPositions& at, int tile,
                              float (&scores)[m_tiles][key_tiles][4]) {
    if (tile + keys - 1 > at.first) {
      mask_rows(place, at, scores, [&](Position own, int key) {
        return key < static_cast<int>(visible_keys<Policy>(own).end.value) - tile;
      });
    }
    if (Policy::first_visible(Position{at.last}) > Position{tile}) {
      mask_rows(place, at, scores, [&](Position own, int key) {
        return key >= static_cast<int>(visible_keys<Policy>(own).begin.value) - tile;
      });
    }
  }

 private:
  template <class Sees>
  __device__ static void mask_rows(const Place& place, const BlockPositions& at,
                                   float (&scores)[m_tiles][key_tiles][4], Sees sees) {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Position own{at.first + (at.remainder + place.row(m, half)) / group};
#pragma unroll
        for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int key = place.column_warp * warp_keys + 8 * n + place.lane % 4 * 2 + e;
            float& value = scores[m][n][2 * half + e];
            value = sees(own, key) ? value : -INFINITY;  // chosen, never added
          }
        }
      }
    }
  }
};

}  // namespace kvring
