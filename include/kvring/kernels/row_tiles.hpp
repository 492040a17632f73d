// RowTiles: the tiles of query rows of a ragged batch, found without a host that knows its lengths.
#pragma once

#include <cstdint>

#include "kvring/kernels/batch.hpp"

namespace kvring {

/// The segment that tile `tile` of packed rows belongs to, when segment s begins at tile
/// floor(first_row * group / rows) + s: a bound that needs no sum over the segments before it, and
/// leaves at most one tile a segment empty.
struct RowTiles {
  Batch batch;
  int group, rows;

  KVRING_HD std::int64_t count() const { return batch.rows * group / rows + batch.count; }
  KVRING_HD std::int64_t first_of(std::int64_t segment) const {
    return batch.segments[segment].first_row * group / rows + segment;
  }
  KVRING_HD std::int64_t segment_of(std::int64_t tile) const {
    std::int64_t low = 0, high = batch.count;
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      (first_of(middle) <= tile ? low : high) = middle;
    }
    return low;
  }
};

}  // namespace kvring
