// Which keys and which tiles a query touches: exactly those that hold a key in sight.
#include "kvring/kernels/tiles.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <utility>

using namespace kvring;

namespace {

constexpr bool sees(std::int64_t query, std::int64_t key, std::int64_t window) {
  return key >= 0 && key <= query && query - key < window;
}
constexpr bool some_query_sees(std::int64_t first, std::int64_t last, std::int64_t key,
                               std::int64_t window) {
  for (std::int64_t query = first; query <= last; ++query) {
    if (sees(query, key, window)) return true;
  }
  return false;
}

/// The tiles of first ... last: all that hold a visible key, none besides, each at a multiple of
/// Tile.
template <class Policy, std::int64_t Tile>
constexpr bool tiles_are_exact(std::int64_t first, std::int64_t last) {
  const KeyRange tiles = visible_tiles<Policy, Tile>({first}, {last});
  if (tiles.begin.value % Tile != 0 || tiles.end.value % Tile != 0) return false;
  for (std::int64_t tile = -Tile; tile <= last + 2 * Tile; tile += Tile) {
    bool visible = false;
    for (std::int64_t key = tile; key < tile + Tile; ++key) {
      visible |= some_query_sees(first, last, key, Policy::window);
    }
    const bool touched = Position{tile} >= tiles.begin && Position{tile} < tiles.end;
    if (visible != touched) return false;
  }
  return true;
}

/// The offsets of a tile that one query sees, tile by tile.
template <class Policy, std::int64_t Tile>
constexpr bool offsets_are_exact(std::int64_t query) {
  const KeyRange keys = visible_keys<Policy>({query});
  for (std::int64_t tile = 0; tile <= query + Tile; tile += Tile) {
    const TileRange range = within_tile(keys, {tile}, Tile);
    bool none = true;
    for (std::int64_t offset = 0; offset < Tile; ++offset) {
      const bool visible = sees(query, tile + offset, Policy::window);
      if (visible != (offset >= range.begin && offset < range.end)) return false;
      none &= !visible;
    }
    if (none != range.empty()) return false;
  }
  return true;
}

template <class Policy, std::int64_t Tile>
constexpr bool exact(std::int64_t longest) {
  for (std::int64_t first = 0; first <= longest; ++first) {
    if (!offsets_are_exact<Policy, Tile>(first)) return false;
    for (std::int64_t last = first; last < first + 2 * Tile + 2; ++last) {
      if (!tiles_are_exact<Policy, Tile>(first, last)) return false;
    }
  }
  return true;
}

template <std::int64_t Tile, std::int64_t... Minus1>
constexpr bool exact_for_windows(std::int64_t longest,
                                 std::integer_sequence<std::int64_t, Minus1...>) {
  return (exact<Swa<Minus1 + 1>, Tile>(longest) && ...) && exact<Dense, Tile>(longest);
}

static_assert(exact_for_windows<2>(6, std::make_integer_sequence<std::int64_t, 3>{}));
static_assert(visible_tiles<Swa<512>, 64>({700}, {700}).begin == Position{128});  // 189 ... 700
static_assert(visible_tiles<Swa<512>, 64>({700}, {700}).end == Position{704});
static_assert(within_tile(visible_keys<Swa<512>>({700}), {128}, 64) == TileRange{61, 64});
static_assert(within_tile(visible_keys<Swa<512>>({700}), {640}, 64) == TileRange{0, 61});

}  // namespace

TEST_CASE("a run of queries touches the tiles that hold a key in sight, and no other") {
  constexpr auto windows = std::make_integer_sequence<std::int64_t, 9>{};
  CHECK(exact_for_windows<1>(24, windows));
  CHECK(exact_for_windows<2>(24, windows));
  CHECK(exact_for_windows<3>(24, windows));
  CHECK(exact_for_windows<4>(24, windows));
  CHECK(exact_for_windows<8>(24, windows));
}
