// The host, counting the bytes that it hands out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvring/backend.hpp"

namespace kvring::test {

struct CountingHost : Host {
  static inline std::int64_t bytes = 0;  // now
  void* allocate(std::size_t count) const {
    bytes += static_cast<std::int64_t>(count);
    return Host::allocate(count);
  }
  void deallocate(void* memory, std::size_t count) const noexcept {
    bytes -= static_cast<std::int64_t>(count);
    Host::deallocate(memory, count);
  }
};

}  // namespace kvring::test
