// Position and Slot: the two indices that must never be mixed, as two types.
#pragma once

#include <compare>
#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

/// Absolute index of a token in its sequence. Masks, RoPE and windows use nothing else.
struct Position {
  std::int64_t value = 0;

  // Written out: what <=> returns cannot be compared on a device.
  KVRING_HD friend constexpr bool operator==(Position a, Position b) { return a.value == b.value; }
  KVRING_HD friend constexpr bool operator<(Position a, Position b) { return a.value < b.value; }
  KVRING_HD friend constexpr bool operator>(Position a, Position b) { return a.value > b.value; }
  KVRING_HD friend constexpr bool operator<=(Position a, Position b) { return a.value <= b.value; }
  KVRING_HD friend constexpr bool operator>=(Position a, Position b) { return a.value >= b.value; }
};

/// Index of a row in a cache. Only memory access uses it; only a storage turns a Position into one.
struct Slot {
  std::int64_t value = 0;
  friend constexpr auto operator<=>(Slot, Slot) = default;
};

KVRING_HD constexpr Position operator+(Position p, std::int64_t n) { return {p.value + n}; }
KVRING_HD constexpr Position operator-(Position p, std::int64_t n) { return {p.value - n}; }
KVRING_HD constexpr std::int64_t operator-(Position a, Position b) { return a.value - b.value; }

/// Smallest q with q * b >= a, for a >= 0 and b > 0.
KVRING_HD constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// `a` rounded up to a multiple of `step`, for a >= 0 and step > 0.
KVRING_HD constexpr std::int64_t round_up(std::int64_t a, std::int64_t step) {
  return ceil_div(a, step) * step;
}

/// The smaller and the larger of two, on host and device, at compile time too.
KVRING_HD constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
KVRING_HD constexpr std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

}  // namespace kvring
