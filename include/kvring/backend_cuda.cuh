// Cuda: the back end of one GPU and one stream.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <source_location>

#include "kvring/backend.hpp"

namespace kvring {

/// Throws Error, with CUDA's words and the place of the call, unless `status` is success.
inline void check_cuda(cudaError_t status,
                       std::source_location where = std::source_location::current()) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky must not be reported twice
  fail("CUDA: ", cudaGetErrorString(status), " (", where.file_name(), ":", where.line(), ")");
}

/// Memory is allocated and freed in the order of the stream; so are copies from the host.
struct Cuda {
  static constexpr const char* name = "cuda";
  cudaStream_t stream = nullptr;

  void* allocate(std::size_t bytes) const {
    void* memory = nullptr;
    const cudaError_t status = cudaMallocAsync(&memory, bytes, stream);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      std::size_t free = 0, total = 0;
      check_cuda(cudaMemGetInfo(&free, &total));
      fail("out of memory: the GPU has ", free, " of ", total, " bytes free, ", bytes,
           " more were asked for; plan for a shorter context");
    }
    check_cuda(status);
    return memory;
  }
  void deallocate(void* memory, std::size_t) const noexcept { cudaFreeAsync(memory, stream); }

  void from_host(void* to, const void* from, std::size_t bytes) const {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream));
  }
  void to_host(void* to, const void* from, std::size_t bytes) const {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream));
    check_cuda(cudaStreamSynchronize(stream));
  }
};

}  // namespace kvring
