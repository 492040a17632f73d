// Plan: a model, an element type, a chunk and a rewind, settled and proved: the storage of each
// layer, and the bytes that everything takes before anything is allocated.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kvring/checks.hpp"
#include "kvring/chunk.hpp"
#include "kvring/element.hpp"
#include "kvring/hybrid.hpp"
#include "kvring/live_range.hpp"
#include "kvring/sharing.hpp"

namespace kvring {

namespace detail {

template <class Model>
concept StatesLayers = requires {
  typename Model::Layers;
};
template <class Model>
concept StatesAWindow = requires {
  Model::sliding_window;
};
template <class Model>
concept StatesSharing = requires {
  typename Model::Sharing;
};

template <class Model>
struct SharingOf {
  using type = OwnKv;
};
template <StatesSharing Model>
struct SharingOf<Model> {
  using type = typename Model::Sharing;
};

}  // namespace detail

/// `Model` needs `using Layers = Hybrid<...>` and may have `using Sharing = SharedKv<...>`.
/// Bytes are exact: what Caches allocates, no rounding.
template <class ModelType, Element ElementType, class ChunkType, class RewindType = Rewind<0>,
          class KeyTileType = KeyTile<64>>
class Plan {
  static_assert(
      check::all<check::WindowNeedsAPattern<ModelType, detail::StatesLayers<ModelType> ||
                                                           !detail::StatesAWindow<ModelType>>>);
  static_assert(
      check::all<check::ModelHasAPattern<ModelType, detail::StatesLayers<ModelType> ||
                                                        detail::StatesAWindow<ModelType>>>);

 public:
  using Model = ModelType;
  using Element = ElementType;
  using Layers = typename Model::Layers;
  using Kinds = typename Layers::Kinds;
  using Sharing = typename detail::SharingOf<Model>::type;
  static_assert(detail::check_donors<Layers, Sharing>(std::make_index_sequence<Layers::layers>{}));

  template <class Kind>
  using PlacementOf = Placement<Kind, ChunkType, RewindType, KeyTileType>;
  /// What it is in `Staged`.
  template <class Kind>
  using StagedPlacementOf = Placement<Kind, StagedChunk<ChunkType::rows>, RewindType, KeyTileType>;

  static constexpr std::int64_t layers = Layers::layers;
  static constexpr std::int64_t kinds = Kinds::size;
  static constexpr std::int64_t chunk = ChunkType::rows;
  static constexpr bool is_staged = ChunkType::is_staged;
  /// The same with chunks in a stage: what it would take.
  using Staged = Plan<ModelType, ElementType, StagedChunk<chunk>, RewindType, KeyTileType>;
  static constexpr std::int64_t rewind = RewindType::rows;
  static constexpr std::int64_t key_tile = KeyTileType::keys;

  /// Index into Kinds of each layer, and the layer whose cache it reads (its own index: it owns
  /// one).
  static constexpr auto kind_of = Layers::kind_of;
  static constexpr auto donor_of = Sharing::template donors<Layers>();
  static constexpr bool owns_cache(std::int64_t layer) { return donor_of[layer] == layer; }

  /// Slots of layer I's ring.
  template <std::int64_t I>
  static constexpr std::int64_t ring_slots() {
    return PlacementOf<typename Layers::template Kind<I>>::Storage::slots;
  }

  /// Slots that layer `layer` gets for each sequence of up to `context` positions.
  static constexpr std::int64_t capacity(std::int64_t layer, std::int64_t context) {
    return with_kind(kind_of[layer], [&](auto kind) {
      return PlacementOf<typename decltype(kind)::type>::capacity(context);
    });
  }

  /// Bytes of one K row and one V row of a layer.
  static constexpr std::int64_t row_bytes(std::int64_t layer) {
    return with_kind(kind_of[layer], [](auto kind) {
      constexpr std::int64_t bytes = sizeof(Element);
      return 2 * decltype(kind)::type::heads.kv_dim() * bytes;
    });
  }

  /// Bytes of a layer's cache; 0 for a layer that reads a donor's.
  static constexpr std::int64_t layer_bytes(std::int64_t layer, std::int64_t context,
                                            std::int64_t sequences = 1) {
    return owns_cache(layer) ? sequences * capacity(layer, context) * row_bytes(layer) : 0;
  }

  /// Bytes of all caches for `sequences` sequences of up to `context` positions.
  static constexpr std::int64_t cache_bytes(std::int64_t context, std::int64_t sequences = 1) {
    std::int64_t bytes = 0;
    for (std::int64_t i = 0; i < layers; ++i) bytes += layer_bytes(i, context, sequences);
    return bytes;
  }

