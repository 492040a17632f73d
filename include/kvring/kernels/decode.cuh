// attend_decode: attention of few rows of each sequence, the keys split over blocks (flash
// decoding: Dao, Haziza, Massa and Sizov, 2023). bf16 or f16, sm_80 and later.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "kvring/arch/cluster.cuh"
#include "kvring/kernels/attention_block.cuh"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/decode_cluster.cuh"
#include "kvring/kernels/decode_combine.cuh"
#include "kvring/kernels/decode_parts.cuh"
#include "kvring/kernels/decode_plan.hpp"
#include "kvring/kernels/launch_kernel.cuh"

namespace kvring {

/// `parts_in_cluster` 1: the parts are the grid's, and if there are several they are combined
/// later. A block has `rows` rows, of which the first `most_valid` may exist.
template <LayerPolicy Policy, class View, int rows, int most_valid, int parts_in_cluster>
struct AttendDecode {
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr MmaShape shape = decode_shape(heads.dim, Policy::window, rows, compiled_arch());
  static constexpr int threads = shape.threads(), blocks_per_sm = shape.blocks_per_sm;
  using Block = AttentionBlock<View, Policy, shape>;
  static constexpr int head_dim = Block::head_dim;

  // In a cluster each block combines a slice of the columns; the others send it theirs.
  static constexpr int slice = static_cast<int>(round_up(ceil_div(head_dim, parts_in_cluster), 4));
  struct Inbox {
    alignas(16) float sums[parts_in_cluster][most_valid][slice];
    PartSoftmax softmax[parts_in_cluster][most_valid];
  };
  // It lies apart, so that blocks may send before others are done, or else over K and V.
  static constexpr bool inbox_apart = parts_in_cluster > 1 &&
                                      sizeof(typename Block::SharedStorage) + sizeof(Inbox) <=
                                          shared_bytes_per_block(compiled_arch());
  static constexpr bool fits = parts_in_cluster == 1 || inbox_apart ||
                               sizeof(Inbox) <= 2 * Block::keys * Block::HeadTile::pitch;
  struct NoInbox {};
  struct SharedStorage {
    typename Block::SharedStorage block;
    std::conditional_t<inbox_apart, Inbox, NoInbox> inbox;
  };
  static_assert(sizeof(SharedStorage) <= shared_bytes_per_block(compiled_arch()));

  struct Params {
    View cache;
    const Segment* segments;
    const T* q;  // [rows, q_heads, head_dim]
    T* out;      // [rows, q_heads, head_dim]
    Scores score;
    PartSums<heads> parts;
    int row_tiles;  // of a segment
  };

  /// Grid: parts, kv heads, segments * row tiles.
  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    // A block may be sent to once it runs, if its inbox is free from the beginning.
    if constexpr (inbox_apart) arch::arrive_at_cluster_barrier();
    arch::wait_for_predecessor();
    if constexpr (parts_in_cluster == 1) arch::let_successor_begin();  // the one that combines
    const Segment segment = params.segments[blockIdx.z / params.row_tiles];
    const int begin = static_cast<int>(blockIdx.z % params.row_tiles) * rows;
    const int all = static_cast<int>(segment.rows) * Block::group;
    const int part = static_cast<int>(blockIdx.x);
    const int parts = parts_in_cluster > 1 ? parts_in_cluster : static_cast<int>(gridDim.x);
    if (begin >= all) return;  // as do all parts of a cluster
    Block block(shared.block, params.score);
    block.attend(params.cache, blockIdx.z / params.row_tiles,
                 {.sequence = segment.sequence,
                  .start = segment.start,
                  .first_row = static_cast<int>(segment.first_row),
                  .begin = begin,
                  .end = begin + rows < all ? begin + rows : all,
                  .kv_head = static_cast<int>(blockIdx.y)},
                 params.q, part, parts);
    // Not before: what the next kernel reads ahead would slow the keys and values down.
    if constexpr (parts_in_cluster > 1) arch::let_successor_begin();
    block.finish_denominators();
    if constexpr (parts_in_cluster > 1) {
      combine_in_cluster(params, shared, block);
    } else if (parts == 1) {
      block.store(params.out);
    } else {
      block.each_sum([&](int row, int column, float a, float b) {
        const std::int64_t at = block.query_offset(row) / head_dim * parts + part;
        *reinterpret_cast<float2*>(params.parts.sums + at * head_dim + column) = {a, b};
      });
      block.each_softmax([&](int row, float maximum, float denominator) {
        const std::int64_t at = block.query_offset(row) / head_dim * parts + part;
        params.parts.softmax[at] = {maximum, denominator};
      });
    }
  }

