// KV sharing: which layers read another layer's cache instead of owning one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kvring/checks.hpp"
#include "kvring/hybrid.hpp"

namespace kvring {

/// Every layer owns its cache.
struct OwnKv {
  template <class Layers>
  static constexpr auto donors() {
    std::array<int, Layers::layers> donor{};
    for (int i = 0; i < Layers::layers; ++i) donor[i] = i;
    return donor;
  }
};

/// The last `Count` layers read the last layer of their kind that owns a cache (Gemma 3n, Gemma 4
/// E).
template <std::int64_t Count>
struct SharedKv {
  static_assert(check::all<check::SharedCountIsNotNegative<Count>>);

  template <class Layers>
  static constexpr auto donors() {
    auto donor = OwnKv::donors<Layers>();
    const std::int64_t owners = Layers::layers - Count;
    for (std::int64_t i = larger(0, owners); i < Layers::layers; ++i) {
      donor[i] = -1;
      for (std::int64_t j = 0; j < owners; ++j) {
        if (Layers::kind_of[j] == Layers::kind_of[i]) donor[i] = static_cast<int>(j);
      }
    }
    return donor;
  }
};

/// Layer `Reader` reads the cache of layer `From`.
template <std::int64_t Reader, std::int64_t From>
struct Donor {
  static constexpr std::int64_t reader = Reader, from = From;
};

/// Sharing written out: Donors<Donor<24, 22>, Donor<29, 23>>.
template <class... Pairs>
struct Donors {
  template <class Layers>
  static constexpr auto donors() {
    static_assert(check::all<check::ReaderExists<Pairs::reader, Layers::layers>...>);
    auto donor = OwnKv::donors<Layers>();
    ((donor[Pairs::reader] = static_cast<int>(Pairs::from)), ...);
    return donor;
  }
};

namespace detail {

/// The checks of one layer's donor; a layer that owns its cache passes.
template <std::int64_t Layer, std::int64_t Donor, bool Exists, bool Owns, bool SameKind>
struct DonorRules : check::DonorExists<Layer, Donor>,
                    check::DonorOwnsItsCache<Layer, Donor, Owns || !Exists>,
                    check::DonorIsOfTheSameKind<Layer, Donor, SameKind || !Exists> {};
template <std::int64_t Layer, bool Exists, bool Owns, bool SameKind>
struct DonorRules<Layer, Layer, Exists, Owns, SameKind> {};

template <class Layers, class Sharing, std::int64_t I>
struct DonorRulesOf {
  static constexpr auto donors = Sharing::template donors<Layers>();
  static constexpr std::int64_t donor = donors[I];
  static constexpr bool exists = donor >= 0 && donor < Layers::layers;
  static constexpr std::int64_t at = exists ? donor : I;
  static_assert(check::all<DonorRules<I, donor, exists, donors[at] == at,
                                      Layers::kind_of[at] == Layers::kind_of[I]>>);
};

template <class Layers, class Sharing, std::size_t... I>
constexpr bool check_donors(std::index_sequence<I...>) {
  return check::all<DonorRulesOf<Layers, Sharing, static_cast<std::int64_t>(I)>...>;
}

}  // namespace detail
}  // namespace kvring
