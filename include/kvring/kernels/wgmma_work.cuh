// WorkItem: a tile of packed query rows of one kv head, and the tiles of keys it visits. The thread
// that loads makes the items; those that attend read them beside the queries.
#pragma once

#include <cstdint>

#include "kvring/kernels/row_tiles.hpp"
#include "kvring/kernels/tiles.hpp"

namespace kvring {

/// Positions count from the first tile of keys that the item visits: 32 bits hold them, and nothing
/// that its rows see lies before it.
struct WorkItem {
  bool exists = false;
  int kv_head, sequence;
  int first_row;    // in the launch, of the first packed row
  int valid;        // packed rows that exist
  int first, last;  // positions of the first and the last of them
  int begin;        // the first key that one of them sees
  int tiles;
  int slot;  // of the newest tile
};

/// The work items of a block, in order; those of dense layers, which get shorter, forth and back
/// over the blocks, so that all have as much to do.
template <LayerPolicy Policy, class View, int rows, int keys>
class WorkItems {
 public:
  __device__ WorkItems(const View& cache, const RowTiles& row_tiles)
      : slots_(static_cast<std::uint32_t>(cache.slots)), row_tiles_(row_tiles) {}

  /// One that does not exist, when there are no more.
  __device__ WorkItem next() {
    const int all = static_cast<int>(row_tiles_.count() * View::heads.kv);
    const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
    WorkItem item;
    while (!item.exists && round_ * blocks < all) {
      const bool back = Policy::window == unbounded && round_ % 2 == 1;
      const int index = round_ * blocks + (back ? blocks - 1 - block : block);
      ++round_;
      if (index < all) item = make(index);
    }
    return item;
  }

 private:
  __device__ WorkItem make(int index) {
    constexpr int kv_heads = static_cast<int>(View::heads.kv);
    constexpr int group = static_cast<int>(View::heads.group());
    // Later rows see more keys, and come first.
    const int tile = static_cast<int>(row_tiles_.count()) - 1 - index / kv_heads;
    const int s = static_cast<int>(row_tiles_.segment_of(tile));
    if (s != s_) {
      const Segment& segment = row_tiles_.batch.segments[s];
      s_ = s;
      first_tile_ = static_cast<int>(row_tiles_.first_of(s));
      sequence_ = static_cast<int>(segment.sequence);
      first_row_ = static_cast<int>(segment.first_row);
      all_ = static_cast<int>(segment.rows) * group;
      start_ = segment.start;
    }
    const int begin = (tile - first_tile_) * rows;
    WorkItem item;
    if (begin >= all_) return item;
    item.exists = true;
    item.kv_head = index % kv_heads;
    item.sequence = sequence_;
    item.first_row = first_row_ + begin / group;
    item.valid = all_ - begin < rows ? all_ - begin : rows;
    const Position first = start_ + begin / group;
    const Position last = first + (item.valid - 1) / group;
    const KeyRange tiles = visible_tiles<Policy, keys>(first, last);
    item.tiles = static_cast<int>((tiles.end - tiles.begin) / keys);
    item.first = static_cast<int>(first - tiles.begin);
    item.last = static_cast<int>(last - tiles.begin);
    item.begin = static_cast<int>(Policy::first_visible(first) - tiles.begin);
    item.slot = slot_of(tiles.end - keys);
    return item;
  }

  /// Storage::slot; division by 32 bits is several times faster, and most positions have no more.
  __device__ int slot_of(Position p) const {
    if constexpr (View::Storage::is_ring) {
      if (p.value >> 32 == 0) return static_cast<int>(static_cast<std::uint32_t>(p.value) % slots_);
    }
    return static_cast<int>(View::Storage::slot(p, slots_).value);
  }

  std::uint32_t slots_;
  const RowTiles& row_tiles_;
  int round_ = 0;
  // The segment of the last item: to load one takes as long as a tile.
  int s_ = -1, first_tile_ = 0, sequence_ = 0, first_row_ = 0, all_ = 0;
  Position start_{};
};

}  // namespace kvring
