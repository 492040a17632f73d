// attend_decode: attention of few rows of each sequence, the keys split over blocks (flash
// decoding: Dao, Haziza, Massa and Sizov, 2023). bf16 or f16, sm_80 and later.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "kvring/arch/cluster.cuh"
#include "kvring/kernels/attention_block.cuh"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/decode_plan.hpp"
#include "kvring/kernels/launch_kernel.cuh"

namespace kvring {

/// Softmax of one part of a row: its maximum, in the units of AttentionBlock, and denominator.
struct PartSoftmax {
  float maximum, denominator;
};

/// Where parts that are no cluster leave their sums.
template <Heads heads>
struct PartSums {
  float* sums;           // [rows, q_heads, parts, head_dim]
  PartSoftmax* softmax;  // [rows, q_heads, parts]

  static PartSums in(float* scratch, std::int64_t rows, int parts) {
    return {scratch, reinterpret_cast<PartSoftmax*>(scratch + rows * heads.q * parts * heads.dim)};
  }
};

/// `parts_in_cluster` 1: the parts are the grid's, and if there are several they are combined
/// later.
template <LayerPolicy Policy, class View, int rows, int parts_in_cluster>
struct AttendDecode {
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr MmaShape shape = decode_shape(heads.dim, rows, compiled_arch());
  static constexpr int threads = shape.threads(), blocks_per_sm = shape.blocks_per_sm;
  using Block = AttentionBlock<View, Policy, shape>;
  static constexpr int head_dim = Block::head_dim;

  struct SharedStorage {
    typename Block::SharedStorage block;
    PartSoftmax softmax[rows];
  };
  static_assert(sizeof(SharedStorage) <= shared_bytes_per_block(compiled_arch()));
  static_assert(sizeof(float) * rows * head_dim <= sizeof(SharedStorage::block.k));

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
    arch::wait_for_predecessor();
    const Segment segment = params.segments[blockIdx.z / params.row_tiles];
    const int begin = static_cast<int>(blockIdx.z % params.row_tiles) * rows;
    const int all = static_cast<int>(segment.rows) * Block::group;
    const int part = static_cast<int>(blockIdx.x), parts = static_cast<int>(gridDim.x);
    if (begin >= all) return;  // as do all parts of a cluster
    Block block(shared.block, params.cache,
                {.sequence = segment.sequence,
                 .start = segment.start,
                 .first_row = static_cast<int>(segment.first_row),
                 .begin = begin,
                 .end = begin + rows < all ? begin + rows : all,
                 .kv_head = static_cast<int>(blockIdx.y)},
                params.score);
    block.attend(params.q, part, parts);
    block.finish_denominators();
    if constexpr (parts_in_cluster > 1) {
      combine_in_cluster(params, shared, block, (begin + rows < all ? begin + rows : all) - begin);
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
  /// Every block of the cluster combines a share of the columns of all rows.
  __device__ static void combine_in_cluster(const Params& params, SharedStorage& shared,
                                            Block& block, int valid_rows) {
    float* sums = reinterpret_cast<float*>(shared.block.k);  // [rows, head_dim]; K has been read
    block.each_sum([&](int row, int column, float a, float b) {
      *reinterpret_cast<float2*>(sums + row * head_dim + column) = {a, b};
    });
    block.each_softmax([&](int row, float maximum, float denominator) {
      shared.softmax[row] = {maximum, denominator};
    });
    arch::cluster_barrier();
    const float to_power = Block::exponent(params.score);
    const int first = static_cast<int>(arch::cluster_rank()) * threads;
    for (int i = first + static_cast<int>(threadIdx.x); i < valid_rows * (head_dim / 4);
         i += parts_in_cluster * threads) {
      const int row = i / (head_dim / 4), column = i % (head_dim / 4) * 4;
      PartSoftmax softmax[parts_in_cluster];
      float4 values[parts_in_cluster];
#pragma unroll
      for (unsigned part = 0; part < parts_in_cluster; ++part) {
        softmax[part] = arch::of_block(shared.softmax, part)[row];
        values[part] =
            *reinterpret_cast<const float4*>(arch::of_block(sums, part) + row * head_dim + column);
      }
      float highest = -INFINITY;
#pragma unroll
      for (const PartSoftmax& each : softmax) highest = fmaxf(highest, each.maximum);
      float4 total{0, 0, 0, 0};
      float denominator = 0;
#pragma unroll
      for (int part = 0; part < parts_in_cluster; ++part) {
        const float weight = arch::exp2_fast((softmax[part].maximum - highest) * to_power);
        denominator = __fmaf_rn(weight, softmax[part].denominator, denominator);
        total.x = __fmaf_rn(weight, values[part].x, total.x);
        total.y = __fmaf_rn(weight, values[part].y, total.y);
        total.z = __fmaf_rn(weight, values[part].z, total.z);
        total.w = __fmaf_rn(weight, values[part].w, total.w);
      }
      const float scale = 1 / denominator;
      uint2 packed{arch::pack<T>(total.x * scale + 0.0f, total.y * scale + 0.0f),
                   arch::pack<T>(total.z * scale + 0.0f, total.w * scale + 0.0f)};
      *reinterpret_cast<uint2*>(params.out + block.query_offset(row) + column) = packed;
    }
    arch::cluster_barrier();  // nobody leaves while others read
  }
};

/// Combines the parts of a row and head: a block each.
template <class T, Heads heads>
struct CombineParts {
  static constexpr int threads = 256, blocks_per_sm = 1, most_parts = 256;
  static constexpr int head_dim = static_cast<int>(heads.dim);
  static constexpr int lanes = head_dim / 4;      // of four columns each
  static constexpr int groups = threads / lanes;  // of parts: group g takes g, g + groups ...
  static_assert(groups >= 1);

