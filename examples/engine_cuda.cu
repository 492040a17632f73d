// What a GPU says of itself.
#include "engine.hpp"
#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/step_rows.cuh"

namespace kvring::programs {

std::string cuda_refusal() {
  int devices = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&devices); status != cudaSuccess) {
    return concat("CUDA finds no GPU that it can use (", cudaGetErrorString(status), ")");
  }
  if (devices == 0) return "there is no GPU";
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, &detail::run_kernel<AdvanceKernel>);
  if (status == cudaSuccess) return "";
  cudaGetLastError();
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return cudaGetErrorString(status);
  return concat("this program is not compiled for the GPU, a ", properties.name, " of sm_",
                properties.major, properties.minor, " (", cudaGetErrorString(status),
                "; configure with -DCMAKE_CUDA_ARCHITECTURES=", properties.major, properties.minor,
                ")");
}

std::int64_t cuda_free_bytes() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(free);
}

}  // namespace kvring::programs
