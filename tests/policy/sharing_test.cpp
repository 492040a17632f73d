// KV sharing: which cache each layer reads, against the rule said in one sentence.
#include "kvring/sharing.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <utility>

using namespace kvring;

namespace {

constexpr Heads heads{.q = 2, .kv = 1, .dim = 8};
struct L : Layer<Swa<4>, heads> {};
struct G : Layer<Dense, heads> {};

template <class Layers, class Sharing>
constexpr auto donors = Sharing::template donors<Layers>();

// Gemma 4 E4B: 42 layers, 5 : 1, the last 18 share. Locals read layer 22, globals layer 23.
using E4B = Hybrid<42, Repeat<5, L>, G>;
constexpr bool e4b_is_right() {
  for (int i = 0; i < 42; ++i) {
    const bool global = i % 6 == 5;
    const int expected = i < 24 ? i : (global ? 23 : 22);
    if (donors<E4B, SharedKv<18>>[i] != expected) return false;
  }
  return true;
}
static_assert(e4b_is_right());

// Gemma 3n E4B: 35 layers, 4 : 1, the last 15 share. Locals read layer 18, globals layer 19.
using N4B = Hybrid<35, Repeat<4, L>, G>;
constexpr bool n4b_is_right() {
  for (int i = 0; i < 35; ++i) {
    const int expected = i < 20 ? i : (i % 5 == 4 ? 19 : 18);
    if (donors<N4B, SharedKv<15>>[i] != expected) return false;
  }
  return true;
}
static_assert(n4b_is_right());

/// A layer that shares reads the last layer before all sharers that is of its kind.
template <class Layers, std::int64_t Count>
constexpr bool shares_as_the_sentence_says() {
  constexpr std::int64_t owners = Layers::layers - Count;
  for (std::int64_t i = 0; i < Layers::layers; ++i) {
    std::int64_t expected = i;
    if (i >= owners) {
      expected = owners - 1;
      while (expected >= 0 && Layers::kind_of[expected] != Layers::kind_of[i]) --expected;
    }
    if (donors<Layers, SharedKv<Count>>[i] != expected) return false;
  }
  return true;
}

template <class Layers, std::int64_t... Count>
constexpr bool for_each_count(std::integer_sequence<std::int64_t, Count...>) {
  return (shares_as_the_sentence_says<Layers, Count>() && ...);
}
template <class Layers>
constexpr bool for_every_count() {
  return for_each_count<Layers>(std::make_integer_sequence<std::int64_t, Layers::layers + 1>{});
}
static_assert(for_every_count<Hybrid<12, Repeat<2, L>, G>>());
static_assert(for_every_count<Hybrid<11, Repeat<2, L>, G, Tail<Repeat<2, L>>>>());
static_assert(for_every_count<Hybrid<6, G>>());
static_assert(for_every_count<Hybrid<9, G, L, L>>());

// The rules accept what owns its cache, and the pairs of a correct sharing.
constexpr std::make_index_sequence<6> six{};
using Six = Hybrid<6, Repeat<2, L>, G>;
static_assert(detail::check_donors<Six, OwnKv>(six));
static_assert(detail::check_donors<Six, SharedKv<0>>(six));
static_assert(detail::check_donors<Six, SharedKv<3>>(six));
static_assert(detail::check_donors<Six, Donors<Donor<3, 1>, Donor<5, 2>>>(six));

}  // namespace

TEST_CASE("every layer owns its cache unless it shares") {
  for (int i = 0; i < 42; ++i) {
    CHECK(donors<E4B, OwnKv>[i] == i);
    CHECK(donors<E4B, SharedKv<0>>[i] == i);
    CHECK(donors<E4B, Donors<>>[i] == i);
  }
}

TEST_CASE("pairs are taken as written") {
  constexpr auto donor = donors<Six, Donors<Donor<3, 1>, Donor<5, 2>>>;
  CHECK(donor == std::array<int, 6>{0, 1, 2, 1, 4, 2});
}

TEST_CASE("a donor that no layer can be is marked, for the rule to refuse") {
  CHECK(donors<Hybrid<3, L, L, G>, SharedKv<1>>[2] == -1);  // no global before it
  CHECK(donors<Six, SharedKv<6>>[0] == -1);
}
