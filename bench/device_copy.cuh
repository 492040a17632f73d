// What a copy of as many bytes takes, timed as kernels are: the yardstick of those that only move
// bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "device_bench.cuh"

namespace kvring::bench {

__global__ void copy_vectors(const uint4* from, uint4* to, std::int64_t count) {
  constexpr int at_once = 4;
  const std::int64_t first = std::int64_t{blockIdx.x} * blockDim.x * at_once + threadIdx.x;
  uint4 held[at_once];
#pragma unroll
  for (int n = 0; n < at_once; ++n) {
    const std::int64_t i = first + n * std::int64_t{blockDim.x};
    if (i < count) held[n] = from[i];
  }
#pragma unroll
  for (int n = 0; n < at_once; ++n) {
    const std::int64_t i = first + n * std::int64_t{blockDim.x};
    if (i < count) to[i] = held[n];
  }
}

/// Seconds of a copy that reads `bytes` and writes as many: the faster of the driver's and a plain
/// kernel's, alone and among others in a row.
struct CopyTimes {
  double alone, in_a_row;

  CopyTimes(const Cuda& gpu, std::int64_t bytes, int calls_in_a_row) {
    const int copies = cold_copies(2 * bytes);
    auto from = noise<float>(gpu, copies * bytes / 4, 1);
    Buffer<float, Cuda> to(gpu, copies * bytes / 4);
    const auto at = [=](int i) { return i % copies * (bytes / 4); };
    const auto driver = [&](int i) {
      check_cuda(cudaMemcpyAsync(to.data() + at(i), from.data() + at(i),
                                 static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                                 gpu.stream));
    };
    const auto kernel = [&](int i) {
      const auto blocks = static_cast<unsigned>(ceil_div(bytes / 16, 4 * 256));
      copy_vectors<<<blocks, 256, 0, gpu.stream>>>(
          reinterpret_cast<const uint4*>(from.data() + at(i)),
          reinterpret_cast<uint4*>(to.data() + at(i)), bytes / 16);
    };
    Timer timer(gpu.stream);
    const auto once = [&](auto work) {
      std::vector<double> times;
      for (int i = 0; i < 60; ++i) {
        const double seconds = timer([&] { work(i); });
        if (i >= 10) times.push_back(seconds);
      }
      return median(times);
    };
    alone = std::min(once(driver), once(kernel));
    in_a_row = std::min(row_seconds(gpu.stream, calls_in_a_row, driver),
                        row_seconds(gpu.stream, calls_in_a_row, kernel));
  }
};

}  // namespace kvring::bench
