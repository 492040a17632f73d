// Engines on the host. Included by engine_host_T.cpp, one for each element type T.
#pragma once

#include "engine_impl.hpp"
#include "kvring/kernels/attend.hpp"
#include "kvring/model/linear_host.hpp"

namespace kvring::programs {

template <Element T>
std::unique_ptr<Engine> make_host_engine(std::string_view model, const ModelFile& file,
                                         const EngineOptions& options) {
  return make_typed_engine<T>(Host{}, model, file, options);
}

}  // namespace kvring::programs
