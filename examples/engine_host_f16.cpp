// Engines on the host with caches of f16.
#include "engine_host.hpp"

namespace kvring::programs {

template std::unique_ptr<Engine> make_host_engine<f16>(std::string_view, const ModelFile&,
                                                       const EngineOptions&);

}  // namespace kvring::programs
