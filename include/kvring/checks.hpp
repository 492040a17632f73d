// Every rule that the compiler enforces, on one page. A rule is a type that takes the numbers it
// compares, so that the compiler's report shows them; its message says what is wrong and the cure.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring::check {

/// Instantiates the rules it is given; true, once all of them compile.
template <class... Rules>
inline constexpr bool all = (sizeof(Rules) + ... + 1) > 0;

template <std::int64_t Window>
struct WindowIsPositive {
  static_assert(
      Window >= 1,
      "kvring: window below 1: Swa<Window> counts the query itself, so use Swa<1> or more");
};

template <std::int64_t Chunk>
struct ChunkIsPositive {
  static_assert(Chunk >= 1, "kvring: chunk below 1: use Chunk<1> or more");
};

template <std::int64_t Rewind>
struct RewindIsNotNegative {
  static_assert(Rewind >= 0,
                "kvring: rewind below 0: use Rewind<0> where nothing is ever taken back");
};

template <std::int64_t KeyTile>
struct KeyTileIsPositive {
  static_assert(KeyTile >= 1, "kvring: key tile below 1: use KeyTile<1> or more");
};

template <std::int64_t Slots>
struct RingIsPositive {
  static_assert(Slots >= 1, "kvring: ring of no slots: use Ring<1> or more, or let it be deduced");
};

template <std::int64_t QHeads, std::int64_t KvHeads, std::int64_t HeadDim>
struct HeadsArePositive {
  static_assert(QHeads >= 1 && KvHeads >= 1 && HeadDim >= 1,
                "kvring: q heads, kv heads and head dim must each be 1 or more");
};

template <std::int64_t QHeads, std::int64_t KvHeads>
struct KvHeadsDivideQHeads {
  static_assert(
      QHeads % KvHeads == 0,
      "kvring: q heads are no multiple of kv heads: each kv head serves a group of equal size");
};

/// `OnRing`: the slots of the ring that a Dense layer was given.
template <bool Windowed, std::int64_t OnRing>
struct RingNeedsAWindow {
  static_assert(Windowed,
                "kvring: a Dense layer on a Ring would forget keys that it must see: give it Full "
                "storage, or a window (Swa<W>)");
};

template <class Storage, bool IsStorage>
struct StorageIsKnown {
  static_assert(IsStorage, "kvring: storage must be Full, Ring<Slots> or Deduced");
};

/// `Needed` = Window - 1 + max(Chunk, Rewind).
template <std::int64_t Slots, std::int64_t Needed>
struct RingHoldsWindowAndChunk {
  static_assert(
      Slots >= Needed,
      "kvring: ring too small: Ring<Slots> must hold Window - 1 + max(Chunk, Rewind) slots; "
      "enlarge the ring, or shorten the chunk or the rewind");
};

template <std::int64_t Chunk, std::int64_t Headroom>
struct ChunkFitsHeadroom {
  static_assert(
      Chunk <= Headroom,
      "kvring: chunk longer than the headroom Slots - (Window - 1): its last rows would "
      "overwrite keys that its first row must see; shorten the chunk or enlarge the ring");
};

template <std::int64_t Rewind, std::int64_t Headroom>
struct RewindFitsHeadroom {
  static_assert(Rewind <= Headroom,
                "kvring: rewind deeper than the headroom Slots - (Window - 1): the window of the "
                "position taken back to is overwritten; rewind less or enlarge the ring");
};

/// `Needed` = Window - 1 + max(Rewind, 1).
template <std::int64_t Slots, std::int64_t Needed>
struct StagedRingHoldsWindow {
  static_assert(
      Slots >= Needed,
      "kvring: ring too small for a staged chunk: Ring<Slots> must hold Window - 1 + max(Rewind, "
      "1) slots; enlarge the ring, or shorten the rewind");
};

template <std::int64_t KeyTile, std::int64_t KernelTile>
struct StageIsWholeTiles {
  static_assert(
      KeyTile % KernelTile == 0,
      "kvring: the kernel's tile of keys does not divide the plan's: a tile would lie partly in "
      "the ring and partly in the stage; plan with a KeyTile that is a multiple of KernelTile");
};

template <std::int64_t Slots, std::int64_t KeyTile>
struct RingIsWholeTiles {
  static_assert(
      Slots % KeyTile == 0,
      "kvring: ring is no multiple of its key tile: a tile of keys would straddle the wrap; "
      "round Slots up to a multiple of KeyTile");
};

template <std::int64_t Layers>
struct LayerCountIsPositive {
  static_assert(Layers >= 1, "kvring: layer count below 1: Hybrid<Layers, ...> needs one or more");
};

template <std::int64_t PatternLength>
struct PatternIsNotEmpty {
  static_assert(PatternLength >= 1,
                "kvring: empty layer pattern: name each layer kind, nothing is Dense by default");
};

template <std::int64_t Count>
struct RepeatIsPositive {
  static_assert(Count >= 1, "kvring: Repeat<Count, Kind> needs a count of 1 or more");
};

template <std::int64_t Layers, std::int64_t PatternLength, std::int64_t TailLength>
struct PatternFillsLayers {
  static_assert(Layers >= TailLength && (Layers - TailLength) % PatternLength == 0,
                "kvring: the pattern does not fill the layer count: Layers - TailLength must be a "
                "multiple of PatternLength; state the rest as Tail<...>");
};

/// A model that states `sliding_window` but no `Layers`: which of its layers slide is unknown.
template <class Model, bool HasPattern>
struct WindowNeedsAPattern {
  static_assert(HasPattern,
                "kvring: a sliding window stated for the whole model without a layer pattern: say "
                "which layers slide with `using Layers = Hybrid<...>`");
};

template <class Model, bool HasPattern>
struct ModelHasAPattern {
  static_assert(HasPattern, "kvring: the model names no layers: add `using Layers = Hybrid<...>`");
};

template <std::int64_t Count>
struct SharedCountIsNotNegative {
  static_assert(Count >= 0, "kvring: shared layers below 0: use SharedKv<0> where none shares");
};

template <std::int64_t Reader, std::int64_t Layers>
struct ReaderExists {
  static_assert(Reader >= 0 && Reader < Layers,
                "kvring: KV reader does not exist: Donor<Reader, From> names layers from 0 to the "
                "layer count - 1");
};

template <std::int64_t Layer, std::int64_t Donor>
struct DonorExists {
  static_assert(Donor >= 0 && Donor < Layer,
                "kvring: KV donor does not exist: Layer may only read an earlier layer's cache");
};

template <std::int64_t Layer, std::int64_t Donor, bool Owns>
struct DonorOwnsItsCache {
  static_assert(Owns, "kvring: KV donor has no cache of its own: name the layer that owns it");
};

template <std::int64_t Layer, std::int64_t Donor, bool SameKind>
struct DonorIsOfTheSameKind {
  static_assert(SameKind,
                "kvring: KV donor is of another kind: policy, heads and storage of Layer and Donor "
                "must be one type");
};

}  // namespace kvring::check
