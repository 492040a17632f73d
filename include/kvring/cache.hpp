// KvCache owns the keys and values of a kind of layer; CacheView is what kernels get; Caches holds
// one cache for each layer of a plan that owns one, and a timeline for each sequence.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/element.hpp"
#include "kvring/heads.hpp"
#include "kvring/plan.hpp"
#include "kvring/storage.hpp"

namespace kvring {

/// Where keys and values begin.
template <class T>
struct KvPointers {
  T* k;  // [rows, kv_heads, head_dim]
  T* v;  // [rows, kv_heads, head_dim]

  KVRING_HD KvPointers operator+(std::int64_t elements) const {
    return {k + elements, v + elements};
  }
};

/// Trivially copyable. A position that the sequence's LiveRange does not hold must not be read, nor
/// one that it refused be written: the view itself does not check.
template <class StorageType, Heads Shape, Element T>
struct CacheView {
  using Storage = StorageType;
  using Element = T;
  static constexpr Heads heads = Shape;

  T* k;  // [sequences, slots, kv_heads, head_dim]
  T* v;  // [sequences, slots, kv_heads, head_dim]
  std::int64_t slots;

  KVRING_HD std::int64_t cache_slots() const { return slots; }
  /// Elements before the row of a position.
  KVRING_HD std::int64_t row(std::int64_t sequence, Position p) const {
    return (sequence * slots + Storage::slot(p, slots).value) * heads.kv_dim();
  }
  /// What `row` counts from, the same for all rows of a tile.
  KVRING_HD KvPointers<T> base(Position) const { return {k, v}; }
  KVRING_HD KvPointers<T> rows(std::int64_t sequence, Position p) const {
    return base(p) + row(sequence, p);
  }
  /// What the rows of a batch's segment see, in tiles of `Tile` keys: the same for all of them
  /// here, but not where rows are staged (kernels/staged_view.hpp).
  template <std::int64_t Tile>
  KVRING_HD const CacheView& of_segment(std::int64_t /*index*/) const {
    return *this;
  }
};

namespace detail {

/// Refuses a cache without a row, and one that takes more bytes than 64 bits count.
inline void require_cache(std::int64_t context, std::int64_t slots, std::int64_t row_bytes,
                          std::int64_t sequences) {
  require(context >= 1, "a context of ", context, " positions; ask for 1 or more");
  require(sequences >= 1, "caches for ", sequences, " sequences; ask for 1 or more");
  require(slots <= unbounded / row_bytes / sequences, "out of memory: ", slots,
          " rows a layer for each of ", sequences, " sequences; plan for a shorter context");
}

}  // namespace detail

/// The cache of one layer, for `sequences` sequences: two arrays in one allocation.
template <class PlacementType, Element T, Backend BackendType>
class KvCache {
 public:
  using View = CacheView<typename PlacementType::Storage, PlacementType::heads, T>;

  KvCache(BackendType backend, std::int64_t context, std::int64_t sequences)
      : slots_(PlacementType::capacity(context)),
        half_(elements(context, slots_, sequences)),
        memory_(backend, 2 * half_) {}

  View view() { return {memory_.data(), memory_.data() + half_, slots_}; }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  /// Of K, and of V.
  static std::int64_t elements(std::int64_t context, std::int64_t slots, std::int64_t sequences) {
    constexpr std::int64_t row = PlacementType::heads.kv_dim();
    detail::require_cache(context, slots, 2 * row * std::int64_t{sizeof(T)}, sequences);
    return sequences * slots * row;
  }

  std::int64_t slots_, half_;
  Buffer<T, BackendType> memory_;
};

/// All caches of a plan, and the timelines of its sequences. Takes exactly
/// PlanType::cache_bytes(context, sequences).
template <class PlanType, Backend BackendType>
class Caches {
 public:
  using Element = typename PlanType::Element;
  template <class Kind>
  using View =
      CacheView<typename PlanType::template PlacementOf<Kind>::Storage, Kind::heads, Element>;

  Caches(BackendType backend, std::int64_t context, std::int64_t sequences)
      : backend_(backend), context_(context) {
    for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
      detail::require_cache(context, PlanType::capacity(layer, context), PlanType::row_bytes(layer),
                            sequences);
      const std::int64_t bytes = PlanType::layer_bytes(layer, context, sequences);
      memory_[layer] =
          Buffer<Element, BackendType>(backend, bytes / static_cast<std::int64_t>(sizeof(Element)));
    }
    timelines_.assign(static_cast<std::size_t>(sequences), Timeline<PlanType>(context));
  }

  /// The cache that `layer`, of kind `Kind`, reads: its own or its donor's.
  template <class Kind>
  View<Kind> view(std::int64_t layer) {
    auto& memory = memory_[PlanType::donor_of[layer]];
    return {memory.data(), memory.data() + memory.size() / 2, PlanType::capacity(layer, context_)};
  }

  Timeline<PlanType>& timeline(std::int64_t sequence) {
    require(sequence >= 0 && sequence < sequences(), "sequence ", sequence, " of ", sequences());
    return timelines_[static_cast<std::size_t>(sequence)];
  }
  const BackendType& backend() const { return backend_; }
  std::int64_t context() const { return context_; }
  std::int64_t sequences() const { return static_cast<std::int64_t>(timelines_.size()); }

 private:
  BackendType backend_;
  std::int64_t context_;
  std::array<Buffer<Element, BackendType>, static_cast<std::size_t>(PlanType::layers)> memory_;
  std::vector<Timeline<PlanType>> timelines_;
};

}  // namespace kvring
