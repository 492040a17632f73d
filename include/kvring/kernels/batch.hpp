// Batch: which rows of a launch belong to which sequence, at which positions.
#pragma once

#include <cstdint>

#include "kvring/chunk.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Consecutive rows of a launch that are consecutive positions of one sequence.
struct Segment {
  std::int64_t sequence = 0;   // index into the caches
  Position start{};            // position of the first row
  std::int64_t first_row = 0;  // in the launch
  std::int64_t rows = 0;
};

/// A ragged batch: segments in the order of their rows, without gaps. Trivially copyable.
struct Batch {
  const Segment* segments;  // [count], in the memory of the back end
  std::int64_t count;
  std::int64_t rows;

  /// The segment of a row.
  KVRING_HD const Segment& segment_of(std::int64_t row) const {
    std::int64_t low = 0, high = count;
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      (segments[middle].first_row <= row ? low : high) = middle;
    }
    return segments[low];
  }
  KVRING_HD std::int64_t index_of(const Segment& segment) const { return &segment - segments; }
  KVRING_HD static Position position(const Segment& segment, std::int64_t row) {
    return segment.start + (row - segment.first_row);
  }
};

}  // namespace kvring
