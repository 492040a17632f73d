// Append and fused append: bytes read and written a second, and the share of what a copy of as many
// bytes reaches in the same run, with a cold L2. The table of angles, which the fused append reads
// too, is not counted: all layers of a kind share it.
#include "device_bench.cuh"
#include "kvring/kernels/append_fused.cuh"
#include "kvring/kernels/append_rows.cuh"

using namespace kvring;
using namespace kvring::bench;

namespace {

constexpr int calls_in_a_row = 20;

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

  CopyTimes(const Cuda& gpu, std::int64_t bytes) {
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

/// `bytes` are those read and those written by `work`.
template <class Work>
void report(benchmark::State& state, const Cuda& gpu, std::int64_t bytes, Work work) {
  const double alone = measure(state, gpu.stream, work);
  const double in_a_row = row_seconds(gpu.stream, calls_in_a_row, work);
  const CopyTimes copy(gpu, bytes / 2 / 16 * 16);
  state.counters["row_us"] = in_a_row * 1e6;
  state.counters["GB/s"] = static_cast<double>(bytes) / in_a_row * 1e-9;
  state.counters["copy_us"] = copy.alone * 1e6;
  state.counters["copy_row_us"] = copy.in_a_row * 1e6;
  state.counters["copy_GB/s"] = static_cast<double>(bytes) / copy.in_a_row * 1e-9;
  state.counters["share_alone"] = copy.alone / alone;
  state.counters["share"] = copy.in_a_row / in_a_row;
}

template <Heads heads>
using View = CacheView<Ring<64>, heads, bf16>;  // the view's slots count, not the type's

template <Heads heads>
void fused(benchmark::State& state, std::int64_t rows) {
  const Cuda gpu{};
  constexpr std::int64_t width = heads.q_dim() + 2 * heads.kv_dim();
  const std::int64_t slots = rows + 128, start = 100, elements = slots * heads.kv_dim();
  const std::int64_t bytes = 2 * rows * width * static_cast<std::int64_t>(sizeof(bf16));
  const int copies = cold_copies(bytes);
  auto qkv = noise<bf16>(gpu, copies * rows * width, 1);
  auto norm = noise<float>(gpu, heads.dim, 2);
  auto angles = noise<float>(gpu, copies * rows * heads.dim, 3);
  Buffer<bf16, Cuda> q(gpu, copies * rows * heads.q_dim());
  Buffer<bf16, Cuda> k(gpu, copies * elements), v(gpu, copies * elements);
  const Segment segment{.start = {start}, .rows = rows};
  Buffer<Segment, Cuda> segments(gpu, 1);
  segments.from_host(&segment, 1);
  report(state, gpu, bytes, [&](int i) {
    const std::int64_t at = i % copies;
    append_fused(gpu, View<heads>{k.data() + at * elements, v.data() + at * elements, slots},
                 Batch{segments.data(), 1, rows},
                 FusedAppend<bf16, bf16>{.qkv = qkv.data() + at * rows * width,
                                         .stride = width,
                                         .q = q.data() + at * rows * heads.q_dim(),
                                         .q_norm = norm.data(),
                                         .k_norm = norm.data(),
                                         .v_norm = true,
                                         .epsilon = 1e-6f,
                                         .angles = angles.data() + at * rows * heads.dim,
                                         .rotated = heads.dim});
  });
}

template <Heads heads>
void plain(benchmark::State& state, std::int64_t rows) {
  const Cuda gpu{};
  constexpr std::int64_t width = heads.kv_dim();
  const std::int64_t slots = rows + 128, start = 100, elements = slots * width;
  const std::int64_t bytes = 4 * rows * width * static_cast<std::int64_t>(sizeof(bf16));
  const int copies = cold_copies(bytes);
  auto from_k = noise<bf16>(gpu, copies * rows * width, 1);
  auto from_v = noise<bf16>(gpu, copies * rows * width, 2);
  Buffer<bf16, Cuda> k(gpu, copies * elements), v(gpu, copies * elements);
  const Segment segment{.start = {start}, .rows = rows};
  Buffer<Segment, Cuda> segments(gpu, 1);
  segments.from_host(&segment, 1);
  report(state, gpu, bytes, [&](int i) {
    const std::int64_t at = i % copies;
    append_rows(gpu, View<heads>{k.data() + at * elements, v.data() + at * elements, slots},
                Batch{segments.data(), 1, rows}, from_k.data() + at * rows * width,
                from_v.data() + at * rows * width);
  });
}

template <Heads heads>
void add(std::int64_t rows) {
  const std::string rest = "/hd=" + std::to_string(heads.dim) +
                           "/heads=" + std::to_string(heads.q) + ":" + std::to_string(heads.kv) +
                           "/rows=" + std::to_string(rows);
  const auto one = [rows](const std::string& name, auto function) {
    benchmark::RegisterBenchmark(
        name.c_str(), [rows, function](benchmark::State& state) { function(state, rows); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(50);
  };
  one("fused_append" + rest, fused<heads>);
  one("append" + rest, plain<heads>);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr Heads gemma256{.q = 8, .kv = 2, .dim = 256}, llama128{.q = 32, .kv = 8, .dim = 128};
  for (const std::int64_t rows : {4096, 16'384}) {
    add<gemma256>(rows);
    add<llama128>(rows);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
