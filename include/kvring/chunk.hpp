// Chunks: how many positions are appended before the first of them attends, or staged, and how many
// may be taken back. And the schedule that cuts a prompt into chunks.
#pragma once

#include <cstdint>

#include "kvring/checks.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// The most positions that are appended before the first of them attends.
template <std::int64_t Rows>
struct Chunk {
  static_assert(check::all<check::ChunkIsPositive<Rows>>);
  static constexpr std::int64_t rows = Rows;
  static constexpr bool is_staged = false;
};

/// The same, but in layers with a window the rows wait in a stage beside the ring until they have
/// attended, and then only the newest are kept. The ring need not hold the chunk.
template <std::int64_t Rows>
struct StagedChunk : Chunk<Rows> {
  static constexpr bool is_staged = true;
};

/// The most positions that may be taken back: rejected drafts, an edited prompt.
template <std::int64_t Rows>
struct Rewind {
  static_assert(check::all<check::RewindIsNotNegative<Rows>>);
  static constexpr std::int64_t rows = Rows;
};

/// Keys that a kernel handles at a time. Tiles start at multiples of it, so no tile straddles the
/// wrap of a ring whose length is a multiple of it: one modulo a tile.
template <std::int64_t Keys>
struct KeyTile {
  static_assert(check::all<check::KeyTileIsPositive<Keys>>);
  static constexpr std::int64_t keys = Keys;
};

/// Consecutive new positions of one sequence.
struct Span {
  Position start;
  std::int64_t rows = 0;

  KVRING_HD constexpr Position end() const { return start + rows; }
  friend constexpr bool operator==(Span, Span) = default;
};

/// Cuts `rows` positions from `start` into spans of `chunk` rows; the last one may be shorter.
/// for (Span span : ChunkSchedule({700}, 5000, 4096)) ...   // 700 ... 4795, 4796 ... 5699
class ChunkSchedule {
 public:
  /// rows >= 0, chunk >= 1.
  constexpr ChunkSchedule(Position start, std::int64_t rows, std::int64_t chunk)
      : start_(start), rows_(rows), chunk_(chunk) {}

  constexpr std::int64_t size() const { return ceil_div(rows_, chunk_); }
  constexpr Span operator[](std::int64_t i) const {
    return {start_ + i * chunk_, smaller(chunk_, rows_ - i * chunk_)};
  }

  class Iterator {
   public:
    constexpr Iterator(const ChunkSchedule& schedule, std::int64_t i)
        : schedule_(&schedule), i_(i) {}
    constexpr Span operator*() const { return (*schedule_)[i_]; }
    constexpr Iterator& operator++() {
      ++i_;
      return *this;
    }
    constexpr bool operator==(const Iterator& other) const { return i_ == other.i_; }

   private:
    const ChunkSchedule* schedule_;
    std::int64_t i_;
  };
  constexpr Iterator begin() const { return {*this, 0}; }
  constexpr Iterator end() const { return {*this, size()}; }

 private:
  Position start_;
  std::int64_t rows_, chunk_;
};

}  // namespace kvring
