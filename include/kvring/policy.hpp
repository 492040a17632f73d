// Policies: who may see what. A query at position p sees first_visible(p) ... p, in positions.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>

#include "kvring/checks.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// The window of a policy that has none.
inline constexpr std::int64_t unbounded = std::numeric_limits<std::int64_t>::max();

/// Causal attention over everything before.
struct Dense {
  static constexpr std::int64_t window = unbounded;
  KVRING_HD static constexpr Position first_visible(Position) { return {0}; }
};

/// Sliding-window attention: a query sees `Window` keys, itself included.
/// FlashAttention's `window_left` and transformers' mask offset are Window - 1.
template <std::int64_t Window>
struct Swa {
  static_assert(check::all<check::WindowIsPositive<Window>>);
  static constexpr std::int64_t window = Window;
  KVRING_HD static constexpr Position first_visible(Position query) {
    return {larger(0, query.value - (Window - 1))};
  }
};

template <class P>
concept LayerPolicy = requires(Position query) {
  { P::window } -> std::convertible_to<std::int64_t>;
  { P::first_visible(query) } -> std::same_as<Position>;
};

}  // namespace kvring
