// attend_wgmma512: attention of a batch on Hopper's tensor cores (sm_90a), for prefill with heads
// of 512 columns.
#pragma once

#include <cstdint>
#include <limits>

#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/wgmma512_layout.cuh"
#include "kvring/kernels/wgmma512_load.cuh"
#include "kvring/kernels/wgmma512_warpgroup.cuh"
#include "kvring/kernels/wgmma_tiles.cuh"

namespace kvring {

/// A cluster of two blocks stays and takes one work item after the other. Both walk its tiles in
/// step, newest first, for their halves of the rows.
template <LayerPolicy Policy, class View>
struct AttendWgmma512 {
  using Layout = Wgmma512Layout<Policy, View>;
  using T = typename Layout::T;
  using Params = typename Layout::Params;
  using SharedStorage = typename Layout::SharedStorage;
  static constexpr int threads = Layout::threads, blocks_per_sm = Layout::blocks_per_sm;

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static_assert(sizeof(Params) == 0,
                  "kvring: attend_wgmma512 needs sm_90a: compile with -gencode "
                  "arch=compute_90a,code=sm_90a, or choose PrefillKernel::mma");
#endif
    // Known to be the same in all lanes: products must not seem to diverge.
    const int warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);
    const int rank = static_cast<int>(arch::cluster_rank());
    if (threadIdx.x == 0) {
      for (int i = 0; i < Layout::slots; ++i) {
        for (auto& full : shared.full) full[i].init(1);
        shared.empty[i].init(Layout::cluster);
      }
      for (arch::Barrier& made : shared.item_made) made.init(1);
      shared.q_full.init(1);
      shared.q_empty.init(Layout::warpgroups);
      arch::Barrier::fence_init();
    }
    if (threadIdx.x == 32) {
      arch::prefetch_map(params.q);
      arch::prefetch_map(params.k);
      arch::prefetch_map(params.v);
    }
    arch::arrive_at_cluster_barrier();
    arch::wait_at_cluster_barrier();
    // 40 + 2 * 232 registers a thread of each warpgroup: what 3 * 168 at the launch allow.
    if (warpgroup == Layout::warpgroups) {
      arch::fewer_registers<40>();
      const int thread = static_cast<int>(threadIdx.x) - Layout::warpgroups * 128;
      if (thread == 0) Load::load_tiles(params, shared, rank);
      if (thread == 32) Load::load_queries(params, shared, rank);
    } else {
      arch::more_registers<232>();
      attend(params, shared, warpgroup, rank);
    }
    // A block stays until the other one has done with its barriers.
    __syncwarp();
    arch::arrive_at_cluster_barrier();
    arch::wait_at_cluster_barrier();
  }

 private:
  using Load = Wgmma512Load<Layout>;

  /// An attending warpgroup.
  __device__ static __forceinline__ void attend(const Params& params, SharedStorage& shared,
                                                int warpgroup, int rank) {
    Wgmma512Warpgroup<Policy, View> attending(params.score, shared, warpgroup);
#pragma unroll 1
    for (int number = 0;; ++number) {
      // Read where it lies: in the loop over tiles every register counts.
      const WorkItem& item = shared.items[number % Layout::item_buffers];
      shared.q_full.wait(number & 1);
      if (!item.exists) return;
      attending.attend(item, rank);
      attending.write(item, rank, params.out);
    }
  }
};

/// out = attention of every row of a batch, whose keys and values have been appended. bf16 or f16,
/// head dim 512, groups that divide 64, on sm_90a. Pointers are aligned to 16 bytes, and out must
/// not overlap q.
///
/// The grid follows from the device; `batch.segments` is device memory and is read when the kernel
/// runs. A row's bits depend on its query and the keys that it sees: not on the chunk, the start,
/// the neighbours, the ring, or where it wraps.
template <LayerPolicy Policy, class View>
void attend_wgmma512(const Cuda& backend, Policy, View cache, Batch batch,
                     const typename View::Element* q, typename View::Element* out, Scores score) {
  using Kernel = AttendWgmma512<Policy, View>;
  using Layout = typename Kernel::Layout;
  using Storage = typename View::Storage;
  constexpr Heads heads = View::heads;
  static_assert(wgmma512_fits<heads, typename View::Element>,
                "kvring: attend_wgmma512 takes head dims of 512, in groups that divide 64");
  if constexpr (Storage::is_ring) {
    static_assert(check::all<check::RingIsWholeTiles<Storage::slots, Layout::keys>>);
  }
  require(score.scale > 0, "attention with a scale of ", score.scale, ": it must be above 0");
  require(cache.slots <= std::numeric_limits<int>::max(), "a cache of ", cache.slots,
          " slots: attend_wgmma512 counts up to ", std::numeric_limits<int>::max());
  constexpr int group = Layout::group;
  const RowTiles tiles{batch, group, Layout::item_rows};
  if (batch.rows == 0) return;

  const arch::TensorShape query_shape = detail::query_shape<heads>(batch.rows);
  const arch::TensorShape cache_shape = detail::cache_shape<heads>(cache.slots);
  const std::array<int, 5> query_box{64, group, Layout::rows / group, Layout::half_blocks, 1};
  const std::array<int, 5> key_box{64, Layout::keys, 1, 1, 1};
  const std::array<int, 5> value_box{64, Layout::value_keys, Layout::value_box_blocks, 1, 1};
  int device = 0, multiprocessors = 0;
  check_cuda(cudaGetDevice(&device));
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  const std::int64_t items = tiles.count() * heads.kv;
  const std::int64_t clusters = smaller(items, multiprocessors / Layout::cluster);
  launch_kernel<Kernel>(
      backend,
      {.grid = static_cast<unsigned>(clusters * Layout::cluster), .cluster = Layout::cluster},
      {.q = arch::tensor_map(q, query_shape, query_box),
       .k = arch::tensor_map(cache.k, cache_shape, key_box),
       .v = arch::tensor_map(cache.v, cache_shape, value_box),
       .cache = cache,
       .tiles = tiles,
       .items = static_cast<int>(items),
       .clusters = static_cast<int>(clusters),
       .out = out,
       .score = score});
}

}  // namespace kvring
