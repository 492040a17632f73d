// LiveRange: what a cache still holds of one sequence, and so what may be appended or taken back.
#pragma once

#include <cstdint>

#include "kvring/error.hpp"
#include "kvring/policy.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// The bookkeeping of one sequence in one cache. It touches no memory; an operation that it refuses
/// has changed nothing. Usable in constant expressions.
class LiveRange {
 public:
  /// `slots` of the cache, `window` of its policy (or `unbounded`), `context`: the most positions.
  /// `stage`: the most rows that may attend before they are in the cache; 0 without a stage.
  constexpr LiveRange(std::int64_t slots, std::int64_t window, std::int64_t context,
                      std::int64_t stage = 0)
      : slots_(slots), window_(window), context_(context), stage_(stage) {}

  /// Positions 0 ... length - 1 are held; the next append starts at `length`.
  constexpr std::int64_t length() const { return length_; }
  /// One past the highest position ever written. Never less than length.
  constexpr std::int64_t written() const { return written_; }
  constexpr std::int64_t slots() const { return slots_; }

  /// The oldest position whose slot has not been given to a newer one.
  constexpr Position oldest_live() const { return {larger(0, written_ - slots_)}; }
  constexpr bool is_live(Position p) const { return p >= oldest_live() && p.value < length_; }

  /// Rows that may be appended now such that the first of them still sees its whole window.
  constexpr std::int64_t appendable() const {
    const bool sees_its_window = first_needed(length_) >= oldest_live().value;
    return larger(appendable_in_place(), sees_its_window ? smaller(stage_, context_ - length_) : 0);
  }
  /// The same without the stage: all of them are written before the first attends.
  constexpr std::int64_t appendable_in_place() const {
    return larger(0, smaller(first_needed(length_) + slots_, context_) - length_);
  }

  /// The earliest position that the sequence may be taken back to, other than 0. The position
  /// before which nothing is needed any more is 0 itself: to start again is always legal.
  constexpr Position rewind_floor() const {
    if (written_ <= slots_) return {0};
    return {written_ - slots_ + (window_ - 1)};
  }

  constexpr bool may_append(std::int64_t rows) const { return rows >= 0 && rows <= appendable(); }
  constexpr bool may_rewind_to(Position p) const {
    return p.value == 0 || (p >= rewind_floor() && p.value <= length_);
  }

  /// Refuses, with numbers, what may_append refuses.
  constexpr void require_append(std::int64_t rows) const {
    if (may_append(rows)) return;
    if (rows < 0) fail("cannot append ", rows, " rows");
    if (rows > context_ - length_) {
      fail("cannot append ", rows, " rows at position ", length_, ": the context holds ", context_,
           " positions; start again, or plan for a longer context");
    }
    if (stage_ > 0) {
      fail("cannot append ", rows, " rows at position ", length_, ": a ring of ", slots_,
           " slots takes ", appendable_in_place(), " before they attend, and its stage ", stage_,
           "; append at most ", appendable(), " rows at once");
    }
    fail("cannot append ", rows, " rows at position ", length_, " to a ring of ", slots_,
         " slots: row ", length_, " must see position ", first_needed(length_), ", which position ",
         first_needed(length_) + slots_, " would overwrite; append at most ", appendable(),
         " rows at once");
  }

  constexpr void append(std::int64_t rows) {
    require_append(rows);
    length_ += rows;
    written_ = larger(written_, length_);
  }

  /// Refuses, with numbers, what may_rewind_to refuses.
  constexpr void require_rewind_to(Position p) const {
    if (may_rewind_to(p)) return;
    if (p.value < 0 || p.value > length_) {
      fail("cannot rewind to position ", p.value, ": the sequence holds ", length_, " positions");
    }
    fail("cannot rewind to position ", p.value, ": it must see position ", first_needed(p.value),
         ", but a ring of ", slots_, " slots that was written up to position ", written_ - 1,
         " holds nothing before ", oldest_live().value, "; rewind to ", rewind_floor().value,
         " or later, or to 0");
  }

  /// Takes back everything from `p` on. The high-water mark stays: what was overwritten is gone.
  constexpr void rewind_to(Position p) {
    require_rewind_to(p);
    length_ = p.value;
    if (p.value == 0) written_ = 0;
  }

  /// Whether a sequence of `length` positions, written up to `written`, could have come about here.
  constexpr bool may_resume(std::int64_t length, std::int64_t written) const {
    if (length == 0) return written == 0;
    return length <= written && written <= context_ && after(written).may_rewind_to({length});
  }

  /// Refuses, with numbers, what may_resume refuses.
  constexpr void require_resume(std::int64_t length, std::int64_t written) const {
    if (may_resume(length, written)) return;
    if (written > context_) {
      fail("cannot resume a sequence that was written up to position ", written - 1,
           ": the context holds ", context_, " positions; plan for ", written, " or more");
    }
    fail("cannot resume a sequence of ", length, " positions, written up to position ", written - 1,
         ": no appends and rewinds lead there on ", slots_, " slots");
  }

  /// Goes on where another cache's sequence stood: its live positions have been copied here.
  constexpr void resume(std::int64_t length, std::int64_t written) {
    require_resume(length, written);
    length_ = length;
    written_ = written;
  }

 private:
  /// This cache after `written` positions, none of them taken back.
  constexpr LiveRange after(std::int64_t written) const {
    LiveRange range = *this;
    range.length_ = range.written_ = written;
    return range;
  }

  /// The oldest position that a query at `p` sees.
  constexpr std::int64_t first_needed(std::int64_t p) const {
    return window_ == unbounded ? 0 : larger(0, p - (window_ - 1));
  }

  std::int64_t slots_, window_, context_, stage_;
  std::int64_t length_ = 0, written_ = 0;
};

}  // namespace kvring