  /// What the same layers would take if each position had its own slot everywhere.
  static constexpr std::int64_t full_cache_bytes(std::int64_t context, std::int64_t sequences = 1) {
    std::int64_t bytes = 0;
    for (std::int64_t i = 0; i < layers; ++i) {
      bytes += owns_cache(i) ? sequences * context * row_bytes(i) : 0;
    }
    return bytes;
  }

  /// The longest context whose caches fit into `bytes`: cache_bytes(result) <= bytes, and one
  /// position more does not fit. 0 if nothing fits; `unbounded` if every layer is a ring that does.
  static constexpr std::int64_t max_context(std::int64_t bytes, std::int64_t sequences = 1) {
    // Sequences all take the same. By doubling, no product leaves 64 bits.
    const std::int64_t budget = smaller(bytes / sequences, std::int64_t{1} << 61);
    std::int64_t fits = 0, too_long = 1;
    while (cache_bytes(too_long) <= budget) {
      fits = too_long;
      too_long *= 2;
      if (too_long > std::int64_t{1} << 40) return unbounded;
    }
    while (too_long - fits > 1) {
      const std::int64_t middle = fits + (too_long - fits) / 2;
      (cache_bytes(middle) <= budget ? fits : too_long) = middle;
    }
    return fits;
  }

  /// One LiveRange for each kind of layer.
  static constexpr std::array<LiveRange, static_cast<std::size_t>(kinds)> live_ranges(
      std::int64_t context) {
    return [&]<class... Kind>(TypeList<Kind...>) {
      return std::array<LiveRange, sizeof...(Kind)>{
          LiveRange(PlacementOf<Kind>::capacity(context), Kind::Policy::window, context,
                    PlacementOf<Kind>::is_staged ? chunk : 0)...};
    }(Kinds{});
  }

  /// f(std::type_identity<Kind>{}) for the kind of that index.
  template <class F>
  static constexpr auto with_kind(int kind, F&& f) {
    return with_kind_of_list(kind, f, Kinds{});
  }

 private:
  template <class F, class First, class... Rest>
  static constexpr auto with_kind_of_list(int kind, F& f, TypeList<First, Rest...>) {
    if constexpr (sizeof...(Rest) > 0) {
      if (kind > 0) return with_kind_of_list(kind - 1, f, TypeList<Rest...>{});
    }
    return f(std::type_identity<First>{});
  }
};

/// The live ranges of one sequence in every kind of layer of a plan. An operation is legal if it is
/// legal in all of them; a refused one has changed nothing.
template <class PlanType>
class Timeline {
 public:
  explicit constexpr Timeline(std::int64_t context) : ranges_(PlanType::live_ranges(context)) {}

  constexpr std::int64_t length() const { return ranges_[0].length(); }

  constexpr std::int64_t appendable() const {
    std::int64_t rows = unbounded;
    for (const LiveRange& range : ranges_) rows = smaller(rows, range.appendable());
    return rows;
  }
  constexpr Position rewind_floor() const {
    Position floor{0};
    for (const LiveRange& range : ranges_) floor = std::max(floor, range.rewind_floor());
    return floor;
  }
  constexpr void require_append(std::int64_t rows) const {
    for (const LiveRange& range : ranges_) range.require_append(rows);
  }
  constexpr void append(std::int64_t rows) {
    require_append(rows);
    for (LiveRange& range : ranges_) range.append(rows);
  }
  constexpr void rewind_to(Position p) {
    for (const LiveRange& range : ranges_) range.require_rewind_to(p);
    for (LiveRange& range : ranges_) range.rewind_to(p);
  }
  /// One past the highest position ever written, the same in every kind.
  constexpr std::int64_t written() const { return ranges_[0].written(); }

  /// Goes on where another timeline stood, once the caches hold what was live of its sequence.
  constexpr void require_resume(std::int64_t length, std::int64_t written) const {
    for (const LiveRange& range : ranges_) range.require_resume(length, written);
  }
  constexpr void resume(std::int64_t length, std::int64_t written) {
    require_resume(length, written);
    for (LiveRange& range : ranges_) range.resume(length, written);
  }
  constexpr const LiveRange& range_of_kind(int kind) const { return ranges_[kind]; }

 private:
  std::array<LiveRange, static_cast<std::size_t>(PlanType::kinds)> ranges_;
};

}  // namespace kvring
