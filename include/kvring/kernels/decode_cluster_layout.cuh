// ClusterLayout: where everything is in a block of AttendInCluster.
#pragma once

#include <cstdint>

#include "kvring/kernels/attention_layout.cuh"
#include "kvring/kernels/shared_tile.cuh"
#include "kvring/units.hpp"

namespace kvring {

/// Eight warps split a tile's scores by keys and by dims of the head, its softmax by rows, its sums
/// by columns.
template <class View, int tile_keys>
struct ClusterLayout {
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr int group = static_cast<int>(heads.group());
  static constexpr int head_dim = static_cast<int>(heads.dim);
  static constexpr int warps = 8, threads = 32 * warps;
  static constexpr int rows = 16, keys = tile_keys;
  static_assert(head_dim % 16 == 0 && head_dim <= 512);
  static_assert(keys % 32 == 0 && keys <= 64, "a lane of the softmax has one key or two");
  using HeadTile = SharedTile<head_dim>;     // Q, K, V
  using ProbabilityTile = SharedTile<keys>;  // P

  static constexpr int key_groups = keys / 16, dim_groups = warps / key_groups;
  static constexpr int steps = head_dim / 16;  // of the dims, and pairs of 8 columns
  static constexpr int warp_dim_steps = static_cast<int>(ceil_div(steps, dim_groups));
  static constexpr int warp_pairs = static_cast<int>(ceil_div(steps, warps));
  static constexpr int stages = 4 * keys * HeadTile::pitch <= 128 * 1024 ? 2 : 1;

  struct Tile {
    alignas(128) unsigned char k[keys * HeadTile::pitch];
    alignas(128) unsigned char v[keys * HeadTile::pitch];
  };
  struct SharedStorage {
    Tile tiles[stages];
    alignas(128) unsigned char q[rows * HeadTile::pitch];
    alignas(128) unsigned char p[rows * ProbabilityTile::pitch];
    alignas(16) float scores[dim_groups][rows][keys + 8];  // 8 more: no bank twice
    float correction[rows];
  };
};

}  // namespace kvring
