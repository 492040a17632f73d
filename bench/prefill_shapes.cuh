// The shapes that prefill attention is measured at, and how, for any of its kernels: one sequence,
// the whole prompt in one chunk, TFLOP/s over the pairs that a mask leaves.
#pragma once

#include "device_bench.cuh"
#include "kvring/kernels/batch.hpp"

namespace kvring::bench {

/// A batch of sequences of `lengths` tokens, each whole in one chunk. `attend`: called with a back
/// end, a policy, a view, a batch, q, out and scores.
template <class Policy, Heads heads, class Attend>
void prefill(benchmark::State& state, const std::vector<std::int64_t>& lengths, Attend attend) {
  const Cuda gpu{};
  const auto sequences = static_cast<std::int64_t>(lengths.size());
  std::vector<Segment> host;
  std::int64_t rows = 0, longest = 0;
  double seen = 0;
  for (const std::int64_t length : lengths) {
    const auto sequence = static_cast<std::int64_t>(host.size());
    host.push_back({.sequence = sequence, .first_row = rows, .rows = length});
    rows += length;
    longest = larger(longest, length);
    seen += pairs(0, length, Policy::window);
  }
  auto k = noise<bf16>(gpu, sequences * longest * heads.kv_dim(), 1);
  auto v = noise<bf16>(gpu, sequences * longest * heads.kv_dim(), 2);
  auto q = noise<bf16>(gpu, rows * heads.q_dim(), 3);
  Buffer<bf16, Cuda> out(gpu, rows * heads.q_dim());
  Buffer<Segment, Cuda> segments(gpu, sequences);
  segments.from_host(host.data(), sequences);
  const CacheView<Full, heads, bf16> view{k.data(), v.data(), longest};
  const Batch batch{segments.data(), sequences, rows};
  const Scores score{.scale = 1 / std::sqrt(static_cast<float>(heads.dim))};

  const double seconds = measure(state, gpu.stream, [&](int) {
    attend(gpu, Policy{}, view, batch, q.data(), out.data(), score);
  });
  state.counters["TFLOP/s"] = 4.0 * static_cast<double>(heads.q_dim()) * seen / seconds * 1e-12;
}

/// 256 sequences of 16 ... 8,192 tokens, as many short ones as long ones on a logarithmic scale.
inline std::vector<std::int64_t> ragged_lengths() {
  std::vector<std::int64_t> lengths;
  std::uint64_t x = 1;
  for (int s = 0; s < 256; ++s) {
    x = x * 6364136223846793005u + 1442695040888963407u;  // Knuth's generator
    lengths.push_back(std::llround(std::exp2(4 + 9 * static_cast<double>(x >> 40) * 0x1p-24)));
  }
  return lengths;
}

/// Registers every shape that Attend::exists<Policy, heads>, under `name`.
template <class Attend>
class PrefillShapes {
 public:
  explicit PrefillShapes(const char* name) : name_(name) {
    constexpr Heads llama64{.q = 32, .kv = 8, .dim = 64}, llama96{.q = 32, .kv = 8, .dim = 96};
    constexpr Heads llama128{.q = 32, .kv = 8, .dim = 128}, llama192{.q = 32, .kv = 8, .dim = 192};
    constexpr Heads gpt_oss{.q = 64, .kv = 8, .dim = 64};
    constexpr Heads gemma256{.q = 8, .kv = 2, .dim = 256}, gemma512{.q = 8, .kv = 2, .dim = 512};
    constexpr Heads one256{.q = 4, .kv = 1, .dim = 256}, many256{.q = 16, .kv = 8, .dim = 256};
    constexpr Heads many512{.q = 32, .kv = 4, .dim = 512};
    add<Dense, llama64>(8192);
    add<Dense, llama96>(8192);
    add<Dense, llama128>(8192);
    add<Dense, llama128>(16'384);
    add<Dense, llama192>(8192);
    add<Dense, gemma256>(8192);
    add<Dense, gemma512>(8192);
    add<Dense, gemma512>(16'384);
    add<Dense, many512>(8192);
    add<Swa<512>, gemma256>(8192);
    add<Swa<512>, one256>(8192);
    add<Swa<1024>, gemma256>(8192);
    add<Swa<1024>, many256>(8192);
    add<Swa<1024>, llama128>(8192);
    add<Swa<128>, gpt_oss>(8192);
    add_ragged<Swa<512>, gemma256>();
    add_ragged<Dense, gemma256>();
    for (std::int64_t length = 1024; length <= 262'144; length *= 2) {
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
      benchmark::RegisterBenchmark(name_of(name_, heads, Policy::window, length).c_str(),
                                   [length](benchmark::State& state) {
                                     prefill<Policy, heads>(state, std::vector{length}, Attend{});
                                   })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(length > 20'000 ? 5 : 30);
    }
  }

  template <class Policy, Heads heads>
  void add_ragged() const {
    if constexpr (Attend::template exists<Policy, heads>) {
      const std::string name = name_of(name_, heads, Policy::window, 0);
      benchmark::RegisterBenchmark(
          (name.substr(0, name.rfind('/')) + "/ragged=16..8192/batch=256").c_str(),
          [](benchmark::State& state) {
            prefill<Policy, heads>(state, ragged_lengths(), Attend{});
          })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(10);
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
