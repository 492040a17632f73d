// WgmmaLayout: what a block of attend_wgmma has in shared memory, and what it is given.
#pragma once

#include <cstdint>

#include "kvring/arch/barrier.cuh"
#include "kvring/arch/tensor_map.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/row_tiles.hpp"
#include "kvring/kernels/wgmma_shape.hpp"
#include "kvring/kernels/wgmma_tiles.cuh"
#include "kvring/kernels/wgmma_work.cuh"

namespace kvring {

template <LayerPolicy Policy, class View>
struct WgmmaLayout {
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr WgmmaShape shape = wgmma_shape(heads.dim, Policy::window);
  static constexpr int threads = 384, blocks_per_sm = 1;
  static constexpr int warpgroups = 2, rows = 64 * warpgroups, keys = shape.keys;
  static constexpr int head_dim = static_cast<int>(heads.dim);
  static constexpr int group = static_cast<int>(heads.group());
  static constexpr int columns = block_columns(heads.dim), row_bytes = 2 * columns;
  static constexpr int blocks = head_dim / columns;
  static constexpr int query_bytes = 64 * head_dim * 2, tile_bytes = keys * head_dim * 2;

  /// A tile of V with rows that no row of its item sees: they become 0 before it is `full`.
  struct TileToClear {
    int slot;        // where it was loaded; none: there are no more
    int begin, end;  // rows that stay
  };

  struct SharedStorage {
    alignas(1024) unsigned char q[2][warpgroups][query_bytes];
    alignas(1024) unsigned char slots[shape.slots][tile_bytes];
    WorkItem items[2];
    TileToClear to_clear[shape.slots];
    arch::Barrier full[shape.slots], empty[shape.slots], loaded[shape.slots];
    arch::Barrier item_made[2], q_full[2][warpgroups], q_empty[2][warpgroups];
  };
  static_assert(sizeof(SharedStorage) <= shared_bytes_per_block(90));

  struct Params {
    CUtensorMap q, out;
    WgmmaTiles<View, keys> k, v;
    View cache;
    RowTiles tiles;
    T* out_rows;  // [rows, q_heads, head_dim]
    Scores score;
  };

  /// The slot that comes next, and the parity of its phase.
  struct Turn {
    int slot = 0;
    std::uint32_t parity = 0;
    __device__ __forceinline__ void next() {
      if (++slot == shape.slots) {
        slot = 0;
        parity ^= 1;
      }
    }
  };
};

}  // namespace kvring
