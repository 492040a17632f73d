// Position and Slot stay apart; the small integer helpers do what their comments say.
#include "kvring/units.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

using namespace kvring;

namespace {

template <class A, class B>
concept Subtractable = requires(A a, B b) {
  a - b;
};
template <class A, class B>
concept Addable = requires(A a, B b) {
  a + b;
};
template <class A, class B>
concept Comparable = requires(A a, B b) {
  a == b;
};

// What must not be written: a position as a slot, a number as either, arithmetic across the two.
static_assert(!std::is_constructible_v<Slot, Position> && !std::is_constructible_v<Position, Slot>);
static_assert(!std::is_assignable_v<Slot&, Position> && !std::is_assignable_v<Position&, Slot>);
static_assert(!std::is_convertible_v<std::int64_t, Position>);
static_assert(!std::is_convertible_v<std::int64_t, Slot>);
static_assert(!std::is_convertible_v<Position, std::int64_t>);
static_assert(!std::is_convertible_v<Slot, std::int64_t>);
static_assert(!Comparable<Position, Slot> && !Comparable<Position, std::int64_t>);
static_assert(!Subtractable<Position, Slot> && !Subtractable<Slot, Slot>);
static_assert(!Addable<Position, Position> && !Addable<Position, Slot> &&
              !Addable<Slot, std::int64_t>);

// And what may.
static_assert(Comparable<Position, Position> && Comparable<Slot, Slot>);
static_assert(std::same_as<decltype(Position{} - Position{}), std::int64_t>);
static_assert(std::same_as<decltype(Position{} + 1), Position>);
static_assert(sizeof(Position) == 8 && std::is_trivially_copyable_v<Position>);
static_assert(sizeof(Slot) == 8 && std::is_trivially_copyable_v<Slot>);

/// The smallest q with q * b >= a, by counting.
constexpr std::int64_t counted_ceil_div(std::int64_t a, std::int64_t b) {
  std::int64_t q = 0;
  while (q * b < a) ++q;
  return q;
}

constexpr bool division_laws_hold(std::int64_t most_a, std::int64_t most_b) {
  for (std::int64_t a = 0; a <= most_a; ++a) {
    for (std::int64_t b = 1; b <= most_b; ++b) {
      if (ceil_div(a, b) != counted_ceil_div(a, b)) return false;
      if (round_up(a, b) < a || round_up(a, b) >= a + b || round_up(a, b) % b != 0) return false;
    }
  }
  return true;
}
static_assert(division_laws_hold(40, 12));

}  // namespace

TEST_CASE("ceil_div and round_up agree with counting") { CHECK(division_laws_hold(600, 70)); }

TEST_CASE("smaller and larger") {
  for (std::int64_t a = -3; a <= 3; ++a) {
    for (std::int64_t b = -3; b <= 3; ++b) {
      CHECK(smaller(a, b) + larger(a, b) == a + b);
      CHECK(smaller(a, b) <= larger(a, b));
    }
  }
}

TEST_CASE("positions count beyond 32 bits") {
  for (const std::int64_t edge : {std::int64_t{1} << 31, std::int64_t{1} << 32}) {
    for (std::int64_t n = -3; n <= 3; ++n) {
      const Position p{edge + n};
      CHECK((p - 5).value == edge + n - 5);
      CHECK((p + 5) - p == 5);
      CHECK(p - Position{0} == edge + n);
      CHECK(p > Position{n});  // truncated to 32 bits it would not be
    }
  }
}
