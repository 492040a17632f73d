// Backend: where memory lives and kernels run. Host is the one that needs nothing.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <new>

#include "kvring/error.hpp"

namespace kvring {

/// Memory of one back end, and copies between it and the host. Copies of a device back end are
/// ordered on its stream; `to_host` returns when the bytes are there. A back end may also have
/// `copy`, from its memory to its memory; without it such copies go by way of the host.
template <class B>
concept Backend = std::copyable<B> &&
    requires(const B backend, void* to, const void* from, std::size_t bytes) {
  { backend.allocate(bytes) } -> std::same_as<void*>;  // throws Error with the bytes asked for
  backend.deallocate(to, bytes);
  backend.from_host(to, from, bytes);
  backend.to_host(to, from, bytes);
  { B::name } -> std::convertible_to<const char*>;
};

/// The host: aligned memory, kernels on all cores.
struct Host {
  static constexpr const char* name = "host";
  static constexpr std::size_t alignment = 64;  // a cache line, and the widest vector

  void* allocate(std::size_t bytes) const {
    void* memory = ::operator new (bytes, std::align_val_t{alignment}, std::nothrow);
    if (memory == nullptr) {
      fail("out of memory: the host has no ", bytes, " bytes left; plan for a shorter context");
    }
    return memory;
  }
  void deallocate(void* memory, std::size_t) const noexcept {
    ::operator delete (memory, std::align_val_t{alignment});
  }
  void from_host(void* to, const void* from, std::size_t bytes) const {
    std::memcpy(to, from, bytes);
  }
  void to_host(void* to, const void* from, std::size_t bytes) const {
    std::memcpy(to, from, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }
};

}  // namespace kvring