  struct SharedStorage {
    float weight[most_parts];
    float4 sums[groups][lanes];
    float highest[threads / 32], denominator;
  };
  struct Params {
    PartSums<heads> parts;
    int count;
    T* out;  // [rows, q_heads, head_dim]
    Scores score;
  };

  /// Grid: rows * q_heads.
  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    arch::wait_for_predecessor();
    const int thread = static_cast<int>(threadIdx.x), count = params.count;
    const std::int64_t first = std::int64_t{blockIdx.x} * count;
    PartSoftmax own{-INFINITY, 0};
    if (thread < count) own = params.parts.softmax[first + thread];
    float highest = own.maximum;
    for (int lane = 16; lane > 0; lane /= 2) {
      highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lane));
    }
    if (thread % 32 == 0) shared.highest[thread / 32] = highest;
    __syncthreads();
    for (const float each : shared.highest) highest = fmaxf(highest, each);
    const float log2_e_scale =
        params.score.softcap == 0 ? params.score.scale * 1.44269504f : 1.44269504f;
    const float weight = arch::exp2_fast((own.maximum - highest) * log2_e_scale);
    shared.weight[thread] = weight;
    float denominator = weight * own.denominator;
    for (int lane = 16; lane > 0; lane /= 2) {
      denominator += __shfl_xor_sync(~0u, denominator, lane);
    }
    __syncthreads();
    if (thread % 32 == 0) shared.highest[thread / 32] = denominator;

    const int group = thread / lanes, lane = thread % lanes;
    if (group < groups) {
      float4 total{0, 0, 0, 0};
      const float4* sums =
          reinterpret_cast<const float4*>(params.parts.sums + first * head_dim) + lane;
#pragma unroll 8
      for (int part = group; part < count; part += groups) {
        const float4 value = sums[part * lanes];
        const float scale = shared.weight[part];
        total.x = __fmaf_rn(scale, value.x, total.x);
        total.y = __fmaf_rn(scale, value.y, total.y);
        total.z = __fmaf_rn(scale, value.z, total.z);
        total.w = __fmaf_rn(scale, value.w, total.w);
      }
      shared.sums[group][lane] = total;
    }
    __syncthreads();
    if (thread >= lanes) return;
    float sum = 0;
    for (const float each : shared.highest) sum += each;
    float4 total{0, 0, 0, 0};
    for (int g = 0; g < groups; ++g) {
      const float4 value = shared.sums[g][thread];
      total.x += value.x;
      total.y += value.y;
      total.z += value.z;
      total.w += value.w;
    }
    const float scale = 1 / sum;
    uint2 packed{arch::pack<T>(total.x * scale + 0.0f, total.y * scale + 0.0f),
                 arch::pack<T>(total.z * scale + 0.0f, total.w * scale + 0.0f)};
    *reinterpret_cast<uint2*>(params.out + std::int64_t{blockIdx.x} * head_dim + thread * 4) =
        packed;
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
  constexpr std::int64_t packed = most_rows * heads.group();
  constexpr int rows = packed <= 16 ? 16 : 32;
  constexpr auto row_tiles = static_cast<int>(ceil_div(packed, rows));
  if constexpr (Storage::is_ring) {
    constexpr int keys = decode_shape(heads.dim, rows, compiled_arch()).keys;
    static_assert(check::all<check::RingIsWholeTiles<Storage::slots, keys>>);
  }
  require(cache.slots <= std::numeric_limits<int>::max(), "a cache of ", cache.slots,
          " slots: attend_decode counts up to ", std::numeric_limits<int>::max());
  require(score.scale > 0, "attention with a scale of ", score.scale, ": it must be above 0");
  require(plan.parts >= 1 && plan.parts <= CombineParts<T, heads>::most_parts,
          "decode attention in ", plan.parts, " parts; 1 to ", CombineParts<T, heads>::most_parts,
          " can be combined");

  const auto launch = [&]<int cluster>(std::integral_constant<int, cluster>) {
    using Kernel = AttendDecode<Policy, View, rows, cluster>;
    launch_kernel<Kernel>(
        backend,
        {.grid = {static_cast<unsigned>(plan.parts), static_cast<unsigned>(heads.kv),
                  static_cast<unsigned>(batch.count * row_tiles)},
         .cluster = cluster},
        {.cache = cache,
         .segments = batch.segments,
         .q = q,
         .out = out,
         .score = score,
         .parts = PartSums<heads>::in(scratch, batch.rows, plan.parts),
         .row_tiles = row_tiles});
  };
  if (plan.one_launch) {
    require(plan.parts == 4 || plan.parts == 8, "decode attention in one launch of ", plan.parts,
            " parts; clusters have 4 or 8");
    plan.parts == 8 ? launch(std::integral_constant<int, 8>{})
                    : launch(std::integral_constant<int, 4>{});
    return;
  }
  launch(std::integral_constant<int, 1>{});
  if (plan.parts > 1) {
    launch_kernel<CombineParts<T, heads>>(
        backend,
        {.grid = static_cast<unsigned>(batch.rows * heads.q),
         .overlaps_predecessor = compiled_arch() >= 90},
        {.parts = PartSums<heads>::in(scratch, batch.rows, plan.parts),
         .count = plan.parts,
         .out = out,
         .score = score});
  }
}

}  // namespace kvring
