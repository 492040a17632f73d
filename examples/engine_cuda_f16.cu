// Engines on a GPU with weights and caches of f16.
#include "engine_gpu.cuh"

namespace kvring::programs {

template std::unique_ptr<Engine> make_cuda_engine<f16>(std::string_view, const ModelFile&,
                                                       const EngineOptions&);
template std::int64_t cuda_scratch_bytes<f16>(std::string_view, std::int64_t, std::int64_t);

}  // namespace kvring::programs
