// Clusters and dependent launches (sm_90 and later). On earlier architectures a cluster is one
// block, and a kernel never begins before its predecessor has ended.
#pragma once

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cuda/ptx>

#include <cstdint>

namespace kvring::arch {

/// Rank of this block in its cluster.
__device__ inline unsigned cluster_rank() {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().block_rank();
#else
  return 0;
#endif
}

/// All threads of all blocks of the cluster meet: what they wrote to shared memory, their own or
/// another block's, is visible after the wait. Between the two a block may do other work.
__device__ inline void arrive_at_cluster_barrier() {
#if __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().barrier_arrive();
#else
  __syncthreads();
#endif
}
__device__ inline void wait_at_cluster_barrier() {
#if __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().barrier_wait();
#endif
}

/// Where block `rank` of the cluster has what this block has at `shared`.
template <class T>
__device__ inline T* of_block(T* shared, [[maybe_unused]] unsigned rank) {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().map_shared_rank(shared, rank);
#else
  return shared;
#endif
}

/// Stores two floats into shared memory of a block of the cluster, at a multiple of 8, and counts
/// their 8 bytes at a Barrier there; both where of_block() finds them. Returns at once (sm_90).
__device__ inline void send_to_block(float* to, float first, float second, std::uint64_t* barrier) {
  const float pair[2] = {first, second};
  cuda::ptx::st_async(to, pair, barrier);
}

/// Waits for the kernel before this one, if this one was launched to overlap it.
__device__ inline void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

/// Lets the next kernel begin, if it was launched to overlap this one: it will wait for the end of
/// this one before it touches memory.
__device__ inline void let_successor_begin() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

}  // namespace kvring::arch
