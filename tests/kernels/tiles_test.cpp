// Tiles: together they hold exactly the keys that are in sight, and none is out of sight.
#include "kvring/kernels/tiles.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

using namespace kvring;

namespace {

/// A window chosen at run time.
struct AnyWindow {
  static inline std::int64_t chosen = 1;
  static constexpr std::int64_t window = unbounded;
  static Position first_visible(Position query) {
    return {std::max<std::int64_t>(0, query.value - chosen + 1)};
  }
};

/// By counting: whether a query at p sees the key.
template <class Policy>
bool sees(std::int64_t p, std::int64_t key) {
  if (key < 0 || key > p) return false;
  return p - key < (std::is_same_v<Policy, AnyWindow> ? AnyWindow::chosen : Policy::window);
}

/// Broken laws of the tiles of queries first ... last.
template <class Policy, std::int64_t Tile>
long broken(std::int64_t first, std::int64_t last) {
  long wrong = 0;
  const KeyRange tiles = visible_tiles<Policy, Tile>({first}, {last});
  wrong += tiles.begin.value % Tile != 0 || tiles.end.value % Tile != 0;
  wrong += tiles.begin.value < 0 || tiles.begin >= tiles.end;

  // Every tile has a key that some query sees.
  for (Position tile = tiles.begin; tile < tiles.end; tile = tile + Tile) {
    bool in_sight = false;
    for (std::int64_t p = first; p <= last && !in_sight; ++p) {
      for (std::int64_t j = 0; j < Tile && !in_sight; ++j)
        in_sight = sees<Policy>(p, tile.value + j);
    }
    wrong += !in_sight;
  }

  // Every query meets exactly its keys, in the order of their positions.
  for (std::int64_t p = first; p <= last; ++p) {
    std::int64_t next = 0;
    while (!sees<Policy>(p, next)) ++next;
    for (Position tile = tiles.begin; tile < tiles.end; tile = tile + Tile) {
      const TileRange range = within_tile(visible_keys<Policy>({p}), tile, Tile);
      wrong += !range.empty() && (range.begin < 0 || range.end > Tile);
      for (std::int64_t j = range.begin; j < range.end; ++j) wrong += tile.value + j != next++;
    }
    wrong += next != p + 1;
  }
  return wrong;
}

template <std::int64_t Tile>
long broken_windows() {
  long wrong = 0;
  for (std::int64_t window = 1; window <= 20; ++window) {
    AnyWindow::chosen = window;
    for (std::int64_t first = 0; first <= 45; ++first) {
      for (std::int64_t last = first; last <= first + 9; ++last) {
        wrong += broken<AnyWindow, Tile>(first, last);
      }
    }
  }
  return wrong;
}

template <std::int64_t... I>
long broken_tiles(std::integer_sequence<std::int64_t, I...>) {
  return (broken_windows<I + 1>() + ...);
}

TEST_CASE("tiles of 1 ... 17 keys hold windows of 1 ... 20") {
  CHECK(broken_tiles(std::make_integer_sequence<std::int64_t, 17>{}) == 0);
}

TEST_CASE("tiles of the library's own policies") {
  for (std::int64_t first = 0; first <= 80; ++first) {
    for (std::int64_t last = first; last <= first + 20; ++last) {
      REQUIRE(broken<Dense, 1>(first, last) == 0);
      REQUIRE(broken<Dense, 16>(first, last) == 0);
      REQUIRE(broken<Swa<1>, 1>(first, last) == 0);
      REQUIRE(broken<Swa<1>, 16>(first, last) == 0);
      REQUIRE(broken<Swa<16>, 16>(first, last) == 0);
      REQUIRE(broken<Swa<17>, 16>(first, last) == 0);
      REQUIRE(broken<Swa<33>, 5>(first, last) == 0);
    }
  }
}

TEST_CASE("trap_15_positions_around_2_to_the_31_and_far_beyond") {
  for (const int bit : {31, 32, 40, 62}) {
    const std::int64_t middle = std::int64_t{1} << bit;
    for (std::int64_t p = middle - 40; p <= middle + 40; ++p) {
      const KeyRange keys = visible_keys<Swa<33>>({p});
      REQUIRE(keys.begin.value == p - 32);
      REQUIRE(keys.end.value == p + 1);
      const KeyRange tiles = visible_tiles<Swa<33>, 16>({p}, {p});
      REQUIRE(tiles.begin.value == keys.begin.value - keys.begin.value % 16);
      REQUIRE(tiles.end.value == p - p % 16 + 16);
      std::int64_t count = 0;
      for (Position tile = tiles.begin; tile < tiles.end; tile = tile + 16) {
        const TileRange range = within_tile(keys, tile, 16);
        count += range.end - range.begin;
      }
      REQUIRE(count == 33);
    }
  }
  // p - W + 1 below 0, as far as it goes.
  constexpr std::int64_t widest = unbounded - 1;
  CHECK(visible_keys<Swa<widest>>({0}).begin.value == 0);
  CHECK(visible_keys<Swa<widest>>({1'000'000}).begin.value == 0);
}

TEST_CASE("trap_05_window_counts_the_query") {
  static_assert(Swa<1>::first_visible({7}).value == 7);
  static_assert(Swa<4>::first_visible({7}).value == 4);
  static_assert(Swa<4>::first_visible({3}).value == 0 && Swa<4>::first_visible({4}).value == 1);
  static_assert(Dense::first_visible({7}).value == 0);
  CHECK(visible_keys<Swa<4>>({7}).end - visible_keys<Swa<4>>({7}).begin == 4);
}

}  // namespace
