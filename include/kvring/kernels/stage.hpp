// Staging: before a batch attends over a StagedView its rows are appended to the stage, behind what
// their first tile holds already; afterwards the newest are committed to the ring.
#pragma once

#include <cstdint>

#include "kvring/kernels/staged_view.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// A row of K or V at once.
template <class View>
struct CopyRow {
  using T = typename View::Element;
  static constexpr std::int64_t values = View::heads.kv_dim();
  KVRING_HD static void copy(T* to, const T* from) {
    for (std::int64_t i = 0; i < values; ++i) to[i] = from[i];
  }
};

/// The rows of a segment's first tile that are before the segment, from the ring to the stage. What
/// no row sees among them may be anything, and is copied as it is. A call copies a piece of a row.
template <class View, class Piece>
struct OpenStage {
  static constexpr std::int64_t most_rows = View::tile - 1;  // of a segment
  static constexpr std::int64_t pieces = View::heads.kv_dim() / Piece::values;
  View view;

  std::int64_t calls() const { return view.fresh.count * most_rows * pieces; }

  KVRING_HD void operator()(std::int64_t i) const {
    const std::int64_t index = i / pieces / most_rows, row = i / pieces % most_rows;
    const Segment& segment = view.fresh.segments[index];
    const auto staged = view.template of_segment<View::tile>(index);
    const Position p = staged.staged_from + row;
    if (p >= segment.start) return;
    const auto from = view.ring.rows(segment.sequence, p) + i % pieces * Piece::values;
    const auto to = staged.rows(segment.sequence, p) + i % pieces * Piece::values;
    Piece::copy(to.k, from.k);
    Piece::copy(to.v, from.v);
  }
};

/// The newest rows of each segment, no more than the ring has slots, from the stage to their slots.
template <class View, class Piece>
struct CommitStage {
  static constexpr std::int64_t pieces = View::heads.kv_dim() / Piece::values;
  View view;

  std::int64_t calls() const { return view.fresh.rows * pieces; }

  KVRING_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / pieces;
    const Segment& segment = view.fresh.segment_of(row);
    if (row < segment.first_row + segment.rows - view.ring.slots) return;
    const Position p = Batch::position(segment, row);
    const auto staged = view.template of_segment<View::tile>(&segment - view.fresh.segments);
    const auto from = staged.rows(segment.sequence, p) + i % pieces * Piece::values;
    const auto to = view.ring.rows(segment.sequence, p) + i % pieces * Piece::values;
    Piece::copy(to.k, from.k);
    Piece::copy(to.v, from.v);
  }
};

/// Before the rows of view.fresh are appended to the view, or after.
template <class Backend, class View>
void open_stage(const Backend& backend, View view) {
  const OpenStage<View, CopyRow<View>> task{view};
  if (task.calls() > 0) for_each(backend, task.calls(), task);
}

/// Once the last layer that reads them has attended: the ring is then what it would be, had the
/// rows been appended to it.
template <class Backend, class View>
void commit_stage(const Backend& backend, View view) {
  const CommitStage<View, CopyRow<View>> task{view};
  for_each(backend, task.calls(), task);
}

}  // namespace kvring
