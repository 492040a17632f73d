// Traps of tiles of keys, of the parts that decoding splits them into, and of the sums over them,
// for each attention kernel of the GPU.
#include <type_traits>

#include "device_traps.cuh"

namespace kvring::test::device_traps {
namespace {

/// Plans of decoding whose parts are more than there are tiles, fewer, and as many.
const std::vector<DecodePlan> plans{{1}, {2}, {3},  {4},       {5},      {6},
                                    {7}, {8}, {33}, {4, true}, {8, true}};

template <class K, class F>
void with_each_plan(K& kernel, F f) {
  if constexpr (requires { kernel.plan; }) {
    for (const DecodePlan plan : plans) {
      CAPTURE(plan.parts);
      CAPTURE(plan.one_launch);
      kernel.plan = plan;
      f();
    }
  } else {
    f();
  }
}

TEST_CASE_TEMPLATE("device trap_18_parts_of_keys_meet_the_wrap_anywhere", K, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_18")) return;
  // Every place of the ring; all rows of a plan are compared at once.
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  K kernel(gpu);
  constexpr std::int64_t first = 3 * slots;
  const Rows<typename K::Layer> text(gpu, 18, 4 * slots);
  with_each_plan(kernel, [&] {
    GuardedCache<typename K::Layer> cache(gpu, 1, slots);
    Gathered<typename K::Layer> rows(gpu, {{0, &text, first, slots}});
    Buffer<Segment, Cuda> segments = to_device(gpu, [&] {
      std::vector<Segment> each;
      for (std::int64_t i = 0; i < slots; ++i) {
        each.push_back({.sequence = 0, .start = {first + i}, .first_row = 0, .rows = 1});
      }
      return each;
    }());
    append(gpu, cache, {{0, &text, first - slots, slots}});
    for (std::int64_t i = 0; i < slots; ++i) {
      const Batch one{segments.data() + i, 1, 1};
      append_rows(gpu, cache.view(), one, text.k_at(first + i), text.v_at(first + i));
      kernel(gpu, Policy{}, cache.view(), one, text.q_at(first + i),
             rows.out.data() + i * K::heads.q_dim(), scores);
    }
    CHECK(wrong(gpu, to_host(gpu, rows.out), text, first) == 0);
  });
}

TEST_CASE_TEMPLATE("device trap_19_no_tile_straddles_the_wrap", K, Mma<f16>, Mma<bf16>, Wgmma<f16>,
                   Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_19")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 19, 800);
  const auto right = over_full(gpu, kernel, text);
  for (const std::int64_t ring : {192, 256, 320, 448}) {
    GuardedCache<typename K::Layer> cache(gpu, 1, ring);
    append(gpu, cache, {{0, &text, 0, ring}});
    for (std::int64_t start = ring; start + K::most_rows <= 800;) {
      const std::int64_t rows = 1 + start % K::most_rows;
      const Pieces<typename K::Layer> piece{{0, &text, start, rows}};
      append(gpu, cache, piece);
      REQUIRE(same_bits(attend(gpu, kernel, cache, piece), rows_of<K>(right, start, rows)));
      start += rows;
    }
  }
}

TEST_CASE_TEMPLATE("device trap_20_every_query_head_of_a_group_has_its_own_position", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_20")) return;
  // 1, 2, ... rows of four heads each: tiles of rows end within a position and at its end.
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 20, 400);
  const auto right = over_full(gpu, kernel, text);
  CHECK(wrong(gpu, right, text, 0) == 0);
  GuardedCache<typename K::Layer> cache(gpu, 1, slots);
  append(gpu, cache, {{0, &text, 200 + K::most_rows - slots, slots}});
  for (std::int64_t rows = 1; rows <= K::most_rows; ++rows) {
    REQUIRE(same_bits(attend(gpu, kernel, cache, {{0, &text, 200, rows}}),
                      rows_of<K>(right, 200, rows)));
  }
}

TEST_CASE_TEMPLATE("device trap_21_a_block_ends_whatever_tiles_its_rows_see", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_21")) return;
  // Lengths about whole windows, in one launch where the kernel takes so many rows. If a producer
  // and a consumer count differently, this does not end, and the suite's limit of time is a
  // failure.
  const Stream stream;
  const Cuda gpu = stream.backend();
  K kernel(gpu);
  for (const std::int64_t length : {1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 258, 385}) {
    const Rows<typename K::Layer> text(gpu, 21, length);
    with_each_plan(kernel, [&] {
      const std::int64_t rows = std::min(K::most_rows < chunk ? K::most_rows : 385, length);
      GuardedCache<typename K::Layer> cache(gpu, 1, round_up(window - 1 + rows, 64));
      append(gpu, cache,
             {{0, &text, std::max<std::int64_t>(0, length - cache.slots()),
               std::min(cache.slots(), length)}});
      const auto out = attend(gpu, kernel, cache, {{0, &text, length - rows, rows}});
      CHECK(wrong(gpu, out, text, length - rows) == 0);
    });
  }
}

TEST_CASE_TEMPLATE("device trap_22_keys_out_of_sight_are_skipped_not_masked", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_22")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 22, K::most_rows);
  GuardedCache<typename K::Layer> cache(gpu, 1, slots);
  Gathered<typename K::Layer> rows(gpu, {{0, &text, 0, K::most_rows}});
  cudaEvent_t begin, end;
  check_cuda(cudaEventCreate(&begin));
  check_cuda(cudaEventCreate(&end));
  const auto time_at = [&](std::int64_t p) {
    rows.host_segments[0].start = {p};
    rows.segments.from_host(rows.host_segments.data(), 1);
    float least = std::numeric_limits<float>::infinity();
    for (int time = 0; time < 20; ++time) {
      check_cuda(cudaEventRecord(begin, gpu.stream));
      for (int i = 0; i < 10; ++i) {
        kernel(gpu, Policy{}, cache.view(), rows.batch(), rows.q.data(), rows.out.data(), scores);
      }
      check_cuda(cudaEventRecord(end, gpu.stream));
      check_cuda(cudaEventSynchronize(end));
      float milliseconds = 0;
      check_cuda(cudaEventElapsedTime(&milliseconds, begin, end));
      least = std::min(least, milliseconds);
    }
    return least;
  };
  // Of the keys of a million positions all but 128 are out of sight: masked, they would cost 250
  // times as much as those of 4,096. Half as much again is for the clock.
  const float near = time_at(4096);
  CHECK(time_at(1 << 20) <= 1.5f * near);
  check_cuda(cudaEventDestroy(begin));
  check_cuda(cudaEventDestroy(end));
}

TEST_CASE_TEMPLATE("device trap_27_tiles_without_a_key_in_sight", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>) {
  if (cannot_run<K>("device trap_27")) return;
  // Windows far smaller than a tile, and scores so far apart that every weight but one is 0.
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 27, 300);
  for (const float scale : {0.3f, 1000.0f}) {
    GuardedCache<typename K::Layer> cache(gpu, 1, 128);
    const Scores steep{.scale = scale};
    const auto out = prefill<Swa<3>>(gpu, kernel, cache, 0, text, 64, steep);
    CHECK(wrong(gpu, out, text, 0, steep, 3) == 0);
  }
}

