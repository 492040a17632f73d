// Traps of launches: what is taken back, ragged batches, room to spare, drafts, graphs and streams,
// for each attention kernel of the GPU.
#include <limits>

#include "device_traps.cuh"

namespace kvring::test::device_traps {
namespace {

TEST_CASE_TEMPLATE("device trap_16_a_padded_chunk_does_not_reach_the_live_window", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_16")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 16, 500);
  const auto right = over_full(gpu, kernel, text);
  Random random(16);
  GuardedCache<typename K::Layer> cache(gpu, 1, slots);
  for (std::int64_t p = 0; p < 500;) {
    const std::int64_t rows = std::min(500 - p, random.between(1, K::most_rows));
    Gathered<typename K::Layer> padded(gpu, {{0, &text, p, rows}},
                                       2 * chunk);  // what is past the rows is NaN
    append_rows(gpu, cache.view(), padded.batch(), padded.k.data(), padded.v.data());
    kernel(gpu, Policy{}, cache.view(), padded.batch(), padded.q.data(), padded.out.data(), scores);
    const std::vector<T> out = to_host(gpu, padded.out);
    REQUIRE(same_bits(rows_of<K>(out, 0, rows), rows_of<K>(right, p, rows)));
    REQUIRE(std::all_of(out.begin() + rows * K::heads.q_dim(), out.end(),
                        [](T x) { return to_f32(x) != to_f32(x); }));
    p += rows;
  }
}

TEST_CASE_TEMPLATE("device trap_17_a_ragged_batch_knows_each_length", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_17")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  GuardedCache<typename K::Layer> cache(gpu, 5, slots);
  std::vector<Rows<typename K::Layer>> texts;
  for (const std::int64_t length : {std::int64_t{1}, window, window + 1, slots, 3 * slots + 5}) {
    texts.emplace_back(gpu, static_cast<std::uint64_t>(100 + length), length);
  }
  Pieces<typename K::Layer> pieces;
  std::vector<T> right;
  for (std::int64_t s = 4; s >= 0; --s) {  // not in the order of the cache
    const Rows<typename K::Layer>& text = texts[static_cast<std::size_t>(s)];
    const std::int64_t rows = std::min(K::most_rows, text.count) - (s == 3);
    for (std::int64_t p = 0; p < text.count - rows; p += chunk) {
      append(gpu, cache, {{s, &text, p, std::min(chunk, text.count - rows - p)}});
    }
    pieces.push_back({s, &text, text.count - rows, rows});
    const auto alone = rows_of<K>(over_full(gpu, kernel, text), text.count - rows, rows);
    right.insert(right.end(), alone.begin(), alone.end());
  }
  append(gpu, cache, pieces);
  CHECK(same_bits(attend(gpu, kernel, cache, pieces), right));
}

TEST_CASE_TEMPLATE("device trap_30_many_sequences_in_one_allocation", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_30")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  Random random(30);
  std::vector<Rows<typename K::Layer>> texts;
  std::vector<std::vector<T>> right;
  for (std::uint64_t s = 0; s < 7; ++s) {
    texts.emplace_back(gpu, 300 + s, random.between(1, 500));
    right.push_back(over_full(gpu, kernel, texts.back()));
  }
  std::vector<std::int64_t> done(7, 0);
  GuardedCache<typename K::Layer> cache(gpu, 7, slots);
  for (int turn = 0; turn < 60; ++turn) {
    const std::int64_t s = random.between(0, 2) * 2 + 1;  // 1, 3 and 5
    const auto i = static_cast<std::size_t>(s);
    const std::int64_t rows = std::min(texts[i].count - done[i], random.between(1, K::most_rows));
    if (rows == 0) continue;
    const Pieces<typename K::Layer> piece{{s, &texts[i], done[i], rows}};
    append(gpu, cache, piece);
    REQUIRE(same_bits(attend(gpu, kernel, cache, piece), rows_of<K>(right[i], done[i], rows)));
    done[i] += rows;
  }
  for (const std::vector<T>& memory : std::vector<std::vector<T>>{cache.k(), cache.v()}) {
    for (const std::int64_t s : {0, 2, 4, 6}) {
      const auto begin = memory.begin() + (cache.guard + s * slots) * K::heads.kv_dim();
      CHECK(std::all_of(begin, begin + slots * K::heads.kv_dim(),
                        [](T x) { return to_f32(x) != to_f32(x); }));
    }
  }
  CHECK(cache.guards_are_intact());
}

/// The row of a text at the position where a sequence stands; and a result to its place.
template <class T>
__global__ void take_row(const Segment* segment, const T* from, T* to, std::int64_t width) {
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    to[i] = from[segment->start.value * width + i];
  }
}
template <class T>
__global__ void keep_row(Segment* segment, const T* from, T* to, std::int64_t width) {
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    to[segment->start.value * width + i] = from[i];
  }
  __syncthreads();
  if (threadIdx.x == 0) segment->start = segment->start + 1;
}

