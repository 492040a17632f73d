// AttendInCluster: decode attention whose parts are a wide cluster, where latency rules: each block
// has a tile of keys, or a few, and the sums meet in shared memory (sm_90 and later).
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/arch/barrier.cuh"
#include "kvring/arch/cluster.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/decode_cluster_block.cuh"
#include "kvring/kernels/decode_parts.cuh"
#include "kvring/kernels/softmax_cuda.cuh"

namespace kvring {

/// A block has 16 rows, of which the first `most_valid` may exist; a segment has `row_tiles` times
/// as many.
template <LayerPolicy Policy, class View, int most_valid, int row_tiles, int parts, int keys>
struct AttendInCluster {
  using Block = ClusterBlock<View, Policy, keys, most_valid, parts>;
  using T = typename View::Element;
  static constexpr int head_dim = Block::head_dim;
  static constexpr int rows = Block::Layout::rows;
  static constexpr int threads = Block::Layout::threads, blocks_per_sm = 1;

  // Each block combines a slice of the columns; the others send it theirs.
  static constexpr int slice = static_cast<int>(round_up(ceil_div(head_dim, parts), 4));
  struct SharedStorage {
    typename Block::SharedStorage block;
    alignas(16) float sums[parts][most_valid][slice];
    alignas(8) PartSoftmax softmax[parts][most_valid];
    arch::Barrier arrived;  // sums and softmax of all parts
  };
  static_assert(sizeof(SharedStorage) <= shared_bytes_per_block(compiled_arch()));

  struct Params {
    View cache;
    const Segment* segments;
    const T* q;  // [rows, q_heads, head_dim]
    T* out;      // [rows, q_heads, head_dim]
    Scores score;
  };

  /// Grid: parts, kv heads, segments * row tiles.
  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    if (threadIdx.x == 0) {
      shared.arrived.init(1);
      arch::Barrier::fence_init();
    }
    __syncwarp();
    arch::arrive_at_cluster_barrier();
    arch::wait_for_predecessor();
    const Segment segment = params.segments[blockIdx.z / row_tiles];
    const int begin = static_cast<int>(blockIdx.z % row_tiles) * rows;
    const int all = static_cast<int>(segment.rows) * Block::group;
    if (begin >= all) return;  // as do all parts
    const auto part = static_cast<int>(arch::cluster_rank());
    Block block(shared.block, params.score,
                {.sequence = segment.sequence,
                 .start = segment.start,
                 .first_row = static_cast<int>(segment.first_row),
                 .begin = begin,
                 .end = begin + rows < all ? begin + rows : all,
                 .kv_head = static_cast<int>(blockIdx.y)},
                part);
    block.attend(params.cache, blockIdx.z / row_tiles, params.q);
    // Not before: what the next kernel reads ahead would slow the keys and values down.
    arch::let_successor_begin();
    send(shared, block, part);
    shared.arrived.wait(0);
    combine(params, shared, block, part);
  }

 private:
  /// Sends each block its slice of what this one has; every byte counts at the barrier there. So
  /// nobody waits for what it sent, and a block that has received everything may end.
  __device__ static void send(SharedStorage& shared, const Block& block, int part) {
    if (threadIdx.x == 0) {
      const int columns = smaller(slice, larger(0, head_dim - part * slice));
      shared.arrived.arrive_and_expect(static_cast<std::uint32_t>(
          parts * block.valid_rows() *
          (columns * static_cast<int>(sizeof(float)) + static_cast<int>(sizeof(PartSoftmax)))));
    }
    arch::wait_at_cluster_barrier();  // all blocks run, and their barriers are initialised
    const auto send_pair = [&](float* to, float first, float second, int owner) {
      const auto rank = static_cast<unsigned>(owner);
      arch::send_to_block(arch::of_block(to, rank), first, second,
                          arch::of_block(shared.arrived.handle(), rank));
    };
    block.each_softmax([&](int row, float maximum, float denominator) {
      const int owner = static_cast<int>(threadIdx.x) % 32;
      if (owner < parts) {
        send_pair(&shared.softmax[part][row].maximum, maximum, denominator, owner);
      }
    });
    block.each_sum([&](int row, int column, float a, float b) {
      send_pair(&shared.sums[part][row][column % slice], a, b, column / slice);
    });
  }

  /// Adds the parts of this block's slice, in their order.
  __device__ static void combine(const Params& params, const SharedStorage& shared,
                                 const Block& block, int part) {
    const float to_power = softmax_exponent(params.score);
    constexpr int pairs = slice / 2;
    for (int i = static_cast<int>(threadIdx.x); i < block.valid_rows() * pairs; i += threads) {
      const int row = i / pairs, within = i % pairs * 2, column = part * slice + within;
      if (column >= head_dim) continue;
      PartSoftmax softmax[parts];
      float2 sums[parts];
      float highest = -INFINITY;
#pragma unroll
      for (int p = 0; p < parts; ++p) {
        softmax[p] = shared.softmax[p][row];
        sums[p] = *reinterpret_cast<const float2*>(&shared.sums[p][row][within]);
        highest = fmaxf(highest, softmax[p].maximum);
      }
      float2 total{0, 0};
      float denominator = 0;
#pragma unroll
      for (int p = 0; p < parts; ++p) {
        const float weight = arch::exp2_fast((softmax[p].maximum - highest) * to_power);
        denominator = __fmaf_rn(weight, softmax[p].denominator, denominator);
        total.x = __fmaf_rn(weight, sums[p].x, total.x);
        total.y = __fmaf_rn(weight, sums[p].y, total.y);
      }
      // + 0: whether a part without keys added 0 to a -0 must not show.
      const float scale = 1 / denominator;
      *reinterpret_cast<std::uint32_t*>(params.out + block.query_offset(row) + column) =
          arch::pack<T>(total.x * scale + 0.0f, total.y * scale + 0.0f);
    }
  }
};

}  // namespace kvring
