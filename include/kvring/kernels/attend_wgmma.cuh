// attend_wgmma: attention of a batch on Hopper's tensor cores (sm_90a), for prefill.
#pragma once

#include <cstdint>
#include <limits>

#include "kvring/arch/cluster.cuh"
#include "kvring/arch/wgmma.cuh"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/wgmma_layout.cuh"
#include "kvring/kernels/wgmma_load.cuh"
#include "kvring/kernels/wgmma_warpgroup.cuh"

namespace kvring {

/// A block stays and takes one work item after the other. Tensor maps load queries an item ahead,
/// and tiles of K and V in the order in which they are needed, newest first. Two warpgroups attend;
/// while a softmax is computed the products of the tile before it are under way, and the first
/// scores of the next item are, while the last one is written.
template <LayerPolicy Policy, class View>
struct AttendWgmma {
  using Layout = WgmmaLayout<Policy, View>;
  using T = typename Layout::T;
  using Params = typename Layout::Params;
  using SharedStorage = typename Layout::SharedStorage;
  static constexpr Heads heads = Layout::heads;
  static constexpr WgmmaShape shape = Layout::shape;
  static constexpr int threads = Layout::threads, blocks_per_sm = Layout::blocks_per_sm;
  static constexpr int warpgroups = Layout::warpgroups, rows = Layout::rows, keys = Layout::keys;
  static constexpr int head_dim = Layout::head_dim, group = Layout::group;
  static constexpr int columns = Layout::columns, blocks = Layout::blocks;

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static_assert(sizeof(Params) == 0,
                  "kvring: attend_wgmma needs sm_90a: compile with -gencode "
                  "arch=compute_90a,code=sm_90a, or choose PrefillKernel::mma");
#endif
    // Known to be the same in all lanes: products must not seem to diverge.
    const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);
    if (threadIdx.x == 0) {
      for (int i = 0; i < shape.slots; ++i) {
        shared.full[i].init(1);
        shared.empty[i].init(warpgroups);
        shared.loaded[i].init(1);
      }
      for (int i = 0; i < 2; ++i) shared.item_made[i].init(1);
      for (int i = 0; i < 2 * warpgroups; ++i) {
        shared.q_full[i / 2][i % 2].init(1);
        shared.q_empty[i / 2][i % 2].init(1);
      }
      arch::Barrier::fence_init();
    }
    if (threadIdx.x == 32) {
      arch::prefetch_map(params.q);
      params.k.prefetch();
      params.v.prefetch();
      arch::prefetch_map(params.out);
    }
    __syncthreads();
    arch::wait_for_predecessor();
    if (warpgroup == warpgroups) {
      arch::fewer_registers<shape.loading_registers>();
      const int thread = static_cast<int>(threadIdx.x) - warpgroups * 128;
      const int warp = __shfl_sync(~0u, thread / 32, 0);
      if (warp == 0 && arch::elect_one()) Load::load_queries(params, shared);
      if (warp == 1 && arch::elect_one()) Load::load_tiles(params, shared);
      if (thread >= 64) Load::clear(shared, thread - 64);
    } else {
      arch::more_registers<(3 * 168 - shape.loading_registers) /
                           2>();  // what is left of the launch's
      attend(params, shared, warpgroup);
    }
  }

 private:
  using Load = WgmmaLoad<Policy, View>;
  using Turn = typename Layout::Turn;
  using Warpgroup = WgmmaWarpgroup<View, Policy, keys>;

  /// An attending warpgroup.
  __device__ static void attend(const Params& params, SharedStorage& shared, int warpgroup) {
    const bool leads = threadIdx.x % 128 == 0;
    Warpgroup attending(params.score, warpgroup);
    // Read where they lie: in the loop over tiles every register counts.
    const WorkItem* item = &shared.items[0];
    Turn turn;
    const auto here = [&] { shared.full[turn.slot].wait(turn.parity); };
    const auto slot = [&] { return arch::shared_address(shared.slots[turn.slot]); };
    const auto take = [&] {
      const int taken = turn.slot;
      turn.next();
      return taken;
    };
    const auto give_back = [&](int taken) {
      if (leads) shared.empty[taken].arrive();
    };

    int number = 0;
    shared.q_full[0][warpgroup].wait(0);
    if (!item->exists) return;
    if (shape.ordered && warpgroup == 1) arch::arrive_at_named_barrier(1, 256);
    here();
    attending.begin(*item);
    attending.issue_scores(arch::shared_address(shared.q[0][warpgroup]), slot());
    arch::wait_for_wgmma<0>();
    give_back(take());
    attending.softmax((item->tiles - 1) * keys);
    attending.pack();
    attending.clear_sums();
    while (item->exists) {
      const int buffer = number % 2;
      const std::uint32_t q = arch::shared_address(shared.q[buffer][warpgroup]);
#pragma unroll 1
      for (int tile = item->tiles - 2; tile >= 0; --tile) {
        here();
        if (shape.ordered) arch::named_barrier(1 + warpgroup, 256);
        attending.issue_scores(q, slot());
        const int k = take();
        here();
        attending.issue_sums(slot());
        if (shape.ordered) arch::arrive_at_named_barrier(2 - warpgroup, 256);
        const int v = take();
        arch::wait_for_wgmma<1>();
        give_back(k);
        attending.softmax(tile * keys);
        arch::wait_for_wgmma<0>();
        give_back(v);
        attending.pack();
        attending.rescale();
      }
      here();
      attending.issue_sums(slot());
      const int v = take();
      // The first scores of the next item are under way while this one is written. If there is
      // none they are of whatever lies there, and dropped: a branch here would end the overlap.
      const int next = (number + 1) % 2;
      shared.q_full[next][warpgroup].wait((number + 1) / 2 & 1);
      const WorkItem* next_item = &shared.items[next];
      attending.finish();
      if (next_item->exists) here();
      attending.begin(*next_item);
      attending.issue_scores(arch::shared_address(shared.q[next][warpgroup]), slot());
      const int k = take();
      arch::wait_for_wgmma<1>();
      give_back(v);
      attending.stage(q);
      write(params, shared.q[buffer][warpgroup], *item, warpgroup);
      arch::wait_for_wgmma<0>();
      if (next_item->exists) give_back(k);
      attending.softmax((next_item->tiles - 1) * keys);
      attending.pack();
      attending.clear_sums();
      if (leads) {
        arch::wait_for_stores_to_read();
        shared.q_empty[buffer][warpgroup].arrive();
      }
      item = next_item;
      ++number;
    }
    if (leads) arch::wait_for_stores();
  }

  /// Staged rows to global memory: as a box, or those that exist one by one.
  __device__ static __forceinline__ void write(const Params& params, const unsigned char* staged,
                                               const WorkItem& item, int warpgroup) {
    const int valid = item.valid - warpgroup * 64;
    const int row = item.first_row + warpgroup * (64 / group);
    const int kv_head = item.kv_head;
    arch::fence_shared_for_async();
    arch::named_barrier(3 + warpgroup, 128);  // nobody reads the item any more
    if (valid >= 64) {
      if (threadIdx.x % 128 == 0) {
        arch::store_box(params.out, {0, 0, row, 0, kv_head}, staged);
        arch::commit_stores();
      }
      return;
    }
    constexpr int chunks = head_dim / 8, row_bytes = Layout::row_bytes, row_chunks = row_bytes / 16;
    for (int i = static_cast<int>(threadIdx.x) % 128; i < valid * chunks; i += 128) {
      const int r = i / chunks, chunk = i % chunks;
      T* to = params.out_rows +
              (std::int64_t{row + r / group} * heads.q + kv_head * group + r % group) * heads.dim +
              chunk * 8;
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(
          staged + chunk / row_chunks * 64 * row_bytes + r * row_bytes +
          arch::permuted<row_bytes>(chunk % row_chunks, r) * 16);
    }
    arch::named_barrier(3 + warpgroup, 128);  // all have read when the buffer is given back
  }
};

