// Decode attention: one row of each sequence, with a cold L2. Time by events, and as a node of a
// graph; bandwidth over the bytes that must be read: keys and values in sight, and the queries. A
// copy of as many bytes, read and written, is timed by events too.
#include "device_bench.cuh"
#include "device_copy.cuh"
#include "kvring/kernels/decode.cuh"

using namespace kvring;
using namespace kvring::bench;

namespace {

/// What a copy reaches on this machine, bytes read and bytes written: the yardstick.
void copy(benchmark::State& state) {
  const Cuda gpu{};
  constexpr std::int64_t bytes = std::int64_t{1} << 30;
  auto from = noise<float>(gpu, bytes / 4, 1);
  Buffer<float, Cuda> to(gpu, bytes / 4);
  const double seconds = measure(state, gpu.stream, [&](int) {
    check_cuda(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice));
  });
  state.counters["GB/s"] = 2e-9 * bytes / seconds;
}

__global__ void nothing() {}
void empty_kernel(benchmark::State& state) {
  measure(state, nullptr, [](int) { nothing<<<1, 32>>>(); });
}

/// `lengths` of the sequences; caches are rotated so that nothing is left in the L2.
template <class Policy, Heads heads, class Storage>
void decode(benchmark::State& state, const std::vector<std::int64_t>& lengths, std::int64_t slots) {
  const Cuda gpu{};
  const auto sequences = static_cast<std::int64_t>(lengths.size());
  const std::int64_t elements = sequences * slots * heads.kv_dim();
  double bytes = 2 * static_cast<double>(sequences * heads.q_dim()) * sizeof(bf16);
  for (const std::int64_t length : lengths) {
    bytes +=
        2.0 * static_cast<double>(smaller(length, Policy::window) * heads.kv_dim()) * sizeof(bf16);
  }
  const int copies = cold_copies(elements * 4);
  auto k = noise<bf16>(gpu, copies * elements, 1);
  auto v = noise<bf16>(gpu, copies * elements, 2);
  auto q = noise<bf16>(gpu, sequences * heads.q_dim(), 3);
  Buffer<bf16, Cuda> out(gpu, sequences * heads.q_dim());
  std::vector<Segment> host(lengths.size());
  for (std::size_t s = 0; s < host.size(); ++s) {
    const auto row = static_cast<std::int64_t>(s);
    host[s] = {.sequence = row, .start = {lengths[s] - 1}, .first_row = row, .rows = 1};
  }
  Buffer<Segment, Cuda> segments(gpu, sequences);
  segments.from_host(host.data(), sequences);
  int multiprocessors = 0;
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  const DecodePlan plan = plan_decode<Policy, heads>(slots, sequences, multiprocessors);
  Buffer<float, Cuda> scratch(gpu, plan.scratch_floats(heads, sequences) + 4);
  cudaStream_t stream;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  check_cuda(cudaDeviceSynchronize());
  const Scores score{.scale = 1 / std::sqrt(static_cast<float>(heads.dim))};
  const auto run = [&](int i) {
    const std::int64_t at = i % copies * elements;
    const CacheView<Storage, heads, bf16> view{k.data() + at, v.data() + at, slots};
    attend_decode<1>(Cuda{stream}, Policy{}, view, Batch{segments.data(), sequences, sequences},
                     q.data(), out.data(), score, plan, scratch.data());
  };

  const double seconds = measure(state, stream, run);
  state.counters["GB/s"] = bytes / seconds * 1e-9;
  state.counters["graph_us"] = graph_node_seconds(stream, bytes > 1e8 ? 8 : 64, run) * 1e6;
  state.counters["parts"] = plan.parts;
  const auto half = static_cast<std::int64_t>(bytes / 2) / 16 * 16;
  state.counters["copy_us"] = CopyTimes(gpu, half, 1).alone * 1e6;
  check_cuda(cudaStreamDestroy(stream));
}

template <class Policy, Heads heads>
void add(std::int64_t batch, std::int64_t length) {
  constexpr bool dense = Policy::window == unbounded;
  constexpr std::int64_t ring = dense ? 64 : round_up(Policy::window - 1 + 64, 64);
  using Storage = std::conditional_t<dense, Full, Ring<ring>>;
  benchmark::RegisterBenchmark(
      (name_of("decode", heads, Policy::window, length) + "/batch=" + std::to_string(batch))
          .c_str(),
      [=](benchmark::State& state) {
        const std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), length);
        decode<Policy, heads, Storage>(state, lengths, dense ? length : ring);
      })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(50);
}

/// 1,024 sequences of 1 ... 8,192 tokens, the local layer of Gemma 3 4B.
void ragged(benchmark::State& state) {
  std::vector<std::int64_t> lengths;
  std::uint64_t x = 1;
  for (int s = 0; s < 1024; ++s) {
    x = x * 6364136223846793005u + 1442695040888963407u;  // Knuth's generator
    lengths.push_back(1 + static_cast<std::int64_t>(x >> 33) % 8192);
  }
  decode<Swa<1024>, Heads{.q = 8, .kv = 4, .dim = 256}, Ring<1088>>(state, lengths, 1088);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr Heads llama128{.q = 32, .kv = 8, .dim = 128}, gemma256{.q = 8, .kv = 2, .dim = 256};
  constexpr Heads gemma512{.q = 8, .kv = 2, .dim = 512}, gpt_oss{.q = 64, .kv = 8, .dim = 64};
  benchmark::RegisterBenchmark("copy/bytes=1GiB", copy)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(20);
  benchmark::RegisterBenchmark("empty_kernel", empty_kernel)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(50);
  add<Swa<512>, gemma256>(1, 32'768);
  add<Swa<512>, gemma256>(16, 32'768);
  add<Swa<512>, gemma256>(128, 32'768);
  add<Swa<1024>, gemma256>(1, 32'768);
  add<Swa<128>, gpt_oss>(1, 32'768);
  for (const std::int64_t batch : {1, 16}) {
    add<Dense, llama128>(batch, 32'768);
    add<Dense, gemma256>(batch, 32'768);
    add<Dense, gemma512>(batch, 32'768);
  }
  add<Dense, llama128>(1, 131'072);
  benchmark::RegisterBenchmark("decode/hd=256/heads=8:4/window=1024/ragged=1..8192/batch=1024",
                               ragged)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(20);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
