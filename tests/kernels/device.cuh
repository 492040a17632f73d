// What the device tests share: whether there is a GPU, and arrays on it.
#pragma once

#include <cstdint>
#include <vector>

#include "kvring/backend_cuda.cuh"
#include "kvring/buffer.hpp"
#include "skip.hpp"

namespace kvring::test {

/// Says that a test case was skipped, if there is no GPU: `if (no_gpu("append")) return;`
inline bool no_gpu(const char* name) {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) return false;
  skip(name, "no GPU");
  return true;
}

/// The same, if there is none of compute capability 9.0.
inline bool no_hopper(const char* name) {
  if (no_gpu(name)) return true;
  int major = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  if (major == 9) return false;
  skip(name, "no GPU of compute capability 9.0");
  return true;
}

/// The host's arithmetic is the device's, bit for bit, if the compiler of the host was allowed to
/// fuse a multiplication and an addition.
#if defined(__FMA__) || defined(__aarch64__)
inline constexpr bool host_fuses = true;
#else
inline constexpr bool host_fuses = false;
#endif

template <class T>
Buffer<T, Cuda> to_device(const Cuda& gpu, const std::vector<T>& values) {
  Buffer<T, Cuda> buffer(gpu, static_cast<std::int64_t>(values.size()));
  if (!values.empty()) buffer.from_host(values.data(), buffer.size());
  return buffer;
}

template <class T>
std::vector<T> to_host(const Cuda& gpu, const Buffer<T, Cuda>& buffer) {
  std::vector<T> values(static_cast<std::size_t>(buffer.size()));
  if (!values.empty()) gpu.to_host(values.data(), buffer.data(), buffer.bytes());
  return values;
}

/// A stream of its own: nothing may be left to the default one.
class Stream {
 public:
  Stream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }
  Cuda backend() const { return {stream_}; }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace kvring::test