/// out = attention of every row of a batch, whose keys and values have been appended. bf16 or f16,
/// head dims and groups for which wgmma_fits holds, on sm_90a. Pointers are aligned to 16 bytes,
/// and out must not overlap q.
///
/// The grid follows from the device; `batch.segments` is device memory and is read when the kernel
/// runs. A row's bits depend on its query and the keys that it sees: not on the chunk, the start,
/// the neighbours, the ring, or where it wraps.
template <LayerPolicy Policy, class View>
void attend_wgmma(const Cuda& backend, Policy, View cache, Batch batch,
                  const typename View::Element* q, typename View::Element* out, Scores score) {
  using Kernel = AttendWgmma<Policy, View>;
  using Storage = typename View::Storage;
  constexpr Heads heads = View::heads;
  static_assert(
      wgmma_fits<heads, typename View::Element>,
      "kvring: attend_wgmma takes bf16 or f16, head dims of 64, 96, 128, 192 or 256 (512: "
      "attend_wgmma512), and groups of query heads that divide 64");
  if constexpr (Storage::is_ring) {
    static_assert(check::all<check::RingIsWholeTiles<Storage::slots, detail::part_keys>>);
  }
  require(score.scale > 0, "attention with a scale of ", score.scale, ": it must be above 0");
  require(cache.cache_slots() <= std::numeric_limits<int>::max(), "a cache of ",
          cache.cache_slots(), " slots: attend_wgmma counts up to ",
          std::numeric_limits<int>::max());
  const RowTiles tiles{batch, Kernel::group, Kernel::rows};
  if (batch.rows == 0) return;

  constexpr int group = Kernel::group, columns = Kernel::columns, blocks = Kernel::blocks;
  const arch::TensorShape query_shape = detail::query_shape<heads>(batch.rows);
  const std::array<int, 5> query_box{columns, group, 64 / group, 1, 1};
  const std::array<int, 5> out_box{columns, group, 64 / group, blocks, 1};
  int device = 0, multiprocessors = 0;
  check_cuda(cudaGetDevice(&device));
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  const std::int64_t items = tiles.count() * heads.kv;
  launch_kernel<Kernel>(backend,
                        {.grid = static_cast<unsigned>(smaller(items, multiprocessors)),
                         .overlaps_predecessor = true},
                        {.q = arch::tensor_map(q, query_shape, query_box),
                         .out = arch::tensor_map(static_cast<const typename View::Element*>(out),
                                                 query_shape, out_box),
                         .k = WgmmaTiles<View, Kernel::keys>::of_keys(cache),
                         .v = WgmmaTiles<View, Kernel::keys>::of_values(cache),
                         .cache = cache,
                         .tiles = tiles,
                         .out_rows = out,
                         .score = score});
}

}  // namespace kvring