TEST_CASE_TEMPLATE("device trap_31_a_captured_step_is_right_at_every_position", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_31")) return;
  // Captured at position 3, replayed through W, R, 2 R and beyond.
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  constexpr std::int64_t length = 2 * slots + 80;
  const Rows<typename K::Layer> text(gpu, 31, length);
  const auto right = over_full(gpu, kernel, text);
  GuardedCache<typename K::Layer> cache(gpu, 1, slots);
  append(gpu, cache, {{0, &text, 0, 3}});
  Gathered<typename K::Layer> row(gpu, {{0, &text, 3, 1}});
  Buffer<T, Cuda> out(gpu, length * K::heads.q_dim());
  check_cuda(cudaStreamSynchronize(gpu.stream));

  cudaGraph_t graph;
  cudaGraphExec_t step;
  check_cuda(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeThreadLocal));
  const auto take = [&](const T* from, T* to, std::int64_t width) {
    take_row<<<1, 128, 0, gpu.stream>>>(row.segments.data(), from, to, width);
  };
  take(text.q.data(), row.q.data(), K::heads.q_dim());
  take(text.k.data(), row.k.data(), K::heads.kv_dim());
  take(text.v.data(), row.v.data(), K::heads.kv_dim());
  append_rows(gpu, cache.view(), row.batch(), row.k.data(), row.v.data());
  kernel(gpu, Policy{}, cache.view(), row.batch(), row.q.data(), row.out.data(), scores);
  keep_row<<<1, 128, 0, gpu.stream>>>(row.segments.data(), row.out.data(), out.data(),
                                      K::heads.q_dim());
  check_cuda(cudaStreamEndCapture(gpu.stream, &graph));
  check_cuda(cudaGraphInstantiate(&step, graph, 0));
  for (std::int64_t p = 3; p < length; ++p) check_cuda(cudaGraphLaunch(step, gpu.stream));
  const std::vector<T> results = to_host(gpu, out);
  check_cuda(cudaGraphExecDestroy(step));
  check_cuda(cudaGraphDestroy(graph));
  CHECK(same_bits(rows_of<K>(results, 3, length - 3), rows_of<K>(right, 3, length - 3)));
}

TEST_CASE_TEMPLATE("device trap_36_each_drafted_row_has_its_own_left_edge", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_36")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  Rows<typename K::Layer> text(gpu, 36, 3 * slots);
  const auto right = over_full(gpu, kernel, text);
  for (std::int64_t start = slots; start + 16 <= 3 * slots; start += 23) {
    CAPTURE(start);
    // To the bits of single steps.
    GuardedCache<typename K::Layer> cache(gpu, 1, slots);
    append(gpu, cache, {{0, &text, start + 16 - slots, slots}});
    const Pieces<typename K::Layer> drafts{{0, &text, start, 16}};
    CHECK(same_bits(attend(gpu, kernel, cache, drafts), rows_of<K>(right, start, 16)));
    // Values are 0 but for the oldest key of row `edge`: later rows must not see it.
    const std::int64_t edge = start % 16;
    Rows<typename K::Layer> marked = Rows<typename K::Layer>(gpu, 36, 3 * slots);
    std::fill(marked.host_v.begin(), marked.host_v.end(), T{});
    std::fill_n(marked.host_v.begin() + (start - (window - 1) + edge) * K::heads.kv_dim(),
                K::heads.kv_dim(), from_f32<T>(1));
    marked.upload(gpu);
    append(gpu, cache, {{0, &marked, start + 16 - slots, slots}});
    const auto weights = attend(gpu, kernel, cache, {{0, &marked, start, 16}});
    long wrong = 0;
    for (std::int64_t i = 0; i < 16 * K::heads.q_dim(); ++i) {
      const float x = to_f32(weights[static_cast<std::size_t>(i)]);
      wrong += i / K::heads.q_dim() <= edge ? !(x > 0) : x != 0;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE_TEMPLATE("device trap_38_one_sequence_is_appended_while_another_attends", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_38")) return;
  // Two streams, two sequences of one cache, nothing between them but that each waits for itself.
  using T = typename K::T;
  const Stream first, second;
  const Cuda gpu = first.backend(), other_gpu = second.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 38, 500), other(gpu, 380, 1'000);
  const auto right = over_full(gpu, kernel, text);
  GuardedCache<typename K::Layer> cache(gpu, 2, slots);
  Gathered<typename K::Layer> beside(gpu, {{1, &other, 0, chunk}});
  check_cuda(cudaStreamSynchronize(gpu.stream));
  for (std::int64_t p = 0; p + K::most_rows <= 500; p += K::most_rows) {
    for (int time = 0; time < 10; ++time) {
      append_rows(other_gpu, cache.view(), beside.batch(), beside.k.data(), beside.v.data());
    }
    append(gpu, cache, {{0, &text, p, K::most_rows}});
    const auto out = attend(gpu, kernel, cache, {{0, &text, p, K::most_rows}});
    REQUIRE(same_bits(out, rows_of<K>(right, p, K::most_rows)));
  }
  // One sequence on two streams is ordered by an event.
  cudaEvent_t written;
  check_cuda(cudaEventCreateWithFlags(&written, cudaEventDisableTiming));
  append(gpu, cache, {{0, &text, 480 + 16 - slots, slots - 16}});
  Gathered<typename K::Layer> last(gpu, {{0, &text, 480, 16}});
  append_rows(gpu, cache.view(), last.batch(), last.k.data(), last.v.data());
  check_cuda(cudaEventRecord(written, gpu.stream));
  check_cuda(cudaStreamWaitEvent(other_gpu.stream, written));
  kernel(other_gpu, Policy{}, cache.view(), last.batch(), last.q.data(), last.out.data(), scores);
  CHECK(same_bits(to_host(other_gpu, last.out), rows_of<K>(right, 480, 16)));
  check_cuda(cudaStreamSynchronize(gpu.stream));
  check_cuda(cudaEventDestroy(written));
}

}  // namespace
}  // namespace kvring::test::device_traps
