// Buffer: memory of a back end, owned. Uninitialised, move-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "kvring/backend.hpp"

namespace kvring {

template <class T, Backend BackendType>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  /// `count` elements; throws Error when there is no room.
  Buffer(BackendType backend, std::int64_t count)
      : backend_(std::move(backend)), size_(count), data_(allocate(backend_, count)) {}

  Buffer(Buffer&& other) noexcept
      : backend_(other.backend_),
        size_(std::exchange(other.size_, 0)),
        data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) backend_.deallocate(data_, bytes());
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

  /// Copies `count` elements from host memory to the front.
  void from_host(const T* source, std::int64_t count) {
    backend_.from_host(data_, source, static_cast<std::size_t>(count) * sizeof(T));
  }

 private:
  static T* allocate(const BackendType& backend, std::int64_t count) {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / sizeof(T);
    require(count >= 0 && count <= most, "a buffer of ", count, " elements");
    if (count == 0) return nullptr;
    return static_cast<T*>(backend.allocate(static_cast<std::size_t>(count) * sizeof(T)));
  }

  BackendType backend_{};
  std::int64_t size_ = 0;
  T* data_ = nullptr;
};

}  // namespace kvring
