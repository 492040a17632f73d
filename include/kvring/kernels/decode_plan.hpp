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
  /// Otherwise they meet in global memory, in a second one.
  bool one_launch = false;

  /// Floats of scratch for a launch of `rows` rows.
  constexpr std::int64_t scratch_floats(Heads heads, std::int64_t rows) const {
    return parts == 1 || one_launch ? 0 : rows * heads.q * parts * (heads.dim + 2);
  }
};

/// The shape of a decode block: its four warps share each tile's keys, then the head's columns.
/// More rows don't change a row's bits.
constexpr MmaShape decode_shape(std::int64_t head_dim, int rows, int arch) {
  const std::int64_t tile_bytes = 64 * 2 * round_up(head_dim, 64);
  const int shared = shared_bytes_per_block(arch);
  // Two tiles of keys must fit, and the queries; on small parts head_dim 512 gets half a tile.
  const int keys = 2 * tile_bytes + 40 * 1024 <= shared ? 64 : 32;
  const std::int64_t bytes = keys * 4 * head_dim + rows * 2 * head_dim + 6 * 1024;
  const auto fit = static_cast<int>((shared + 1024) / bytes);
  return {rows, keys, 1, keys == 64 ? 4 : 2, fit < 1 ? 1 : fit > 5 ? 5 : fit};
}

/// Enough parts to fill `multiprocessors` with what `sequences` sequences of up to `slots` slots
/// give; no more than there are tiles. A cluster, where eight parts are enough.
template <LayerPolicy Policy, Heads heads>
constexpr DecodePlan plan_decode(std::int64_t slots, std::int64_t sequences, int multiprocessors,
                                 int arch = compiled_arch()) {
  constexpr std::int64_t most_parts = 256;
  const MmaShape shape = decode_shape(heads.dim, 16, arch);
  const std::int64_t tiles = ceil_div(smaller(Policy::window, slots), shape.keys) + 1;
  const std::int64_t resident = std::int64_t{multiprocessors} * smaller(shape.blocks_per_sm, 4);
  const std::int64_t wanted = resident / (heads.kv * sequences);
  if (wanted < 2) return {};
  if (arch >= 90 && smaller(tiles, wanted) <= 12) {
    return {.parts = smaller(tiles, wanted) > 4 ? 8 : 4, .one_launch = true};
  }
  return {.parts = static_cast<int>(smaller(smaller(tiles, wanted), most_parts))};
}

}  // namespace kvring
