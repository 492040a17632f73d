// Prefill attention by attend_wgmma, on sm_90a: the shapes of bench/prefill.cu. Rows are missing
// where attend_prefill would take another kernel.
#include "device_bench.cuh"
#include "kvring/kernels/attend_prefill.cuh"

using namespace kvring;
using namespace kvring::bench;

namespace {

template <class Policy, Heads heads>
void wgmma(benchmark::State& state, std::int64_t length) {
  const Cuda gpu{};
  auto k = noise<bf16>(gpu, length * heads.kv_dim(), 1);
  auto v = noise<bf16>(gpu, length * heads.kv_dim(), 2);
  auto q = noise<bf16>(gpu, length * heads.q_dim(), 3);
  Buffer<bf16, Cuda> out(gpu, length * heads.q_dim());
  const Segment segment{.rows = length};
  Buffer<Segment, Cuda> segments(gpu, 1);
  segments.from_host(&segment, 1);
  const CacheView<Full, heads, bf16> view{k.data(), v.data(), length};
  const Batch batch{segments.data(), 1, length};
  const Scores score{.scale = 1 / std::sqrt(static_cast<float>(heads.dim))};

  const double seconds = measure(state, gpu.stream, [&](int) {
    attend_wgmma(gpu, Policy{}, view, batch, q.data(), out.data(), score);
  });
  const double flops = 4.0 * static_cast<double>(heads.q_dim()) * pairs(0, length, Policy::window);
  state.counters["TFLOP/s"] = flops / seconds * 1e-12;
}

template <class Policy, Heads heads>
void add(std::int64_t length) {
  if constexpr (prefill_kernel<Policy, heads, bf16> == PrefillKernel::wgmma) {
    benchmark::RegisterBenchmark(
        name_of("wgmma", heads, Policy::window, length).c_str(),
        [length](benchmark::State& state) { wgmma<Policy, heads>(state, length); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(length > 20'000 ? 5 : 30);
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr Heads llama64{.q = 32, .kv = 8, .dim = 64}, llama96{.q = 32, .kv = 8, .dim = 96};
  constexpr Heads llama128{.q = 32, .kv = 8, .dim = 128}, gpt_oss{.q = 64, .kv = 8, .dim = 64};
  constexpr Heads gemma256{.q = 8, .kv = 2, .dim = 256}, gemma512{.q = 8, .kv = 2, .dim = 512};
  add<Dense, llama64>(8192);
  add<Dense, llama96>(8192);
  add<Dense, llama128>(8192);
  add<Dense, llama128>(16'384);
  add<Dense, gemma256>(8192);
  add<Dense, gemma512>(8192);
  add<Swa<512>, gemma256>(8192);
  add<Swa<1024>, gemma256>(8192);
  add<Swa<1024>, llama128>(8192);
  add<Swa<128>, gpt_oss>(8192);
  for (std::int64_t length = 1024; length <= 131'072; length *= 2) {
    if (length != 8192) add<Swa<512>, gemma256>(length);
  }
  for (std::int64_t length = 1024; length <= 131'072; length *= 2) {
    if (length != 8192) add<Dense, gemma256>(length);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
