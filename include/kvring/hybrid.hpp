// Hybrid: which kind of layer stands where. A pattern is stated, never assumed.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kvring/checks.hpp"
#include "kvring/layer.hpp"

namespace kvring {

/// `Count` layers of one kind, inside a pattern.
template <std::int64_t Count, LayerKind Kind>
struct Repeat {
  static_assert(check::all<check::RepeatIsPositive<Count>>);
};

/// The layers after the last whole pattern. Kinds and Repeats, as in a pattern.
template <class... Items>
struct Tail {};

template <class... Types>
struct TypeList {
  static constexpr std::int64_t size = sizeof...(Types);
};

namespace detail {

template <class... Lists>
struct Concat;
template <>
struct Concat<> {
  using type = TypeList<>;
};
template <class... A>
struct Concat<TypeList<A...>> {
  using type = TypeList<A...>;
};
template <class... A, class... B, class... Rest>
struct Concat<TypeList<A...>, TypeList<B...>, Rest...> : Concat<TypeList<A..., B...>, Rest...> {};

template <class Item>
struct Expand {
  using type = TypeList<Item>;
};
template <std::int64_t Count, class Kind>
struct Expand<Repeat<Count, Kind>> {
  template <class>
  struct Times;
  template <std::int64_t... I>
  struct Times<std::integer_sequence<std::int64_t, I...>> {
    template <std::int64_t>
    using One = Kind;
    using type = TypeList<One<I>...>;
  };
  using type =
      typename Times<std::make_integer_sequence<std::int64_t, (Count > 0 ? Count : 0)>>::type;
};
template <class... Items>
struct Expand<Tail<Items...>> : Concat<typename Expand<Items>::type...> {};

template <class>
inline constexpr bool is_tail = false;
template <class... Items>
inline constexpr bool is_tail<Tail<Items...>> = true;

/// The items of a Hybrid without its Tail, and the Tail's.
template <class... Items>
using PatternOf = typename Concat<
    std::conditional_t<is_tail<Items>, TypeList<>, typename Expand<Items>::type>...>::type;
template <class... Items>
using TailOf = typename Concat<
    std::conditional_t<is_tail<Items>, typename Expand<Items>::type, TypeList<>>...>::type;

template <class List, class... Seen>
struct Unique {
  using type = TypeList<Seen...>;
};
template <class First, class... Rest, class... Seen>
struct Unique<TypeList<First, Rest...>, Seen...>
    : std::conditional_t<(std::is_same_v<First, Seen> || ...), Unique<TypeList<Rest...>, Seen...>,
                         Unique<TypeList<Rest...>, Seen..., First>> {};

template <class Wanted, class... Kinds>
constexpr int index_of(TypeList<Kinds...>) {
  int index = 0;
  (void)((std::is_same_v<Wanted, Kinds> || (++index, false)) || ...);
  return index;
}

template <std::int64_t I, class First, class... Rest>
struct TypeAt : TypeAt<I - 1, Rest...> {};
template <class First, class... Rest>
struct TypeAt<0, First, Rest...> {
  using type = First;
};

template <std::int64_t I, class List>
struct KindAt;
template <std::int64_t I, class... Kinds>
struct KindAt<I, TypeList<Kinds...>> : TypeAt<I, Kinds...> {};

}  // namespace detail

/// `Layers` layers, the pattern repeated as often as it fits:
/// Hybrid<18, Repeat<5, Local>, Global>                          5 : 1, three times
/// Hybrid<26, Repeat<5, Local>, Global, Tail<Repeat<2, Local>>>  four times, and two more
template <std::int64_t Layers, class... Items>
struct Hybrid {
 private:
  using Pattern = detail::PatternOf<Items...>;
  using Rest = detail::TailOf<Items...>;
  static constexpr std::int64_t period = Pattern::size;

 public:
  static_assert(check::all<check::LayerCountIsPositive<Layers>>);
  static_assert(check::all<check::PatternIsNotEmpty<period>>);
  static_assert(
      check::all<check::PatternFillsLayers<Layers, period == 0 ? 1 : period, Rest::size>>);

  static constexpr std::int64_t layers = Layers;
  using Kinds = typename detail::Unique<typename detail::Concat<Pattern, Rest>::type>::type;

  /// Index into Kinds of each layer.
  static constexpr std::array<int, (Layers > 0 ? Layers : 0)> kind_of = [] {
    const auto indices = []<class... Kind>(TypeList<Kind...>) {
      return std::array<int, sizeof...(Kind) + 1>{detail::index_of<Kind>(Kinds{})..., -1};
    };
    constexpr auto pattern = indices(Pattern{});
    constexpr auto rest = indices(Rest{});
    std::array<int, (Layers > 0 ? Layers : 0)> kinds{};
    for (std::int64_t i = 0; i < Layers; ++i) {
      const std::int64_t past = i - (Layers - Rest::size);
      kinds[i] = past >= 0 ? rest[past] : pattern[i % (period == 0 ? 1 : period)];
    }
    return kinds;
  }();

  template <std::int64_t I>
  using Kind = typename detail::KindAt<kind_of[I], Kinds>::type;
};

}  // namespace kvring
