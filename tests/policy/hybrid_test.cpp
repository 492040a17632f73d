// Patterns: the kind of each layer, counted out by hand, and the list of distinct kinds.
#include "kvring/hybrid.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <string>

using namespace kvring;

namespace {

constexpr Heads heads{.q = 2, .kv = 1, .dim = 8};
struct L : Layer<Swa<4>, heads> {};
struct M : Layer<Swa<8>, heads> {};
struct G : Layer<Dense, heads> {};

/// One letter a layer: a = first kind, b = second ...
template <class Layers>
constexpr bool spells(const char* letters) {
  std::int64_t i = 0;
  for (; letters[i] != '\0'; ++i) {
    if (i >= Layers::layers || Layers::kind_of[i] != letters[i] - 'a') return false;
  }
  return i == Layers::layers;
}

static_assert(spells<Hybrid<1, G>>("a"));
static_assert(spells<Hybrid<4, G>>("aaaa"));
static_assert(spells<Hybrid<6, L, G>>("ababab"));
static_assert(spells<Hybrid<18, Repeat<5, L>, G>>("aaaaabaaaaabaaaaab"));
static_assert(spells<Hybrid<8, Repeat<2, L>, G, Tail<Repeat<2, L>>>>("aabaabaa"));
static_assert(spells<Hybrid<8, Repeat<2, L>, G, Tail<L, L>>>("aabaabaa"));
static_assert(spells<Hybrid<7, L, M, G, Tail<G>>>("abcabcc"));
static_assert(spells<Hybrid<4, L, G, Tail<M, M>>>("abcc"));  // a kind of the tail alone
static_assert(spells<Hybrid<2, L, G, Tail<M, M>>>("cc"));    // a pattern that fits no time
static_assert(spells<Hybrid<6, G, Repeat<2, L>>>("abbabb"));
static_assert(spells<Hybrid<8, Repeat<3, L>, Repeat<1, G>>>("aaabaaab"));

static_assert(std::same_as<Hybrid<6, Repeat<2, L>, G>::Kinds, TypeList<L, G>>);
static_assert(std::same_as<Hybrid<6, G, Repeat<2, L>>::Kinds, TypeList<G, L>>);
static_assert(std::same_as<Hybrid<7, L, M, G, Tail<G>>::Kinds, TypeList<L, M, G>>);
static_assert(std::same_as<Hybrid<4, L, L>::Kinds, TypeList<L>>);

using Mixed = Hybrid<8, Repeat<2, L>, G, Tail<M, L>>;
static_assert(std::same_as<Mixed::Kind<0>, L> && std::same_as<Mixed::Kind<2>, G>);
static_assert(std::same_as<Mixed::Kind<5>, G> && std::same_as<Mixed::Kind<6>, M>);
static_assert(std::same_as<Mixed::Kind<7>, L>);

// Two kinds of one shape stay two kinds if they are two types, and are one if they are one type.
struct AlsoL : Layer<Swa<4>, heads> {};
static_assert(Hybrid<2, L, AlsoL>::Kinds::size == 2);
static_assert(Hybrid<2, Layer<Swa<4>, heads>, Layer<Swa<4>, heads>>::Kinds::size == 1);

/// Gemma's rule, said by index instead of by pattern: layer i is global iff (i + 1) % 6 == 0.
template <class Layers>
constexpr bool every_sixth_is_global() {
  for (std::int64_t i = 0; i < Layers::layers; ++i) {
    if (Layers::kind_of[i] != ((i + 1) % 6 == 0 ? 1 : 0)) return false;
  }
  return true;
}
static_assert(every_sixth_is_global<Hybrid<18, Repeat<5, L>, G>>());
static_assert(every_sixth_is_global<Hybrid<26, Repeat<5, L>, G, Tail<Repeat<2, L>>>>());
static_assert(every_sixth_is_global<Hybrid<34, Repeat<5, L>, G, Tail<Repeat<4, L>>>>());
static_assert(every_sixth_is_global<Hybrid<48, Repeat<5, L>, G>>());
static_assert(every_sixth_is_global<Hybrid<62, Repeat<5, L>, G, Tail<Repeat<2, L>>>>());

template <std::int64_t Locals, std::int64_t Times, std::int64_t Rest>
std::string spelled() {
  using Layers = Hybrid<(Locals + 1) * Times + Rest, Repeat<Locals, L>, G, Tail<Repeat<Rest, L>>>;
  std::string letters;
  for (const int kind : Layers::kind_of) letters += static_cast<char>('a' + kind);
  return letters;
}

std::string repeated(int locals, int times, int rest) {
  std::string letters;
  for (int i = 0; i < times; ++i) letters += std::string(locals, 'a') + 'b';
  return letters + std::string(rest, 'a');
}

}  // namespace

TEST_CASE("a pattern repeats, then the tail follows") {
  CHECK(spelled<1, 1, 1>() == repeated(1, 1, 1));
  CHECK(spelled<1, 9, 1>() == repeated(1, 9, 1));
  CHECK(spelled<3, 2, 2>() == repeated(3, 2, 2));
  CHECK(spelled<5, 10, 2>() == repeated(5, 10, 2));
  CHECK(spelled<7, 3, 9>() == repeated(7, 3, 9));
  CHECK(spelled<3, 31, 4>() == repeated(3, 31, 4));
}

TEST_CASE("a long model counts its kinds") {
  using Layers = Hybrid<512, Repeat<7, L>, G>;
  CHECK(std::count(Layers::kind_of.begin(), Layers::kind_of.end(), 0) == 448);
  CHECK(std::count(Layers::kind_of.begin(), Layers::kind_of.end(), 1) == 64);
}
