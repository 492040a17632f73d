// Prefill attention in full f32, without tensor cores: TFLOP/s over the pairs that a mask leaves,
// one sequence, the whole prompt in one chunk.
#include "device_bench.cuh"
#include "kvring/kernels/attend_simt.cuh"

using namespace kvring;
using namespace kvring::bench;

namespace {

template <class Policy, Heads heads>
void simt(benchmark::State& state, std::int64_t length) {
  const Cuda gpu{};
  auto k = noise<float>(gpu, length * heads.kv_dim(), 1);
  auto v = noise<float>(gpu, length * heads.kv_dim(), 2);
  auto q = noise<float>(gpu, length * heads.q_dim(), 3);
  Buffer<float, Cuda> out(gpu, length * heads.q_dim());
  const Segment segment{.rows = length};
  Buffer<Segment, Cuda> segments(gpu, 1);
  segments.from_host(&segment, 1);
  const CacheView<Full, heads, float> view{k.data(), v.data(), length};
  const Batch batch{segments.data(), 1, length};
  const Scores score{.scale = 1 / std::sqrt(static_cast<float>(heads.dim))};

  const double seconds = measure(state, gpu.stream, [&](int) {
    attend_simt(gpu, Policy{}, view, batch, q.data(), out.data(), score);
  });
  const double flops = 4.0 * static_cast<double>(heads.q_dim()) * pairs(0, length, Policy::window);
  state.counters["TFLOP/s"] = flops / seconds * 1e-12;
}

template <class Policy, Heads heads>
void add(std::int64_t length) {
  benchmark::RegisterBenchmark(
      name_of("simt", heads, Policy::window, length).c_str(),
      [length](benchmark::State& state) { simt<Policy, heads>(state, length); })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(20);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr Heads llama64{.q = 32, .kv = 8, .dim = 64}, llama128{.q = 32, .kv = 8, .dim = 128};
  constexpr Heads gemma256{.q = 8, .kv = 2, .dim = 256};
  add<Dense, llama128>(4096);
  add<Dense, llama64>(4096);
  add<Dense, gemma256>(4096);
  add<Swa<512>, gemma256>(4096);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
