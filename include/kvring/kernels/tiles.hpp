// Which keys a query sees, and which tiles of keys a run of queries touches. Every attention kernel
// asks here; no second copy of this arithmetic may exist.
#pragma once

#include <cstdint>

#include "kvring/policy.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Positions begin ... end - 1.
struct KeyRange {
  Position begin, end;
};

/// The keys that a query at `p` sees.
template <LayerPolicy Policy>
KVRING_HD constexpr KeyRange visible_keys(Position p) {
  return {Policy::first_visible(p), p + 1};
}

/// The part of `keys` in the tile that begins at `tile`, as offsets from it: begin < end, or none.
struct TileRange {
  std::int64_t begin, end;
  KVRING_HD constexpr bool empty() const { return begin >= end; }
  friend constexpr bool operator==(TileRange, TileRange) = default;
};
KVRING_HD constexpr TileRange within_tile(KeyRange keys, Position tile, std::int64_t tile_keys) {
  return {larger(0, keys.begin - tile), smaller(tile_keys, keys.end - tile)};
}

/// Starts of the tiles that some query at first ... last sees: begin, begin + Tile, ... before end.
/// Tiles start at multiples of Tile in positions, so what a row computes does not depend on its
/// neighbours, and a ring of whole tiles never has one across its wrap.
template <LayerPolicy Policy, std::int64_t Tile>
KVRING_HD constexpr KeyRange visible_tiles(Position first, Position last) {
  return {{Policy::first_visible(first).value / Tile * Tile}, {last.value / Tile * Tile + Tile}};
}

}  // namespace kvring
