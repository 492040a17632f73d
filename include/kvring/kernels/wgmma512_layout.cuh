// Wgmma512Layout: what a block of attend_wgmma512 has in shared memory, and what it is given.
#pragma once

#include <cstdint>

#include "kvring/arch/barrier.cuh"
#include "kvring/arch/tensor_map.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/row_tiles.hpp"
#include "kvring/kernels/wgmma_shape.hpp"
#include "kvring/kernels/wgmma_work.cuh"

namespace kvring {

/// 64 rows of 512 sums fill the registers of an SM, so two blocks share what they load: a cluster
/// takes a work item of 128 packed rows, 64 a block. Of each tile, K is cut into parts of its
/// columns, V into parts of its keys and halves of its columns, 16 KiB each, and they travel
/// through slots. A block loads one half of every slot, for both.
template <LayerPolicy Policy, class View>
struct Wgmma512Layout {
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr int threads = 384, blocks_per_sm = 1;
  static constexpr Wgmma512Shape shape = wgmma512_shape;
  static constexpr int cluster = shape.cluster, warpgroups = 2;
  static constexpr int rows = shape.rows, item_rows = cluster * rows, keys = shape.keys;
  static constexpr int group = static_cast<int>(heads.group());
  static constexpr int head_dim = 512, half_dim = head_dim / 2;
  static constexpr int blocks = head_dim / 64, half_blocks = half_dim / 64;  // of 64 columns

  static constexpr int slot_bytes = 16 * 1024, row_bytes = 128;  // a row of 64 columns
  static constexpr int key_parts = keys * head_dim * 2 / slot_bytes;
  static constexpr int key_part_blocks = blocks / key_parts;
  static constexpr int value_keys = slot_bytes / (half_dim * 2);  // of a part of V
  static constexpr int value_parts = keys / value_keys;           // of a half
  static constexpr int query_bytes = rows * head_dim * 2, p_bytes = rows * keys * 2;
  static constexpr int slots = shape.slots, item_buffers = 4;
  // Half a slot of K is a box of 64 keys by 64 columns, of V one of 32 keys by 128 columns.
  static constexpr int value_box_blocks = half_blocks / cluster;

  struct Params {
    CUtensorMap q, k, v;
    View cache;
    RowTiles tiles;
    int items, clusters;  // tiles of rows times kv heads; blocks / 2
    T* out;               // [rows, q_heads, head_dim]
    Scores score;
  };

  /// The work items of this block's cluster, in order; those of dense layers, which get shorter,
  /// forth and back. Kept in shared memory: to make an item takes all registers of a thread that
  /// loads.
  struct Items {
    int round = 0;
    __device__ WorkItem next(const Params& params) {
      const int clusters = params.clusters;
      WorkItem item;
      while (!item.exists && round * clusters < params.items) {
        const int own = static_cast<int>(blockIdx.x) / cluster;
        const bool back = Policy::window == unbounded && round % 2 == 1;
        const int index = round * clusters + (back ? clusters - 1 - own : own);
        ++round;
        if (index < params.items) {
          item = make_item<Policy, View, item_rows, keys>(params.cache, params.tiles, index);
        }
      }
      return item;
    }
  };

  struct SharedStorage {
    alignas(1024) unsigned char q[query_bytes];  // [blocks, rows, 64]
    alignas(1024) unsigned char slots[Wgmma512Layout::slots][slot_bytes];
    alignas(1024) unsigned char p[warpgroups][p_bytes];  // [keys / 64, rows, 64]
    float4 softmax[128];           // what the threads of one warpgroup hand to those of the other
    WorkItem items[item_buffers];  // attended, its queries loaded, made
    Items all_items;
    arch::Barrier item_made[2];
    // A slot is for one warpgroup, whose turns do not alternate with the other's: parities tell
    // neighbouring phases apart, and no others, so each has barriers of its own.
    arch::Barrier full[warpgroups][Wgmma512Layout::slots], empty[Wgmma512Layout::slots];
    arch::Barrier q_full, q_empty;
  };
  static_assert(sizeof(SharedStorage) <= shared_bytes_per_block(90));

  /// The slot that comes `count` later.
  __device__ static __forceinline__ int later(int slot, int count) {
    return slot + count < slots ? slot + count : slot + count - slots;
  }
};

}  // namespace kvring
