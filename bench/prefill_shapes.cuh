// The shapes that prefill attention is measured at, and how, for any of its kernels: one sequence,
// the whole prompt in one chunk, TFLOP/s over the pairs that a mask leaves.
#pragma once

#include "device_bench.cuh"
#include "kvring/kernels/batch.hpp"

namespace kvring::bench {

/// `attend`: called with a back end, a policy, a view, a batch, q, out and scores.
template <class Policy, Heads heads, class Attend>
void prefill(benchmark::State& state, std::int64_t length, Attend attend) {
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
    attend(gpu, Policy{}, view, batch, q.data(), out.data(), score);
  });
  const double flops = 4.0 * static_cast<double>(heads.q_dim()) * pairs(0, length, Policy::window);
  state.counters["TFLOP/s"] = flops / seconds * 1e-12;
}

/// Registers every shape that Attend::exists<Policy, heads>, under `name`.
template <class Attend>
class PrefillShapes {
 public:
  explicit PrefillShapes(const char* name) : name_(name) {
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
  }

 private:
  template <class Policy, Heads heads>
  void add(std::int64_t length) const {
    if constexpr (Attend::template exists<Policy, heads>) {
      benchmark::RegisterBenchmark(
          name_of(name_, heads, Policy::window, length).c_str(),
          [length](benchmark::State& state) { prefill<Policy, heads>(state, length, Attend{}); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(length > 20'000 ? 5 : 30);
    }
  }

  const char* name_;
};

inline int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace kvring::bench
