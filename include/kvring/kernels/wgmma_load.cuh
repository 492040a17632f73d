// WgmmaLoad: the warpgroup of attend_wgmma that does not attend. One of its threads loads, and one
// of its warps clears what no row may see.
#pragma once

#include <cstdint>

#include "kvring/kernels/wgmma_layout.cuh"

namespace kvring {

template <LayerPolicy Policy, class View>
class WgmmaLoad {
  using Layout = WgmmaLayout<Policy, View>;
  using Params = typename Layout::Params;
  using SharedStorage = typename Layout::SharedStorage;
  using Turn = typename Layout::Turn;
  static constexpr Heads heads = Layout::heads;
  static constexpr int warpgroups = Layout::warpgroups, rows = Layout::rows, keys = Layout::keys;
  static constexpr int head_dim = Layout::head_dim, group = Layout::group;
  static constexpr int blocks = Layout::blocks, ring_keys = Layout::ring_keys;
  static constexpr bool may_wrap = Layout::may_wrap;
  static constexpr int query_bytes = Layout::query_bytes, tile_bytes = Layout::tile_bytes;

 public:
  /// The loading thread.
  __device__ static void load(const Params& params, SharedStorage& shared) {
    Turn turn;
    const int slots = static_cast<int>(params.cache.slots);
    // `slot`: of the tile's first key.
    const auto load_tile = [&](const CUtensorMap& map, const CUtensorMap& part,
                               const WorkItem& item, int slot) {
      shared.empty[turn.slot].wait(turn.parity ^ 1);
      arch::Barrier& full = shared.full[turn.slot];
      unsigned char* to = shared.slots[turn.slot];
      full.arrive_and_expect(tile_bytes);
      if (!may_wrap || slot + keys <= slots) {
        arch::load_box(to, map, {0, slot, 0, item.kv_head, item.sequence}, full);
      } else {
        for (int i = 0; i < blocks * (keys / ring_keys); ++i) {
          const int block = i % blocks, first = i / blocks * ring_keys;
          const int at = slot + first < slots ? slot + first : slot + first - slots;
          arch::load_box(to + (block * keys + first) * 128, part,
                         {0, at, block, item.kv_head, item.sequence}, full);
        }
      }
      turn.next();
    };
    const auto before = [&](int slot) { return slot < keys ? slot - keys + slots : slot - keys; };
    const auto post = [&](const WorkItem& item, int number) {
      const int buffer = number % 2;
      for (int w = 0; w < warpgroups; ++w) {
        shared.q_empty[buffer][w].wait((number / 2 & 1) ^ 1);
      }
      shared.items[buffer] = item;
      for (int w = 0; w < warpgroups; ++w) {
        arch::Barrier& full = shared.q_full[buffer][w];
        if (!item.exists) {
          full.arrive();  // there are no more
          continue;
        }
        full.arrive_and_expect(query_bytes);
        arch::load_box(shared.q[buffer][w], params.q,
                       {0, 0, item.first_row + w * (64 / group), 0, item.kv_head}, full);
      }
    };

    Items items;
    WorkItem item = items.next(params);
    post(item, 0);
    for (int number = 1; item.exists; ++number) {
      // The next item is made when this one has enough to do: making one takes as long as a tile.
      WorkItem next;
      int slot = item.slot;
      load_tile(params.k, params.k_part, item, slot);
      for (int tile = item.tiles - 2; tile >= 0; --tile) {
        const int of_values = slot;
        slot = before(slot);
        load_tile(params.k, params.k_part, item, slot);
        load_tile(params.v, params.v_part, item, of_values);
        if (tile == item.tiles - 3) post(next = items.next(params), number);
      }
      load_tile(params.v, params.v_part, item, slot);
      if (item.tiles < 3) post(next = items.next(params), number);
      item = next;
    }
  }

  /// Whether some rows of a tile of V are seen by no row of the item. Only the first and the last
  /// tile can have such rows.
  __device__ static __forceinline__ bool has_unseen(const WorkItem& item, int tile) {
    return item.begin > tile * keys || item.last + 1 < (tile + 1) * keys;
  }

  /// The warp that zeroes those rows: P is 0 there, but 0 * NaN is NaN. It takes every tile in its
  /// turn, as the attending ones do: parities tell neighbouring phases apart, and no others.
  __device__ static void clear(const Params& params, SharedStorage& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const auto clear_rows = [&](unsigned char* slot, int begin, int end) {
      constexpr int chunks = head_dim / 8;  // of 16 bytes, eight to a row of a block of columns
      for (int i = lane; i < keys * chunks; i += 32) {
        const int row = i / 8 % keys;
        if (row < begin || row >= end) *reinterpret_cast<uint4*>(slot + i * 16) = uint4{0, 0, 0, 0};
      }
      arch::fence_shared_for_async();
      __syncwarp();
    };
    Items items;
    Turn turn;
    for (WorkItem item = items.next(params); item.exists; item = items.next(params)) {
      // K of the newest tile is first, then K and V of neighbours in turn, V of the oldest last.
      for (int i = 0; i < 2 * item.tiles; ++i) {
        shared.full[turn.slot].wait(turn.parity);
        const bool newest = i == 2, oldest = i == 2 * item.tiles - 1;
        const int tile = oldest ? 0 : item.tiles - 1;
        if ((oldest || newest) && has_unseen(item, tile)) {
          clear_rows(shared.slots[turn.slot], item.begin - tile * keys,
                     item.last + 1 - tile * keys);
          if (lane == 0) shared.cleared[turn.slot].arrive();
        }
        if (lane == 0) shared.empty[turn.slot].arrive();
        turn.next();
      }
    }
  }

 private:
  /// The work items of this block, in order; those of dense layers, which get shorter, forth and
  /// back.
  struct Items {
    int round = 0;
    __device__ WorkItem next(const Params& params) {
      const int all = static_cast<int>(params.tiles.count() * heads.kv);
      const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
      WorkItem item;
      while (!item.exists && round * blocks < all) {
        const bool back = Policy::window == unbounded && round % 2 == 1;
        const int index = round * blocks + (back ? blocks - 1 - block : block);
        ++round;
        if (index < all) {
          item = make_item<Policy, View, rows, keys>(params.cache, params.tiles, index);
        }
      }
      return item;
    }
  };
};

}  // namespace kvring
