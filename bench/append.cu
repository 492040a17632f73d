// Append and fused append: bytes read and written a second, and the share of what a copy of as many
// bytes reaches in the same run, with a cold L2. The table of angles, which the fused append reads
// too, is not counted: all layers of a kind share it.
#include "device_bench.cuh"
#include "device_copy.cuh"
#include "kvring/kernels/append_fused.cuh"
#include "kvring/kernels/append_rows.cuh"

using namespace kvring;
using namespace kvring::bench;

namespace {

constexpr int calls_in_a_row = 20;

/// `bytes` are those read and those written by `work`.
template <class Work>
void report(benchmark::State& state, const Cuda& gpu, std::int64_t bytes, Work work) {
  const double alone = measure(state, gpu.stream, work);
  const double in_a_row = row_seconds(gpu.stream, calls_in_a_row, work);
  const CopyTimes copy(gpu, bytes / 2 / 16 * 16, calls_in_a_row);
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