 private:
  __device__ static Inbox& inbox_of(SharedStorage& shared) {
    if constexpr (inbox_apart) {
      return shared.inbox;
    } else {
      static_assert(fits);
      return *reinterpret_cast<Inbox*>(shared.block.k);
    }
  }
  __device__ static void combine_in_cluster(const Params& params, SharedStorage& shared,
                                            Block& block) {
    const unsigned part = arch::cluster_rank();
    Inbox& inbox = inbox_of(shared);
    if constexpr (!inbox_apart) arch::arrive_at_cluster_barrier();
    arch::wait_at_cluster_barrier();
    block.each_sum([&](int row, int column, float a, float b) {
      const auto owner = static_cast<unsigned>(column / slice);
      float* to = &inbox.sums[part][row][column % slice];
      *reinterpret_cast<float2*>(arch::of_block(to, owner)) = {a, b};
    });
    block.each_softmax([&](int row, float maximum, float denominator) {
#pragma unroll
      for (unsigned owner = 0; owner < parts_in_cluster; ++owner) {
        *arch::of_block(&inbox.softmax[part][row], owner) = {maximum, denominator};
      }
    });
    arch::arrive_at_cluster_barrier();
    arch::wait_at_cluster_barrier();

    const float to_power = softmax_exponent(params.score);
    const int valid_rows = block.valid_rows();
    for (int i = static_cast<int>(threadIdx.x); i < valid_rows * (slice / 4); i += threads) {
      const int row = i / (slice / 4), within = i % (slice / 4) * 4;
      const int column = static_cast<int>(part) * slice + within;
      if (column >= head_dim) continue;
      float highest = -INFINITY;
#pragma unroll
      for (int p = 0; p < parts_in_cluster; ++p) {
        highest = fmaxf(highest, inbox.softmax[p][row].maximum);
      }
      float4 total{0, 0, 0, 0};
      float denominator = 0;
#pragma unroll
      for (int p = 0; p < parts_in_cluster; ++p) {
        const PartSoftmax softmax = inbox.softmax[p][row];
        const float4 value = *reinterpret_cast<const float4*>(&inbox.sums[p][row][within]);
        const float weight = arch::exp2_fast((softmax.maximum - highest) * to_power);
        denominator = __fmaf_rn(weight, softmax.denominator, denominator);
        detail::add_weighted(total, weight, value);
      }
      detail::store_divided(total, denominator, params.out + block.query_offset(row) + column);
    }
  }
};

