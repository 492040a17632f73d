// A ring against a full cache, the same queries, keys and values: calls of both take turns in one
// process, and the counter `slower` is the median time of the ring over that of the full cache,
// less 1. Both caches hold the same numbers, and the outputs must be equal as bits.
#include <cstring>

#include "device_bench.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_prefill.cuh"
#include "kvring/kernels/decode.cuh"

using namespace kvring;
using namespace kvring::bench;

namespace {

template <class A, class B>
void compare(benchmark::State& state, cudaStream_t stream, A full, B ring) {
  Timer timer(stream);
  std::vector<double> full_times, ring_times;
  const auto time_both = [&](int turn) {
    // Whoever goes second finds a warmer chip: they swap.
    const bool full_first = turn % 2 == 0;
    const double first = full_first ? timer([&] { full(turn); }) : timer([&] { ring(turn); });
    const double second = full_first ? timer([&] { ring(turn); }) : timer([&] { full(turn); });
    full_times.push_back(full_first ? first : second);
    ring_times.push_back(full_first ? second : first);
  };
  int turn = 0;
  for (; turn < 10; ++turn) time_both(turn);
  full_times.clear();
  ring_times.clear();
  for (auto _ : state) {
    time_both(turn++);
    state.SetIterationTime(ring_times.back());
  }
  const double full_seconds = median(full_times), ring_seconds = median(ring_times);
  state.counters["full_us"] = full_seconds * 1e6;
  state.counters["ring_us"] = ring_seconds * 1e6;
  state.counters["slower"] = ring_seconds / full_seconds - 1;
}

void require_equal(benchmark::State& state, const Buffer<bf16, Cuda>& a,
                   const Buffer<bf16, Cuda>& b) {
  std::vector<bf16> x(static_cast<std::size_t>(a.size())), y(x.size());
  check_cuda(cudaMemcpy(x.data(), a.data(), x.size() * sizeof(bf16), cudaMemcpyDeviceToHost));
  check_cuda(cudaMemcpy(y.data(), b.data(), y.size() * sizeof(bf16), cudaMemcpyDeviceToHost));
  if (std::memcmp(x.data(), y.data(), x.size() * sizeof(bf16)) != 0) {
    state.SkipWithError("a ring and a full cache give other bits");
  }
}

/// The second chunk of a prompt.
template <class Policy, Heads heads, PrefillKernel kernel>
void prefill(benchmark::State& state, std::int64_t start, std::int64_t rows) {
  const Cuda gpu{};
  constexpr std::int64_t slots = round_up(Policy::window - 1 + 4096, 64);
  require(rows <= 4096, "the ring has room for chunks of 4,096");
  const std::int64_t length = start + rows, width = heads.kv_dim();
  auto k = noise<bf16>(gpu, length * width, 1);
  auto v = noise<bf16>(gpu, length * width, 2);
  auto q = noise<bf16>(gpu, rows * heads.q_dim(), 3);
  auto ring_k = noise<bf16>(gpu, slots * width, 4);
  auto ring_v = noise<bf16>(gpu, slots * width, 5);
  Buffer<bf16, Cuda> full_out(gpu, rows * heads.q_dim()), ring_out(gpu, rows * heads.q_dim());
  Buffer<Segment, Cuda> segments(gpu, 2);
  const std::int64_t held = smaller(length, slots);
  const Segment host[] = {{.start = {start}, .rows = rows},
                          {.start = {length - held}, .rows = held}};
  segments.from_host(host, 2);
  const CacheView<Full, heads, bf16> full{k.data(), v.data(), length};
  const CacheView<Ring<slots>, heads, bf16> ring{ring_k.data(), ring_v.data(), slots};
  append_rows(gpu, ring, Batch{segments.data() + 1, 1, held}, k.data() + (length - held) * width,
              v.data() + (length - held) * width);
  const Batch batch{segments.data(), 1, rows};
  const Scores score{.scale = 1 / std::sqrt(static_cast<float>(heads.dim))};
  const auto attend = [&](auto view, bf16* out) {
    if constexpr (kernel == PrefillKernel::wgmma) {
      attend_wgmma(gpu, Policy{}, view, batch, q.data(), out, score);
    } else {
      attend_mma(gpu, Policy{}, view, batch, q.data(), out, score);
    }
  };
  compare(
      state, gpu.stream, [&](int) { attend(full, full_out.data()); },
      [&](int) { attend(ring, ring_out.data()); });
  require_equal(state, full_out, ring_out);
}

/// One row of each of `sequences` sequences of `length` tokens.
template <class Policy, Heads heads>
void decode(benchmark::State& state, std::int64_t sequences, std::int64_t length) {
  constexpr std::int64_t slots = round_up(Policy::window - 1 + 64, 64), width = heads.kv_dim();
  const std::int64_t held = smaller(length, slots);
  // Keys in sight, not the cache, decide what the L2 may keep.
  const std::int64_t in_sight = sequences * smaller(length, Policy::window) * width * 4;
  const int copies = static_cast<int>(smaller(16, cold_copies(in_sight)));
  const std::int64_t full_elements = sequences * length * width;
  const std::int64_t ring_elements = sequences * slots * width;
  const Cuda gpu{};
  auto k = noise<bf16>(gpu, copies * full_elements, 1);
  auto v = noise<bf16>(gpu, copies * full_elements, 2);
  auto q = noise<bf16>(gpu, sequences * heads.q_dim(), 3);
  auto ring_k = noise<bf16>(gpu, copies * ring_elements, 4);
  auto ring_v = noise<bf16>(gpu, copies * ring_elements, 5);
  Buffer<bf16, Cuda> full_out(gpu, sequences * heads.q_dim()), ring_out(gpu, full_out.size());
  std::vector<Segment> host;
  for (std::int64_t s = 0; s < sequences; ++s) {
    host.push_back({.sequence = s, .start = {length - 1}, .first_row = s, .rows = 1});
  }
  host.push_back({.start = {length - held}, .rows = held});
  Buffer<Segment, Cuda> segments(gpu, sequences + 1);
  segments.from_host(host.data(), sequences + 1);
  for (std::int64_t s = 0; s < copies * sequences; ++s) {
    const std::int64_t from = (s * length + length - held) * width, to = s * slots * width;
    append_rows(gpu,
                CacheView<Ring<slots>, heads, bf16>{ring_k.data() + to, ring_v.data() + to, slots},
                Batch{segments.data() + sequences, 1, held}, k.data() + from, v.data() + from);
  }
  int multiprocessors = 0;
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  // The same split for both: that of the ring, which is shorter.
  const DecodePlan plan = plan_decode<Policy, heads>(slots, sequences, multiprocessors);
  Buffer<float, Cuda> scratch(gpu, plan.scratch_floats(heads, sequences) + 4);
  const Batch batch{segments.data(), sequences, sequences};
  const Scores score{.scale = 1 / std::sqrt(static_cast<float>(heads.dim))};
  check_cuda(cudaStreamSynchronize(gpu.stream));
  compare(
      state, gpu.stream,
      [&](int i) {
        const std::int64_t at = i % copies * full_elements;
        const CacheView<Full, heads, bf16> view{k.data() + at, v.data() + at, length};
        attend_decode<1>(gpu, Policy{}, view, batch, q.data(), full_out.data(), score, plan,
                         scratch.data());
      },
      [&](int i) {
        const std::int64_t at = i % copies * ring_elements;
        const CacheView<Ring<slots>, heads, bf16> view{ring_k.data() + at, ring_v.data() + at,
                                                       slots};
        attend_decode<1>(gpu, Policy{}, view, batch, q.data(), ring_out.data(), score, plan,
                         scratch.data());
      });
  require_equal(state, full_out, ring_out);
}

template <class Function>
void add(const std::string& name, Function function) {
  benchmark::RegisterBenchmark(name.c_str(), function)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(101);
}

template <class Policy, Heads heads>
void add_prefill(std::int64_t start, std::int64_t rows) {
  const std::string rest =
      name_of("", heads, Policy::window, start + rows) + "/rows=" + std::to_string(rows);
  add("ring_prefill" + rest, [=](benchmark::State& state) {
    prefill<Policy, heads, PrefillKernel::mma>(state, start, rows);
  });
  if constexpr (prefill_kernel<Policy, heads, bf16> == PrefillKernel::wgmma) {
    add("ring_wgmma" + rest, [=](benchmark::State& state) {
      prefill<Policy, heads, PrefillKernel::wgmma>(state, start, rows);
    });
  }
}

template <class Policy, Heads heads>
void add_decode(std::int64_t sequences, std::int64_t length) {
  add(name_of("ring_decode", heads, Policy::window, length) + "/batch=" + std::to_string(sequences),
      [=](benchmark::State& state) { decode<Policy, heads>(state, sequences, length); });
}

}  // namespace

int main(int argc, char** argv) {
  constexpr Heads gemma256{.q = 8, .kv = 2, .dim = 256}, llama128{.q = 32, .kv = 8, .dim = 128};
  add_prefill<Swa<512>, gemma256>(4096, 4096);
  add_prefill<Swa<1024>, llama128>(4096, 4096);
  add_decode<Swa<512>, gemma256>(1, 4096);
  add_decode<Swa<512>, gemma256>(128, 4096);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
