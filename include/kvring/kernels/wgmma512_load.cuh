// Wgmma512Load: the warpgroup of attend_wgmma512 that does not attend. Two of its threads load.
#pragma once

#include <cstdint>

#include "kvring/kernels/wgmma512_layout.cuh"

namespace kvring {

template <class Layout>
class Wgmma512Load {
  using Params = typename Layout::Params;
  using SharedStorage = typename Layout::SharedStorage;
  static constexpr int keys = Layout::keys;

 public:
  /// The thread that loads K and V, newest tile first: K(n - 1), K(n - 2), V(n - 1), K(n - 3) ...
  /// V(0); of V the half of the warpgroup that makes the tile's P first. A slot is empty when both
  /// blocks have used it, for each fills one half of both.
  __device__ static void load_tiles(const Params& params, SharedStorage& shared, int rank) {
    constexpr std::uint16_t both = (1 << Layout::cluster) - 1;
    constexpr int box_bytes = Layout::slot_bytes / Layout::cluster;
    const int slots = static_cast<int>(params.cache.slots);
    int turn = 0;  // the slot that comes next
    std::uint32_t parity = 1;
    // There are 256 cycles for a slot, and what one thread does takes a few each: loops are
    // unrolled.
    const auto load = [&](arch::Barrier* full, const CUtensorMap& map, const std::int32_t(&at)[5]) {
      shared.empty[turn].wait(parity);
      full[turn].arrive_and_expect(Layout::slot_bytes);
      arch::load_box_for(both, shared.slots[turn] + rank * box_bytes, map, at, full[turn]);
      turn = Layout::later(turn, 1);
      parity ^= turn == 0;
    };
    for (int number = 0;; ++number) {
      shared.item_made[number % 2].wait(number / 2 & 1);
      const WorkItem& item = shared.items[number % Layout::item_buffers];
      if (!item.exists) return;
      const int tiles = item.tiles, kv_head = item.kv_head, sequence = item.sequence;
      // `slot`: of the tile's first key.
      const auto load_keys = [&](int warpgroup, int slot) {
        arch::Barrier* full = shared.full[warpgroup];
#pragma unroll
        for (int part = 0; part < Layout::key_parts; ++part) {
          load(full, params.k, {0, slot, Layout::cluster * part + rank, kv_head, sequence});
        }
      };
      const auto load_values = [&](int owner, int slot) {
#pragma unroll
        for (int part = 0; part < 2 * Layout::value_parts; ++part) {
          const int half = part < Layout::value_parts ? owner : 1 - owner;
          load(shared.full[half], params.v,
               {0, slot + part % Layout::value_parts * Layout::value_keys,
                half * Layout::half_blocks + rank * Layout::value_box_blocks, kv_head, sequence});
        }
      };
      int slot = item.slot;
      load_keys(0, slot);
#pragma unroll 1
      for (int i = 1; i < tiles; ++i) {
        const int of_values = slot;
        slot = slot < keys ? slot - keys + slots : slot - keys;
        load_keys(i % 2, slot);
        load_values((i - 1) % 2, of_values);
      }
      load_values((tiles - 1) % 2, slot);
    }
  }

  /// The thread that makes work items, one ahead of what is attended, and loads queries when those
  /// before have been used.
  __device__ static void load_queries(const Params& params, SharedStorage& shared, int rank) {
    shared.all_items.round = 0;
    for (int number = 0;; ++number) {
      const WorkItem item = shared.all_items.next(params);
      shared.items[number % Layout::item_buffers] = item;
      shared.item_made[number % 2].arrive();
      const int row = item.first_row + rank * (Layout::rows / Layout::group);
      const auto for_each_half = [&](auto act) {
        for (int half = 0; half < 2; ++half) {
          const std::int32_t at[5] = {0, 0, row, half * Layout::half_blocks, item.kv_head};
          act(half, at);
        }
      };
      if (item.exists) {
        for_each_half([&](int, auto& at) { arch::prefetch_box(params.q, at); });
      }
      shared.q_empty.wait((number & 1) ^ 1);
      if (!item.exists) break;
      shared.q_full.arrive_and_expect(Layout::query_bytes);
      for_each_half([&](int half, auto& at) {
        arch::load_box(shared.q + half * (Layout::query_bytes / 2), params.q, at, shared.q_full);
      });
    }
    shared.q_full.arrive();  // there are no more
  }
};

}  // namespace kvring
