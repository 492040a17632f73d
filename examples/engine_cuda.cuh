// Engines on a GPU. Included by engine_cuda_T.cu, one for each element type T.
#pragma once

#include "engine_impl.hpp"
#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/model/linear_cuda.cuh"

namespace kvring::programs {

template <Element T>
std::unique_ptr<Engine> make_cuda_engine(std::string_view model, const ModelFile& file,
                                         const EngineOptions& options) {
  cuda_free_bytes();  // no driver, no GPU: a sentence before any work
  return make_typed_engine<T>(Cuda{}, model, file, options);
}

}  // namespace kvring::programs
