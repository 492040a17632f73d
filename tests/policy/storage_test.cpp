// Where a position lives: the laws that a ring must keep for all that is live.
#include "kvring/storage.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <initializer_list>

using namespace kvring;

namespace {

static_assert(is_storage<Full> && is_storage<Deduced> && is_storage<Ring<1>>);
static_assert(!is_storage<int> && !is_storage<Slot>);
static_assert(Ring<4608>::slot({5'000}, 4608) == Slot{392});
static_assert(Full::slot({5'000}, 8192) == Slot{5'000});

// `slots` at run time stands for every ring: Ring's own count is only its default.
constexpr std::int64_t ring_slot(std::int64_t p, std::int64_t slots) {
  return Ring<64>::slot({p}, slots).value;
}

/// The `slots` newest positions have each a slot of their own, and one more would not.
constexpr bool live_range_is_injective(std::int64_t slots, std::int64_t newest) {
  std::array<bool, 64> taken{};
  for (std::int64_t p = larger(0, newest - slots + 1); p <= newest; ++p) {
    const std::int64_t slot = ring_slot(p, slots);
    if (slot < 0 || slot >= slots || taken[slot]) return false;
    taken[slot] = true;
  }
  return newest < slots || taken[ring_slot(newest - slots, slots)];
}

constexpr bool rings_are_injective(std::int64_t most_slots, std::int64_t from) {
  for (std::int64_t slots = 1; slots <= most_slots; ++slots) {
    for (std::int64_t newest = from; newest <= from + 4 * slots + 1; ++newest) {
      if (!live_range_is_injective(slots, newest)) return false;
    }
  }
  return true;
}
static_assert(rings_are_injective(8, 0));

/// The keys of a tile that starts at a multiple of `tile` lie side by side.
constexpr bool tiles_are_contiguous(std::int64_t slots, std::int64_t tile) {
  for (std::int64_t first = 0; first < 4 * slots * tile; first += tile) {
    for (std::int64_t i = 0; i < tile; ++i) {
      if (ring_slot(first + i, slots) != ring_slot(first, slots) + i) return false;
    }
  }
  return true;
}
static_assert(tiles_are_contiguous(12, 4) && !tiles_are_contiguous(11, 4));

}  // namespace

TEST_CASE("a ring gives each live position its own slot") {
  CHECK(rings_are_injective(64, 0));
  for (const int power : {31, 32, 40}) CHECK(rings_are_injective(64, (1ll << power) - 70));
}

TEST_CASE("a tile of keys straddles the wrap unless the ring is whole tiles") {
  for (std::int64_t slots = 1; slots <= 48; ++slots) {
    for (std::int64_t tile = 1; tile <= slots; ++tile) {
      CAPTURE(slots);
      CAPTURE(tile);
      CHECK(tiles_are_contiguous(slots, tile) == (slots % tile == 0));
    }
  }
}

TEST_CASE("a ring cut to a short context is a full cache") {
  bool same = true;
  for (std::int64_t context = 1; context <= 64; ++context) {
    for (std::int64_t p = 0; p < context; ++p) {
      same &= Ring<64>::slot({p}, context) == Full::slot({p}, context);
      same &= Full::slot({p}, context) == Slot{p};
    }
  }
  CHECK(same);
}
