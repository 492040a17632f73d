// Storage: in which slot a position lives. The only place that turns a Position into a Slot.
#pragma once

#include <cstdint>

#include "kvring/checks.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// One slot a position. `slots` is the capacity; a position at or past it must have been refused.
struct Full {
  static constexpr bool is_ring = false;
  KVRING_HD static constexpr Slot slot(Position p, std::int64_t /*slots*/) { return {p.value}; }
};

/// `Slots` slots, written and read at position % slots. With a context shorter than the ring a
/// cache allocates fewer slots, one for each position; so the count that is used comes from the
/// cache.
template <std::int64_t Slots>
struct Ring {
  static_assert(check::all<check::RingIsPositive<Slots>>);
  static constexpr bool is_ring = true;
  static constexpr std::int64_t slots = Slots;
  KVRING_HD static constexpr Slot slot(Position p, std::int64_t slots) { return {p.value % slots}; }
};

/// Let the plan choose: Full for Dense, the smallest proved ring for a window.
struct Deduced {};

template <class>
inline constexpr bool is_storage = false;
template <>
inline constexpr bool is_storage<Full> = true;
template <>
inline constexpr bool is_storage<Deduced> = true;
template <std::int64_t Slots>
inline constexpr bool is_storage<Ring<Slots>> = true;

}  // namespace kvring
