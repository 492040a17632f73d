// DecodePlan: how decode attention splits the keys of a sequence, settled when a cache is planned.
#pragma once

#include <cstdint>

#include "kvring/heads.hpp"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/policy.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Tile t of keys, counted from position 0, is attended by part t % parts; the sums of the parts
/// are combined in their order. So a row's bits follow from `parts` and absolute positions. `parts`
/// must not follow the batch of the day: choose it once, from what the plan allows.
struct DecodePlan {
  int parts = 1;
  /// The parts of a row are a cluster and combine in shared memory: one launch (sm_90 and later).
  /// Otherwise they meet in global memory, in a second one. A cluster has 4, 8 or 16 parts.
  bool one_launch = false;

  /// Keys of a tile, where blocks of two launches have `shape`.
  constexpr int tile_keys(const MmaShape& shape) const {
    return one_launch && parts == 16 ? wide_cluster_keys : shape.keys;
  }
  /// In clusters of 16, so that a window of 512 gives every part a tile.
  static constexpr int wide_cluster_keys = 32;

  /// Floats of scratch for a launch of `rows` rows.
  constexpr std::int64_t scratch_floats(Heads heads, std::int64_t rows) const {
    return parts == 1 || one_launch ? 0 : rows * heads.q * parts * (heads.dim + 2);
  }
};

/// Whether clusters may have 16 blocks: compute capability 9.0 and 10.x.
constexpr bool has_wide_clusters(int arch) { return arch >= 90 && arch < 110; }

/// The shape of a decode block: its warps share each tile's keys, then the head's columns. More
/// rows don't change a row's bits.
constexpr MmaShape decode_shape(std::int64_t head_dim, std::int64_t window, int rows, int arch) {
  const std::int64_t tile_bytes = 64 * 2 * round_up(head_dim, 64);
  const std::int64_t shared = shared_bytes_per_block(arch);
  // One block of 128 keys an SM, not three of 64, leaves the fewest parts to combine. No ring is
  // read so: its slots need not be multiples of 128.
  if (head_dim == 256 && window == unbounded && shared > 200 * 1024) return {rows, 128, 1, 8, 1};
  // K, V and the queries must fit; on small parts head_dim 512 gets half a tile.
  const int keys = 2 * tile_bytes + 40 * 1024 <= shared ? 64 : 32;
  constexpr std::int64_t small_change = 2048;  // maxima, and what an SM keeps for each block
  const std::int64_t bytes = keys * 4 * head_dim + rows * 2 * (head_dim + keys) + small_change;
  const std::int64_t fit = larger(1, smaller(4, (shared + 1024) / bytes));
  return {rows, keys, 1, keys == 64 ? 4 : 2, static_cast<int>(fit)};
}

/// Enough parts to fill `multiprocessors` with what `sequences` sequences of up to `slots` slots
/// give; no more than there are tiles. One launch where most parts have a single tile: latency
/// rules there. Long parts run better without clusters, whose blocks must find room on one GPC.
template <LayerPolicy Policy, Heads heads>
constexpr DecodePlan plan_decode(std::int64_t slots, std::int64_t sequences, int multiprocessors,
                                 int arch = compiled_arch()) {
  constexpr std::int64_t most_parts = 256;
  const MmaShape shape = decode_shape(heads.dim, Policy::window, 16, arch);
  // A window that begins within a tile touches one more.
  const std::int64_t tiles = Policy::window <= slots ? ceil_div(Policy::window, shape.keys) + 1
                                                     : ceil_div(slots, shape.keys);
  const std::int64_t rows = heads.kv * sequences;
  const std::int64_t wanted =
      smaller(most_parts, std::int64_t{multiprocessors} * shape.blocks_per_sm / rows);
  if (wanted < 2 || tiles < 2) return {};
  const std::int64_t keys = tiles * shape.keys;
  if (has_wide_clusters(arch) && keys > 256 && keys <= 1088 && multiprocessors >= 16 * rows) {
    return {.parts = 16, .one_launch = true};
  }
  if (arch >= 90 && keys <= 768 && wanted >= 4) {
    return {.parts = smaller(tiles, wanted) > 4 ? 8 : 4, .one_launch = true};
  }
  // As many tiles for each part as for the fullest: none is left with one more.
  return {.parts = static_cast<int>(ceil_div(tiles, ceil_div(tiles, wanted)))};
}

}  // namespace kvring
