// What a GPU says of itself.
#include "engine.hpp"
#include "kvring/backend_cuda.cuh"

namespace kvring::programs {

std::int64_t cuda_free_bytes() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(free);
}

}  // namespace kvring::programs
