// The engine on the host.
#include "engine_impl.hpp"
#include "kvring/kernels/attend.hpp"
#include "kvring/model/linear_host.hpp"

namespace kvring::programs {

std::unique_ptr<Engine> make_host_engine(const GgufFile& file, const EngineOptions& options) {
  return make_typed_engine(Host{}, file, options);
}

}  // namespace kvring::programs
