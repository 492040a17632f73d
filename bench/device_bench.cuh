// What the benchmarks of kernels share: device time by CUDA events, a cold L2, noise, and the work
// that a kind of attention cannot avoid.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kvring/backend_cuda.cuh"
#include "kvring/buffer.hpp"
#include "kvring/cache.hpp"
#include "kvring/kernels/batch.hpp"

namespace kvring::bench {

template <class T>
__global__ void make_noise(T* values, std::int64_t count, std::uint64_t seed) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    std::uint64_t x = (seed + static_cast<std::uint64_t>(i)) * 0x9e3779b97f4a7c15u;
    float sum = 0;  // of four uniforms: near enough to a normal distribution of unit variance
    for (int n = 0; n < 4; ++n) {
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
      sum += static_cast<float>(x >> 40) * 0x1p-24f - 0.5f;
    }
    values[i] = from_f32<T>(sum * 1.7320508f);
  }
}

/// Keeps the GPU busy while the host queues what comes next, so that its launch time is hidden.
__global__ void spin(std::int64_t cycles) {
  const std::int64_t begin = clock64();
  while (clock64() - begin < cycles) {
  }
}

template <class T>
Buffer<T, Cuda> noise(const Cuda& gpu, std::int64_t count, std::uint64_t seed) {
  Buffer<T, Cuda> values(gpu, count);
  make_noise<<<1024, 256, 0, gpu.stream>>>(values.data(), count, seed);
  check_cuda(cudaGetLastError());
  return values;
}

class Timer {
 public:
  explicit Timer(cudaStream_t stream) : stream_(stream) {
    check_cuda(cudaEventCreate(&begin_));
    check_cuda(cudaEventCreate(&end_));
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }

  /// Seconds that `work` takes on the stream.
  template <class Work>
  double operator()(Work work) {
    spin<<<1, 1, 0, stream_>>>(180'000);  // about 100 us
    check_cuda(cudaEventRecord(begin_, stream_));
    work();
    check_cuda(cudaEventRecord(end_, stream_));
    check_cuda(cudaEventSynchronize(end_));
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return milliseconds * 1e-3;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Warms up, then runs `work(i)` as often as the benchmark asks, i counting the calls: the median
/// of the seconds, which becomes the counter median_us too.
template <class Work>
double measure(benchmark::State& state, cudaStream_t stream, Work work) {
  Timer timer(stream);
  int call = 0;
  for (int i = 0; i < 10; ++i) timer([&] { work(call++); });
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(timer([&] { work(call++); }));
    state.SetIterationTime(times.back());
  }
  const double seconds = median(times);
  state.counters["median_us"] = seconds * 1e6;
  return seconds;
}

/// Seconds of one call of `work(i)` among `calls` in a row, the median of several such rows.
template <class Work>
double row_seconds(cudaStream_t stream, int calls, Work work) {
  Timer timer(stream);
  int call = 0;
  const auto row = [&] {
    for (int i = 0; i < calls; ++i) work(call++);
  };
  timer(row);
  std::vector<double> times;
  for (int i = 0; i < 9; ++i) times.push_back(timer(row));
  return median(times) / calls;
}

/// Buffers to rotate, so that what is `bytes` long has left the L2 when its turn comes again.
inline int cold_copies(std::int64_t bytes) {
  return static_cast<int>(larger(2, smaller(64, (std::int64_t{256} << 20) / bytes + 1)));
}

/// Seconds of one call of `work(i)` as a node of a graph that holds `calls` of them.
template <class Work>
double graph_node_seconds(cudaStream_t stream, int calls, Work work) {
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) work(i);
  check_cuda(cudaStreamEndCapture(stream, &graph));
  check_cuda(cudaGraphInstantiate(&replay, graph, 0));
  Timer timer(stream);
  double best = 1;
  for (int i = 0; i < 7; ++i) {
    const double seconds = timer([&] { check_cuda(cudaGraphLaunch(replay, stream)); });
    best = seconds < best ? seconds : best;
  }
  check_cuda(cudaGraphExecDestroy(replay));
  check_cuda(cudaGraphDestroy(graph));
  return best / calls;
}

/// Query-key pairs that queries at start ... start + rows - 1 see.
inline double pairs(std::int64_t start, std::int64_t rows, std::int64_t window) {
  double count = 0;
  for (std::int64_t p = start; p < start + rows; ++p) {
    count += static_cast<double>(smaller(p + 1, window));
  }
  return count;
}

inline std::string name_of(const char* what, Heads heads, std::int64_t window,
                           std::int64_t length) {
  const std::string seen = window == unbounded ? "causal" : "window=" + std::to_string(window);
  return std::string(what) + "/hd=" + std::to_string(heads.dim) +
         "/heads=" + std::to_string(heads.q) + ":" + std::to_string(heads.kv) + "/" + seen +
         "/length=" + std::to_string(length);
}

}  // namespace kvring::bench