TEST_CASE_TEMPLATE("device trap_27_parts_without_a_key_in_sight", K, Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_27")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 27, 300);
  with_each_plan(kernel, [&] {
    for (const float scale : {0.3f, 1000.0f}) {
      GuardedCache<typename K::Layer> cache(gpu, 1, slots);
      const Scores steep{.scale = scale};
      CHECK(wrong(gpu, prefill(gpu, kernel, cache, 0, text, 16, steep), text, 0, steep) == 0);
    }
  });
}

TEST_CASE_TEMPLATE("device trap_28_a_sink_counts_once_however_the_keys_are_cut", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_28")) return;
  // All scores are 0 and all values 1. With a sink of 0 n keys in sight give n / (n + 1), with one
  // of minus infinity 1, within a unit of the last place.
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  K kernel(gpu);
  Rows<typename K::Layer> text(gpu, 28, 300);
  std::fill(text.host_q.begin(), text.host_q.end(), T{});
  std::fill(text.host_v.begin(), text.host_v.end(), from_f32<T>(1));
  text.upload(gpu);
  std::vector<float> host_sinks;
  for (std::int64_t h = 0; h < K::heads.q; ++h) host_sinks.push_back(h % 3 == 0 ? -INFINITY : 0.0f);
  const auto sinks = to_device(gpu, host_sinks);
  with_each_plan(kernel, [&] {
    GuardedCache<typename K::Layer> cache(gpu, 1, slots);
    const Scores sunk{.scale = 0.125f, .sinks = sinks.data()};
    const auto out = prefill(gpu, kernel, cache, 0, text, K::most_rows, sunk);
    long wrong = 0;
    for (std::int64_t i = 0; i < std::ssize(out); ++i) {
      const std::int64_t p = i / K::heads.q_dim(), head = i / K::heads.dim % K::heads.q;
      const double keys = static_cast<double>(std::min(p + 1, window));
      const double right = head % 3 == 0 ? 1 : keys / (keys + 1);
      const double x = to_f32(out[static_cast<std::size_t>(i)]);
      // f32 sums of 128 terms and a quotient besides.
      wrong += !(std::fabs(x - right) <= 2 * half_ulp<T>() + 130 * 0x1p-24);
    }
    CHECK(wrong == 0);
  });
}

}  // namespace
}  // namespace kvring::test::device_traps
