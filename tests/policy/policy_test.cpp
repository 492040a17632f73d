// Who sees what: first_visible against the sentence that defines a window.
#include "kvring/policy.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>
#include <utility>

using namespace kvring;

namespace {

static_assert(LayerPolicy<Dense> && LayerPolicy<Swa<1>> && LayerPolicy<Swa<512>>);
static_assert(!LayerPolicy<int> && !LayerPolicy<Position>);
static_assert(Swa<512>::window == 512 && Dense::window == unbounded);

// The window counts the query: 512 keys seen from position 700 are 189 ... 700.
static_assert(Swa<512>::first_visible({700}) == Position{189});
static_assert(Swa<512>::first_visible({511}) == Position{0});
static_assert(Swa<512>::first_visible({512}) == Position{1});
static_assert(Swa<1>::first_visible({9}) == Position{9});
static_assert(Dense::first_visible({1 << 30}) == Position{0});

/// A window of `window` keys ends at the query.
constexpr bool sees(std::int64_t query, std::int64_t key, std::int64_t window) {
  return key >= 0 && key <= query && query - key < window;
}

template <class Policy>
constexpr bool agrees_with_sees(std::int64_t window, std::int64_t first, std::int64_t last) {
  for (std::int64_t query = first; query <= last; ++query) {
    std::int64_t seen = 0;
    for (std::int64_t key = larger(0, query - 20); key <= query + 3; ++key) {
      const bool visible = Position{key} >= Policy::first_visible({query}) && key <= query;
      if (visible != sees(query, key, window)) return false;
      seen += visible;
    }
    if (seen != smaller(window, query + 1) && window < 20) return false;
  }
  return true;
}

template <std::int64_t... Minus1>
constexpr bool all_windows_agree(std::integer_sequence<std::int64_t, Minus1...>, std::int64_t first,
                                 std::int64_t last) {
  return (agrees_with_sees<Swa<Minus1 + 1>>(Minus1 + 1, first, last) && ...);
}
using OneToSixteen = std::make_integer_sequence<std::int64_t, 16>;
static_assert(all_windows_agree(OneToSixteen{}, 0, 40));

}  // namespace

TEST_CASE("a query sees exactly its window, itself included") {
  CHECK(all_windows_agree(OneToSixteen{}, 0, 3'000));
}

TEST_CASE("windows near 2^31, 2^32 and 2^40") {
  for (const int power : {31, 32, 40}) {
    const std::int64_t edge = std::int64_t{1} << power;
    CHECK(all_windows_agree(OneToSixteen{}, edge - 40, edge + 40));
    CHECK(Dense::first_visible({edge}) == Position{0});
    CHECK(Swa<(std::int64_t{1} << 31) + 1>::first_visible({edge}).value == edge - (1ll << 31));
  }
}

TEST_CASE("a window longer than the sequence is Dense") {
  bool same = true;
  for (std::int64_t p = 0; p < 1'000; ++p) {
    same &= Swa<1'000>::first_visible({p}) == Dense::first_visible({p});
    same &= Swa<unbounded>::first_visible({p}) == Dense::first_visible({p});
  }
  CHECK(same);
  CHECK(Swa<1'000>::first_visible({1'000}) != Dense::first_visible({1'000}));
}
