// Engines on the host with caches of f32.
#include "engine_host.hpp"

namespace kvring::programs {

template std::unique_ptr<Engine> make_host_engine<f32>(std::string_view, const ModelFile&,
                                                       const EngineOptions&);

}  // namespace kvring::programs
