// Engines on the host with caches of bf16.
#include "engine_host.hpp"

namespace kvring::programs {

template std::unique_ptr<Engine> make_host_engine<bf16>(std::string_view, const ModelFile&,
                                                        const EngineOptions&);

}  // namespace kvring::programs
