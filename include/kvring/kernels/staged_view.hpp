// StagedView: what kernels get instead of a CacheView when the rows of a chunk attend before they
// are in the ring: the ring, and the stage in which they are.
#pragma once

#include <cstdint>

#include "kvring/cache.hpp"
#include "kvring/checks.hpp"
#include "kvring/kernels/batch.hpp"

namespace kvring {

/// The ring and the stage as one segment sees them. Positions from `staged_from` on, the start of a
/// tile, are in the stage; all before it in the ring. So a tile of keys lies in one of the two.
template <class RingView>
struct StagedSegment {
  using Storage = typename RingView::Storage;
  using Element = typename RingView::Element;
  static constexpr Heads heads = RingView::heads;

  RingView ring;
  KvPointers<Element> stage;  // from position staged_from on
  Position staged_from;

  KVRING_HD std::int64_t row(std::int64_t sequence, Position p) const {
    return p < staged_from ? ring.row(sequence, p) : (p - staged_from) * heads.kv_dim();
  }
  KVRING_HD KvPointers<Element> base(Position p) const {
    return p < staged_from ? ring.base(p) : stage;
  }
  KVRING_HD KvPointers<Element> rows(std::int64_t sequence, Position p) const {
    return base(p) + row(sequence, p);
  }
};

/// Trivially copyable. Segment i of a batch that appends to it or attends over it is of the same
/// sequence as segment i of `fresh`; it may leave out rows.
template <class RingView, std::int64_t Tile>
struct StagedView {
  using Storage = typename RingView::Storage;
  using Element = typename RingView::Element;
  static constexpr Heads heads = RingView::heads;
  static constexpr std::int64_t tile = Tile;

  RingView ring;
  Element* k;   // [stage_rows(rows, segments, Tile), kv_heads, head_dim]
  Element* v;   // the same
  Batch fresh;  // what is staged, with segments in the memory of the back end

  KVRING_HD std::int64_t cache_slots() const { return ring.slots; }
  template <std::int64_t KernelTile>
  KVRING_HD StagedSegment<RingView> of_segment(std::int64_t index) const {
    static_assert(check::all<check::StageIsWholeTiles<Tile, KernelTile>>);
    return {.ring = ring,
            .stage = KvPointers<Element>{k, v} + first_row_of(index) * heads.kv_dim(),
            .staged_from = staged_from(index)};
  }
  /// The row of the stage where a segment's first tile begins, and that tile's first position.
  KVRING_HD std::int64_t first_row_of(std::int64_t index) const {
    return fresh.segments[index].first_row + index * Tile;
  }
  KVRING_HD Position staged_from(std::int64_t index) const {
    return {fresh.segments[index].start.value / Tile * Tile};
  }
};

template <class View>
inline constexpr bool is_staged_view = false;
template <class RingView, std::int64_t Tile>
inline constexpr bool is_staged_view<StagedView<RingView, Tile>> = true;

}  // namespace kvring
