// launch_kernel: starts a kernel that is a struct. Every kernel that is more than a functor for
// for_each goes through here: its shared memory, cluster and stream are set in one place.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kvring/backend_cuda.cuh"

namespace kvring {

namespace detail {

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, Kernel::blocks_per_sm)
    run_kernel(const __grid_constant__ typename Kernel::Params params) {
  extern __shared__ __align__(1024) unsigned char shared_memory[];
  Kernel{}(params, *reinterpret_cast<typename Kernel::SharedStorage*>(shared_memory));
}

}  // namespace detail

struct LaunchShape {
  dim3 grid = 1;
  /// Blocks of a cluster (sm_90 and later), a divisor of grid.x.
  unsigned cluster = 1;
  /// Programmatic dependent launch (sm_90 and later): may begin before the kernel before it ends,
  /// so it must call cudaGridDependencySynchronize() before it touches what that one wrote.
  bool overlaps_predecessor = false;
};

/// Ordered on the stream; returns at once. A grid without blocks launches nothing.
///
/// What launch_kernel wants of a kernel:
///   struct Params           trivially copyable; passed as __grid_constant__
///   struct SharedStorage    dynamic shared memory; its sizeof is the launch size
///   static constexpr int threads, blocks_per_sm      __launch_bounds__
///   __device__ void operator()(const Params&, SharedStorage&) const
template <class Kernel>
void launch_kernel(const Cuda& backend, LaunchShape shape, const typename Kernel::Params& params) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const auto kernel = &detail::run_kernel<Kernel>;
  constexpr std::size_t shared_bytes = sizeof(typename Kernel::SharedStorage);
  if constexpr (shared_bytes > 48 * 1024) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
  }
  // More than eight blocks is what a GPU may refuse: not every GPC has that many to give.
  if (shape.cluster > 8) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  }
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim = {shape.cluster, 1, 1};
    ++count;
  }
  if (shape.overlaps_predecessor) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = Kernel::threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = backend.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check_cuda(cudaLaunchKernelEx(&config, kernel, params));
}

}  // namespace kvring
