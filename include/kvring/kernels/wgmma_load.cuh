// WgmmaLoad: the warpgroup of attend_wgmma that does not attend. One warp makes work items and
// loads their queries, one loads keys and values, and two clear what no row may see.
#pragma once

#include <cstdint>

#include "kvring/arch/mma.cuh"
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
  static constexpr int group = Layout::group, blocks = Layout::blocks;
  static constexpr int row_bytes = Layout::row_bytes, chunks = row_bytes / 16;  // of 16 bytes
  static constexpr int query_bytes = Layout::query_bytes, tile_bytes = Layout::tile_bytes;

 public:
  static constexpr int clearing_threads = 64;

  /// The thread that makes work items and loads their queries, an item ahead of what is attended.
  __device__ static void load_queries(const Params& params, SharedStorage& shared) {
    Items items;
    for (int number = 0;; ++number) {
      const WorkItem item = items.next(params);
      const int buffer = number % 2;
      for (int w = 0; w < warpgroups; ++w) {
        shared.q_empty[buffer][w].wait((number / 2 & 1) ^ 1);
      }
      shared.items[buffer] = item;
      shared.item_made[buffer].arrive();
      if (number == 1) {  // all blocks begin at once: what is attended first is loaded first
        for (int w = 0; w < warpgroups; ++w) shared.q_full[0][w].wait(0);
      }
      for (int w = 0; w < warpgroups; ++w) {
        arch::Barrier& full = shared.q_full[buffer][w];
        if (!item.exists) {
          full.arrive();  // there are no more
          continue;
        }
        full.arrive_and_expect(query_bytes);
#pragma unroll 1
        for (int block = 0; block < blocks; ++block) {
          if (number > 1 && query_pause > 0) __nanosleep(query_pause);
          arch::load_box(shared.q[buffer][w] + block * (query_bytes / blocks), params.q,
                         {0, 0, item.first_row + w * (64 / group), block, item.kv_head}, full);
        }
      }
      if (!item.exists) return;
    }
  }

  /// The thread that loads keys and values: K(n - 1), K(n - 2), V(n - 1), K(n - 3) ... V(0).
  __device__ static void load_tiles(const Params& params, SharedStorage& shared) {
    Turn turn, clearing;
    const auto slots = static_cast<int>(params.cache.cache_slots());
    // `slot`: of the tile's first key. Its bytes are counted on `loaded`.
    const auto load = [&](const auto& tiles, const WorkItem& item, int tile, int slot,
                          arch::Barrier& loaded) {
      loaded.arrive_and_expect(tile_bytes);
      tiles.load(shared.slots[turn.slot], item, tile, slot, loaded);
      turn.next();
    };
    const auto load_keys = [&](const WorkItem& item, int tile, int slot) {
      shared.empty[turn.slot].wait(turn.parity ^ 1);
      load(params.k, item, tile, slot, shared.full[turn.slot]);
    };
    const auto load_values = [&](const WorkItem& item, int tile, int slot) {
      shared.empty[turn.slot].wait(turn.parity ^ 1);
      const bool unseen = item.begin > tile * keys || item.last + 1 < (tile + 1) * keys;
      if (!unseen) {
        load(params.v, item, tile, slot, shared.full[turn.slot]);
        return;
      }
      // No more tiles wait to be cleared than there are slots: the oldest note is read.
      shared.to_clear[clearing.slot] = {
          .slot = turn.slot, .begin = item.begin - tile * keys, .end = item.last + 1 - tile * keys};
      load(params.v, item, tile, slot, shared.loaded[clearing.slot]);
      clearing.next();
    };

    for (int number = 0;; ++number) {
      shared.item_made[number % 2].wait(number / 2 & 1);
      const WorkItem item = shared.items[number % 2];
      if (!item.exists) break;
      int slot = item.slot;
      load_keys(item, item.tiles - 1, slot);
#pragma unroll 1
      for (int tile = item.tiles - 2; tile >= 0; --tile) {
        const int of_values = slot;
        slot = slot < keys ? slot - keys + slots : slot - keys;
        load_keys(item, tile, slot);
        load_values(item, tile + 1, of_values);
      }
      load_values(item, 0, slot);
    }
    shared.empty[turn.slot].wait(turn.parity ^ 1);
    shared.to_clear[clearing.slot].slot = no_slot;
    shared.loaded[clearing.slot].arrive();
  }

  /// The threads that zero rows of V out of sight: P is 0 there, but 0 * NaN is NaN.
  __device__ static void clear(SharedStorage& shared, int thread) {
    for (Turn clearing;; clearing.next()) {
      shared.loaded[clearing.slot].wait(clearing.parity);
      const auto tile = shared.to_clear[clearing.slot];
      if (tile.slot == no_slot) return;
      const int before = larger(0, tile.begin);
      const int unseen = before + larger(0, keys - tile.end);
      for (int i = thread; i < unseen * chunks; i += clearing_threads) {
        const int row = i / chunks < before ? i / chunks : i / chunks - before + tile.end;
        for (int block = 0; block < blocks; ++block) {
          unsigned char* to =
              shared.slots[tile.slot] + (block * keys + row) * row_bytes + i % chunks * 16;
          *reinterpret_cast<uint4*>(to) = uint4{0, 0, 0, 0};
        }
      }
      arch::fence_shared_for_async();
      arch::named_barrier(5, clearing_threads);
      if (thread == 0) shared.full[tile.slot].arrive();
    }
  }

 private:
  static constexpr int no_slot = -1;

  /// Nanoseconds between the loads of an item's queries, block of columns by block. All blocks of
  /// the grid turn to their next items at about the same time; queries, which nobody waits for yet,
  /// would then stand before the keys and values that are waited for. So they are spread over half
  /// an item of a window, by the rate at which tensor cores multiply at 1.6 GHz.
  static constexpr unsigned query_pause = [] {
    if (Policy::window == unbounded) return 0u;
    constexpr std::int64_t flops_in_ns = 6554, most = 2000;
    const std::int64_t flops = 4 * rows * (smaller(Policy::window, 1 << 20) + keys) * heads.dim;
    return static_cast<unsigned>(smaller(flops / flops_in_ns / (2 * warpgroups * blocks), most));
  }();

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
