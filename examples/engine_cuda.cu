// Engines on a GPU.
#include "engine_impl.hpp"
#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/model/linear_cuda.cuh"

namespace kvring::programs {

std::unique_ptr<Engine> make_cuda_engine(const GgufFile& file, const EngineOptions& options) {
  cuda_free_bytes();  // no driver, no GPU: a sentence before any work
  return make_typed_engine(Cuda{}, file, options);
}

std::int64_t cuda_free_bytes() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(free);
}

}  // namespace kvring::programs
