// WorkItem: a tile of packed query rows of one kv head, and the tiles of keys it visits. The thread
// that loads makes the items; those that attend read them beside the queries.
#pragma once

#include <cstdint>

#include "kvring/kernels/row_tiles.hpp"
#include "kvring/kernels/staged_view.hpp"
#include "kvring/kernels/tiles.hpp"

namespace kvring {

/// Positions count from the first tile of keys that the item visits: 32 bits hold them, and nothing
/// that its rows see lies before it.
struct WorkItem {
  bool exists = false;
  int kv_head = 0, sequence = 0;
  int first_row = 0;        // in the launch, of the first packed row
  int valid = 0;            // packed rows that exist
  int first = 0, last = 0;  // positions of the first and the last of them
  int begin = 0;            // the first key that one of them sees
  int tiles = 0;
  int slot = 0;  // of the newest tile
  // Rows of the stage, where there is one: of the first tile, were it staged, and of the first
  // staged key.
  int stage_row = 0, stage_begin = 0;
};

template <LayerPolicy Policy, class View, int rows, int keys>
__device__ WorkItem make_item(const View& cache, const RowTiles& row_tiles, int index) {
  constexpr int kv_heads = static_cast<int>(View::heads.kv);
  constexpr int group = static_cast<int>(View::heads.group());
  const std::int64_t tile = row_tiles.count() - 1 - index / kv_heads;  // later rows see more: first
  const std::int64_t s = row_tiles.segment_of(tile);
  const Segment& segment = row_tiles.batch.segments[s];
  const int all = static_cast<int>(segment.rows) * group;
  const int begin = static_cast<int>(tile - row_tiles.first_of(s)) * rows;
  WorkItem item;
  if (begin >= all) return item;
  item.exists = true;
  item.kv_head = index % kv_heads;
  item.sequence = static_cast<int>(segment.sequence);
  item.first_row = static_cast<int>(segment.first_row) + begin / group;
  item.valid = all - begin < rows ? all - begin : rows;
  const Position first = segment.start + begin / group;
  const Position last = first + (item.valid - 1) / group;
  const KeyRange tiles = visible_tiles<Policy, keys>(first, last);
  item.tiles = static_cast<int>((tiles.end - tiles.begin) / keys);
  item.first = static_cast<int>(first - tiles.begin);
  item.last = static_cast<int>(last - tiles.begin);
  item.begin = static_cast<int>(Policy::first_visible(first) - tiles.begin);
  item.slot = static_cast<int>(View::Storage::slot(tiles.end - keys, cache.cache_slots()).value);
  if constexpr (is_staged_view<View>) {
    item.stage_begin = static_cast<int>(cache.first_row_of(s));
    item.stage_row = item.stage_begin + static_cast<int>(tiles.begin - cache.staged_from(s));
  }
  return item;
}

}  // namespace kvring