/// out = attention of the rows of a batch, at most `most_rows` of each segment: 1 for plain
/// decoding, k + 1 to verify k drafted tokens. Keys and values have been appended. A row's bits are
/// the same for any `most_rows`, batch and storage, with one plan.
///
/// `scratch` has plan.scratch_floats(heads, batch.rows) floats, aligned to 16 bytes, and belongs to
/// the stream. The grid follows from batch.count alone, and positions are read when the kernel
/// runs, so a captured launch is right for the whole life of the sequences.
template <std::int64_t most_rows, LayerPolicy Policy, class View>
void attend_decode(const Cuda& backend, Policy, View cache, Batch batch,
                   const typename View::Element* q, typename View::Element* out, Scores score,
                   DecodePlan plan, float* scratch) {
  static_assert(most_rows >= 1 && most_rows <= 16, "kvring: decode takes 1 to 16 rows a sequence");
  using T = typename View::Element;
  using Storage = typename View::Storage;
  constexpr Heads heads = View::heads;
  constexpr auto packed = static_cast<int>(most_rows * heads.group());
  constexpr int rows = packed <= 16 ? 16 : 32;
  constexpr int most_valid = packed < rows ? packed : rows;
  constexpr auto row_tiles = static_cast<int>(ceil_div(packed, rows));
  if constexpr (Storage::is_ring) {
    constexpr int keys = decode_shape(heads.dim, Policy::window, rows, compiled_arch()).keys;
    static_assert(check::all<check::RingIsWholeTiles<Storage::slots, keys>>);
  }
  require(cache.cache_slots() <= std::numeric_limits<int>::max(), "a cache of ",
          cache.cache_slots(), " slots: attend_decode counts up to ",
          std::numeric_limits<int>::max());
  require(score.scale > 0, "attention with a scale of ", score.scale, ": it must be above 0");
  require(plan.parts >= 1 && plan.parts <= CombineParts<T, heads>::most_parts,
          "decode attention in ", plan.parts, " parts; 1 to ", CombineParts<T, heads>::most_parts,
          " can be combined");

  const auto launch = [&]<int cluster>(std::integral_constant<int, cluster>) {
    using Kernel = AttendDecode<Policy, View, rows, most_valid, cluster>;
    require(Kernel::fits, "decode attention of ", most_rows, " rows in a cluster of ", cluster,
            ": what its blocks send does not fit the shared memory of sm_", compiled_arch());
    if constexpr (Kernel::fits) {
      launch_kernel<Kernel>(
          backend,
          {.grid = {static_cast<unsigned>(plan.parts), static_cast<unsigned>(heads.kv),
                    static_cast<unsigned>(batch.count * row_tiles)},
           .cluster = cluster,
           .overlaps_predecessor = compiled_arch() >= 90},
          {.cache = cache,
           .segments = batch.segments,
           .q = q,
           .out = out,
           .score = score,
           .parts = PartSums<heads>::in(scratch, batch.rows, plan.parts),
           .row_tiles = row_tiles});
    }
  };
  if (plan.one_launch) {
    require(plan.parts == 4 || plan.parts == 8 || plan.parts == 16,
            "decode attention in one launch of ", plan.parts, " parts; clusters have 4, 8 or 16");
    require(plan.parts <= 8 || has_wide_clusters(compiled_arch()),
            "decode attention in a cluster of 16 on sm_", compiled_arch(),
            ", whose clusters have 8 blocks at most; let plan_decode choose for it");
    if constexpr (has_wide_clusters(compiled_arch())) {
      if (plan.parts == 16) {
        constexpr int valid = packed <= 16 ? packed : 16;
        constexpr auto tiles = static_cast<int>(ceil_div(packed, 16));
        using Kernel =
            AttendInCluster<Policy, View, valid, tiles, 16, DecodePlan::wide_cluster_keys>;
        launch_kernel<Kernel>(
            backend,
            {.grid = {16, static_cast<unsigned>(heads.kv),
                      static_cast<unsigned>(batch.count * tiles)},
             .cluster = 16,
             .overlaps_predecessor = true},
            {.cache = cache, .segments = batch.segments, .q = q, .out = out, .score = score});
      }
    }
    if (plan.parts == 8) launch(std::integral_constant<int, 8>{});
    if (plan.parts == 4) launch(std::integral_constant<int, 4>{});
    return;
  }
  launch(std::integral_constant<int, 1>{});
  if (plan.parts > 1) {
    launch_kernel<CombineParts<T, heads>>(
        backend,
        {.grid = {static_cast<unsigned>(batch.rows * heads.q),
                  static_cast<unsigned>(CombineParts<T, heads>::column_blocks)},
         .overlaps_predecessor = compiled_arch() >= 90},
        {.parts = PartSums<heads>::in(scratch, batch.rows, plan.parts),
         .count = plan.parts,
         .out = out,
         .score = score});
  }
}

}  // namespace kvring
