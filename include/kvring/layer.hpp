// Layer joins a policy, a head shape and a storage; Placement proves that the storage holds what
// the policy sees while chunks are appended or staged and positions are taken back.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "kvring/checks.hpp"
#include "kvring/chunk.hpp"
#include "kvring/heads.hpp"
#include "kvring/policy.hpp"
#include "kvring/storage.hpp"

namespace kvring {

namespace detail {

template <class PolicyType, class Storage>
struct StorageRules {};
template <class PolicyType, std::int64_t Slots>
struct StorageRules<PolicyType, Ring<Slots>>
    : check::RingNeedsAWindow<PolicyType::window != unbounded, Slots> {};

}  // namespace detail

/// A kind of layer. Derive from it to add what a decoder wants to know (RoPE, query scale):
/// struct Local : Layer<Swa<512>, Heads{.q = 4, .kv = 1, .dim = 256}> { ... };
template <LayerPolicy PolicyType, Heads Shape, class StorageType = Deduced>
struct Layer {
  static_assert(check::all<check::HeadsArePositive<Shape.q, Shape.kv, Shape.dim>>);
  static_assert(check::all < check::KvHeadsDivideQHeads<Shape.q, Shape.kv<1 ? 1 : Shape.kv>>);
  static_assert(check::all<check::StorageIsKnown<StorageType, is_storage<StorageType>>>);
  static_assert(check::all<detail::StorageRules<PolicyType, StorageType>>);

  using Policy = PolicyType;
  using Storage = StorageType;
  static constexpr Heads heads = Shape;
};

template <class K>
concept LayerKind = LayerPolicy<typename K::Policy> && is_storage<typename K::Storage> &&
    std::same_as<decltype(K::heads), const Heads>;

namespace detail {

/// Slots that keep every key in sight while C positions are appended before the first of them
/// attends, or B positions are taken back. Proof: the oldest key that the first row of a chunk at p
/// needs is p - (W - 1), and the newest position written is p + C - 1; both live iff
/// p + C - 1 - (p - (W - 1)) < R. The same with the high-water mark p + B - 1 of a sequence that
/// was taken back to p.
constexpr std::int64_t ring_slots_needed(std::int64_t window, std::int64_t chunk,
                                         std::int64_t rewind) {
  return window - 1 + larger(chunk, rewind);
}

/// Rows that a ring must take before the first of them attends. A staged chunk is not among them,
/// but a decoded token is.
template <class ChunkType>
inline constexpr std::int64_t rows_in_ring = ChunkType::is_staged ? 1 : ChunkType::rows;

template <class Policy, class Storage, class ChunkType, std::int64_t B, std::int64_t Tile>
struct ResolveStorage {
  using type = Storage;  // written out
};
template <class Policy, class ChunkType, std::int64_t B, std::int64_t Tile>
requires(Policy::window == unbounded) struct ResolveStorage<Policy, Deduced, ChunkType, B, Tile> {
  using type = Full;
};
template <class Policy, class ChunkType, std::int64_t B, std::int64_t Tile>
requires(Policy::window != unbounded) struct ResolveStorage<Policy, Deduced, ChunkType, B, Tile> {
  using type = Ring<round_up(ring_slots_needed(Policy::window, rows_in_ring<ChunkType>, B), Tile)>;
};

template <std::int64_t Slots, std::int64_t Window, class ChunkType, std::int64_t B>
struct ChunkRules
    : check::RingHoldsWindowAndChunk<Slots, ring_slots_needed(Window, ChunkType::rows, B)>,
      check::ChunkFitsHeadroom<ChunkType::rows, Slots - (Window - 1)> {};
template <std::int64_t Slots, std::int64_t Window, class ChunkType, std::int64_t B>
requires(ChunkType::is_staged) struct ChunkRules<Slots, Window, ChunkType, B>
    : check::StagedRingHoldsWindow<Slots, ring_slots_needed(Window, 1, B)> {
};

template <class Policy, class Storage, class ChunkType, std::int64_t B, std::int64_t Tile>
struct PlacementRules {};  // a ring without a window is refused by Layer
template <class Policy, std::int64_t Slots, class ChunkType, std::int64_t B, std::int64_t Tile>
requires(Policy::window != unbounded) struct PlacementRules<Policy, Ring<Slots>, ChunkType, B, Tile>
    : ChunkRules<Slots, Policy::window, ChunkType, B>,
      check::RewindFitsHeadroom<B, Slots - (Policy::window - 1)>,
      check::RingIsWholeTiles<Slots, Tile> {
};

}  // namespace detail

/// A layer kind with its storage settled and proved for a chunk, a rewind and a key tile.
template <LayerKind KindType, class ChunkType, class RewindType, class KeyTileType>
struct Placement {
  using Kind = KindType;
  using Policy = typename Kind::Policy;
  using Storage = typename detail::ResolveStorage<Policy, typename Kind::Storage, ChunkType,
                                                  RewindType::rows, KeyTileType::keys>::type;
  static_assert(check::all<detail::PlacementRules<Policy, Storage, ChunkType, RewindType::rows,
                                                  KeyTileType::keys>>);

  static constexpr bool is_ring = Storage::is_ring;
  /// Chunks that are longer than the headroom attend before they are in the ring.
  static constexpr bool is_staged = is_ring && ChunkType::is_staged;
  static constexpr Heads heads = Kind::heads;
  static constexpr std::int64_t key_tile = KeyTileType::keys;

  /// Slots to allocate for a context of `context` positions: min(context, ring).
  static constexpr std::int64_t capacity(std::int64_t context) {
    if constexpr (is_ring) {
      return smaller(context, Storage::slots);
    } else {
      return context;
    }
  }
};

}  // namespace kvring
