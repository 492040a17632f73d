// The storage that Placement deduces is the smallest that holds every key in sight, found here by
// trying rings instead of by the formula.
#include "kvring/layer.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <cstdint>
#include <utility>

using namespace kvring;

namespace {

constexpr Heads heads{.q = 4, .kv = 2, .dim = 8};
static_assert(heads.group() == 2 && heads.q_dim() == 32 && heads.kv_dim() == 16);

template <std::int64_t W, class Storage = Deduced>
using Local = Layer<Swa<W>, heads, Storage>;
template <class Kind, std::int64_t C, std::int64_t B = 0, std::int64_t T = 1>
using Placed = Placement<Kind, Chunk<C>, Rewind<B>, KeyTile<T>>;
template <std::int64_t W, std::int64_t C, std::int64_t B = 0, std::int64_t T = 1>
constexpr std::int64_t deduced = Placed<Local<W>, C, B, T>::Storage::slots;

// The seed's rings, W + 4096 rounded: our bound is one slot less, and so is theirs after rounding.
static_assert(deduced<512, 4096, 64, 64> == 4608 && deduced<512, 4096> == 4607);
static_assert(deduced<1024, 4096, 64, 64> == 5120 && deduced<1024, 4096> == 5119);
static_assert(deduced<512, 1> == 512);            // decode alone
static_assert(deduced<512, 1, 1> == 512);         // undoing one step is free
static_assert(deduced<512, 16, 64> == 511 + 64);  // the deeper of the two decides
static_assert(deduced<512, 64, 16> == 511 + 64);
static_assert(std::same_as<Placed<Layer<Dense, heads>, 4096, 64, 64>::Storage, Full>);
static_assert(std::same_as<Placed<Local<512, Full>, 4096, 64, 64>::Storage, Full>);
static_assert(std::same_as<Placed<Local<512, Ring<4607>>, 4096>::Storage, Ring<4607>>);

/// A policy of the reader's own: no window, and not named Dense.
struct Everything {
  static constexpr std::int64_t window = unbounded;
  static constexpr Position first_visible(Position) { return {0}; }
};
static_assert(std::same_as<Placed<Layer<Everything, heads>, 16>::Storage, Full>);
static_assert(std::same_as<Placed<Layer<Swa<unbounded>, heads>, 16>::Storage, Full>);

/// After `newest` was written to a ring, no position of the query's window has lost its slot to a
/// newer one. The query's own counts: what was overwritten cannot be gone back to.
constexpr bool sees_all(std::int64_t slots, std::int64_t window, std::int64_t query,
                        std::int64_t newest) {
  for (std::int64_t key = larger(0, query - window + 1); key <= query; ++key) {
    for (std::int64_t later = key + 1; later <= newest; ++later) {
      if (later % slots == key % slots) return false;
    }
  }
  return true;
}

/// A ring serves if, wherever a chunk starts and however far back the sequence is taken, the next
/// query sees its window.
constexpr bool serves(std::int64_t slots, std::int64_t window, std::int64_t chunk,
                      std::int64_t rewind) {
  for (std::int64_t p = 0; p <= 2 * (window + slots); ++p) {
    if (!sees_all(slots, window, p, p + chunk - 1)) return false;
    if (!sees_all(slots, window, p, p + rewind - 1)) return false;
  }
  return true;
}

constexpr std::int64_t smallest_that_serves(std::int64_t window, std::int64_t chunk,
                                            std::int64_t rewind, std::int64_t tile) {
  std::int64_t slots = tile;
  while (!serves(slots, window, chunk, rewind)) slots += tile;
  return slots;
}

template <std::int64_t W, std::int64_t C, std::int64_t B, std::int64_t T>
constexpr bool placement_is_smallest() {
  using Placed = Placement<Local<W>, Chunk<C>, Rewind<B>, KeyTile<T>>;
  constexpr std::int64_t slots = Placed::Storage::slots;
  static_assert(slots == smallest_that_serves(W, C, B, T));
  static_assert(Placed::is_ring && Placed::key_tile == T && slots % T == 0);
  return true;
}

template <std::int64_t W, std::int64_t C, std::int64_t... B>
constexpr bool placements_are_smallest(std::integer_sequence<std::int64_t, B...>) {
  return (placement_is_smallest<W, C, B, 1>() && ...) &&
         (placement_is_smallest<W, C, B, 4>() && ...);
}
template <std::int64_t W, std::int64_t... C>
constexpr bool of_window(std::integer_sequence<std::int64_t, C...>) {
  return (placements_are_smallest<W, C + 1>(std::make_integer_sequence<std::int64_t, 5>{}) && ...);
}
template <std::int64_t... W>
constexpr bool of_all(std::integer_sequence<std::int64_t, W...>) {
  return (of_window<W + 1>(std::make_integer_sequence<std::int64_t, 4>{}) && ...);
}
static_assert(of_all(std::make_integer_sequence<std::int64_t, 4>{}));

}  // namespace

TEST_CASE("the deduced ring is the smallest multiple of the tile that serves") {
  int rings = 0;
  for (std::int64_t window = 1; window <= 9; ++window) {
    for (std::int64_t chunk = 1; chunk <= 9; ++chunk) {
      for (std::int64_t rewind = 0; rewind <= 9; ++rewind) {
        const std::int64_t needed = detail::ring_slots_needed(window, chunk, rewind);
        for (std::int64_t tile = 1; tile <= 6; ++tile, ++rings) {
          REQUIRE(round_up(needed, tile) == smallest_that_serves(window, chunk, rewind, tile));
        }
        REQUIRE(serves(needed, window, chunk, rewind));
        REQUIRE((needed == 1 || !serves(needed - 1, window, chunk, rewind)));
      }
    }
  }
  CHECK(rings == 9 * 9 * 10 * 6);
}

TEST_CASE("a deduced ring keeps what is visible among what is live") {
  bool inside = true;
  for (std::int64_t window = 1; window <= 12; ++window) {
    for (std::int64_t chunk = 1; chunk <= 12; ++chunk) {
      for (std::int64_t rewind = 0; rewind <= 12; ++rewind) {
        const std::int64_t slots = detail::ring_slots_needed(window, chunk, rewind);
        for (std::int64_t p = 0; p <= 60; ++p) {
          const std::int64_t oldest_seen = larger(0, p - (window - 1));
          inside &= oldest_seen > p + chunk - 1 - slots;   // first row of a chunk at p
          inside &= oldest_seen > p + rewind - 1 - slots;  // taken back to p
        }
      }
    }
  }
  CHECK(inside);
}

TEST_CASE("capacity is the context until the ring is reached") {
  using Ringed = Placed<Local<512>, 4096, 64, 64>;
  using Fulled = Placed<Layer<Dense, heads>, 4096, 64, 64>;
  for (std::int64_t context = 1; context <= 10'000; ++context) {
    REQUIRE(Ringed::capacity(context) == (context < 4608 ? context : 4608));
    REQUIRE(Fulled::capacity(context) == context);
  }
}
