// Engines on a GPU in f32. Included by engine_cuda_f32.cu; bf16 and f16 have engine_gpu.cuh.
#pragma once

#include "engine_impl.hpp"
#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/model/linear_cuda.cuh"

namespace kvring::programs {

template <Element T>
std::unique_ptr<Engine> make_cuda_engine(std::string_view model, const ModelFile& file,
                                         const EngineOptions& options) {
  return make_typed_engine<T>(Cuda{}, model, file, options);
}

template <Element T>
std::int64_t cuda_scratch_bytes(std::string_view model, std::int64_t context, std::int64_t chunk) {
  std::int64_t bytes = 0;
  for_each_type(Models{}, [&]<class Model>(std::type_identity<Model>) {
    if (model != Model::name) return;
    bytes = Decoder<PlanOf<Model, T>, Cuda>::scratch_bytes(context, 1, chunk);
  });
  return bytes;
}

}  // namespace kvring::programs
