// attend_mma: attention of a batch on tensor cores, for prefill (sm_80 and later).
#pragma once

#include <cstdint>
#include <limits>

#include "kvring/kernels/attention_block.cuh"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/row_tiles.hpp"

namespace kvring {

template <LayerPolicy Policy, class View>
struct AttendMma {
  using T = typename View::Element;
  static constexpr MmaShape shape = PrefillShape<Policy, View::heads>::shape;
  static constexpr int threads = shape.threads(), blocks_per_sm = shape.blocks_per_sm;
  using Block = AttentionBlock<View, Policy, shape>;
  using SharedStorage = typename Block::SharedStorage;
  static_assert(sizeof(SharedStorage) <= shared_bytes_per_block(compiled_arch()));

  struct Params {
    View cache;
    RowTiles tiles;
    const T* q;  // [rows, q_heads, head_dim]
    T* out;      // [rows, q_heads, head_dim]
    Scores score;
  };

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    // Heads of a tile are neighbours, for they read other columns of the same rows; the last
    // tiles, which see most keys, begin first.
    constexpr int kv_heads = static_cast<int>(View::heads.kv);
    const RowTiles& tiles = params.tiles;
    const std::int64_t tile = (gridDim.x - 1 - blockIdx.x) / kv_heads;
    const std::int64_t s = tiles.segment_of(tile);
    const Segment segment = tiles.batch.segments[s];
    const int all = static_cast<int>(segment.rows) * Block::group;
    const int begin = static_cast<int>(tile - tiles.first_of(s)) * shape.rows;
    if (begin >= all) return;
    Block block(shared, params.score);
    block.attend(params.cache, s,
                 {.sequence = segment.sequence,
                  .start = segment.start,
                  .first_row = static_cast<int>(segment.first_row),
                  .begin = begin,
                  .end = begin + shape.rows < all ? begin + shape.rows : all,
                  .kv_head = static_cast<int>(blockIdx.x) % kv_heads},
                 params.q, 0, 1);
    block.finish_denominators();
    block.store(params.out);
  }
};

/// out = attention of every row of a batch, whose keys and values have been appended. bf16 or f16;
/// head_dim a multiple of 16 up to 512. Rows of q, out and the cache are aligned to 16 bytes, and
/// out must not overlap q.
///
/// The grid follows from batch.rows and batch.count; `batch.segments` is device memory and is read
/// when the kernel runs. A row's bits depend on its query and the keys that it sees: not on the
/// chunk, the start, the neighbours, the ring, or where it wraps.
template <LayerPolicy Policy, class View>
void attend_mma(const Cuda& backend, Policy, View cache, Batch batch,
                const typename View::Element* q, typename View::Element* out, Scores score) {
  using Kernel = AttendMma<Policy, View>;
  using Storage = typename View::Storage;
  if constexpr (Storage::is_ring) {
    static_assert(check::all<check::RingIsWholeTiles<Storage::slots, Kernel::shape.keys>>);
  }
  constexpr std::int64_t most_slots = std::numeric_limits<int>::max();
  require(cache.cache_slots() <= most_slots, "a cache of ", cache.cache_slots(),
          " slots: attend_mma counts up to ", most_slots);
  require(score.scale > 0, "attention with a scale of ", score.scale, ": it must be above 0");
  const RowTiles tiles{batch, Kernel::Block::group, Kernel::shape.rows};
  launch_kernel<Kernel>(backend, {.grid = static_cast<unsigned>(tiles.count() * View::heads.kv)},
                        {.cache = cache, .tiles = tiles, .q = q, .out = out, .score = score});
}

}  // namespace kvring
