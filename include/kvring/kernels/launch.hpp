// Launch: f(0) ... f(count - 1), on all cores of the host. Thrust, by its OpenMP back end.
#pragma once

#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/system/omp/execution_policy.h>

#include <cstdint>

#include "kvring/backend.hpp"

namespace kvring {

/// Returns when all calls have. `f` is called in no particular order. A single call needs no
/// threads: waking them would take longer than most steps of a decoded token.
template <class F>
void for_each(const Host&, std::int64_t count, F f) {
  if (count == 1) return f(std::int64_t{0});
  thrust::for_each_n(thrust::omp::par, thrust::counting_iterator<std::int64_t>(0), count, f);
}

}  // namespace kvring
