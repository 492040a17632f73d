// TileWalk: where one head of a segment's keys and values lies, tile by tile.
#pragma once

#include <cstdint>

#include "kvring/cache.hpp"
#include "kvring/kernels/staged_view.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Over a cache: one modulo at the first tile, none after it. `Index` must count the slots.
template <class View, class Index>
class TileWalk {
 public:
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;

  /// No tile yet; begin() before anything else.
  TileWalk() = default;

  /// At the tile that begins at `first`.
  __device__ void begin(const View& view, std::int64_t sequence, int kv_head, Position first) {
    const std::int64_t head = sequence * view.slots * heads.kv_dim() + kv_head * heads.dim;
    k_ = view.k + head;
    v_ = view.v + head;
    slots_ = static_cast<Index>(view.slots);
    slot_ = static_cast<Index>(View::Storage::slot(first, slots_).value);
  }
  /// `keys` positions on.
  __device__ void advance(Index keys) {
    slot_ += keys;
    if constexpr (View::Storage::is_ring) {
      // A stride may go round more than once, but only in a ring of few tiles.
      while (slot_ >= slots_) slot_ -= slots_;
    }
  }

  /// Rows of this head, of which the tile begins at number slot(), and which end with slots().
  __device__ const T* k() const { return k_; }  // [slots, kv_heads, head_dim]
  __device__ const T* v() const { return v_; }  // the same
  __device__ Index slot() const { return slot_; }
  __device__ Index slots() const { return slots_; }

 private:
  Index slots_ = 0, slot_ = 0;
  const T* k_ = nullptr;
  const T* v_ = nullptr;
};

/// Over a ring and a stage: the same steps, and one choice a tile.
template <class RingView, class Index>
class TileWalk<StagedSegment<RingView>, Index> {
 public:
  using View = StagedSegment<RingView>;
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;

  TileWalk() = default;

  __device__ void begin(const View& view, std::int64_t sequence, int kv_head, Position first) {
    ring_.begin(view.ring, sequence, kv_head, first);
    const auto stage = view.stage + kv_head * heads.dim;
    stage_ = {stage.k, stage.v};
    row_ = static_cast<Index>(first - view.staged_from);
  }
  __device__ void advance(Index keys) {
    ring_.advance(keys);
    row_ += keys;
  }

  __device__ const T* k() const { return is_staged() ? stage_.k : ring_.k(); }
  __device__ const T* v() const { return is_staged() ? stage_.v : ring_.v(); }
  __device__ Index slot() const { return is_staged() ? row_ : ring_.slot(); }
  __device__ Index slots() const { return is_staged() ? most : ring_.slots(); }

 private:
  static constexpr Index most = 0x7fff'ffff;  // a stage has no wrap
  __device__ bool is_staged() const { return row_ >= 0; }

  TileWalk<RingView, Index> ring_;
  KvPointers<const T> stage_{};
  Index row_ = 0;  // of the stage, where the tile begins; below 0 it is in the ring
};

}  // namespace kvring
