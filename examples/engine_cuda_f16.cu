// Engines on a GPU with caches of f16.
#include "engine_cuda.cuh"

namespace kvring::programs {

template std::unique_ptr<Engine> make_cuda_engine<f16>(std::string_view, const ModelFile&,
                                                       const EngineOptions&);

}  // namespace kvring::programs
