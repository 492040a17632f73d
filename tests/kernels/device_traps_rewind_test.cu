// Traps of taking back, for each attention kernel of the GPU.
#include "device_traps.cuh"

namespace kvring::test::device_traps {
namespace {

TEST_CASE_TEMPLATE("device trap_08_rejected_drafts_are_not_seen", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_08")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 8, 300);
  Rows<typename K::Layer> drafts(gpu, 8, 400);
  std::fill(drafts.host_k.begin(), drafts.host_k.end(), nan_of<T>());
  std::fill(drafts.host_v.begin(), drafts.host_v.end(), nan_of<T>());
  const auto right = over_full(gpu, kernel, text);
  for (const std::int64_t rejected : {std::int64_t{1}, K::most_rows}) {
    GuardedCache<typename K::Layer> cache(gpu, 1, slots);
    for (std::int64_t p = 0; p < 300; p += 3) {  // three rows are kept, and then some taken back
      append(gpu, cache, {{0, &text, p, 3}});
      const auto out = attend(gpu, kernel, cache, {{0, &text, p, 3}});
      REQUIRE(same_bits(out, rows_of<K>(right, p, 3)));
      append(gpu, cache, {{0, &drafts, p + 3, rejected}});
    }
  }
}

TEST_CASE_TEMPLATE("device trap_09_the_rewind_floor_follows_from_the_slack", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_09")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 9, 800);
  const auto right = over_full(gpu, kernel, text);
  for (const std::int64_t ring : {slots, slots + 64}) {
    for (std::int64_t length = ring + 1; length < 800; length += 61) {
      CAPTURE(ring);
      CAPTURE(length);
      const std::int64_t floor = length - (ring - (window - 1));
      GuardedCache<typename K::Layer> cache(gpu, 1, ring), deeper(gpu, 1, ring);
      for (GuardedCache<typename K::Layer>* each : {&cache, &deeper}) {
        append(gpu, *each, {{0, &text, length - ring, ring}});
      }
      append(gpu, cache, {{0, &text, floor, 1}});
      CHECK(same_bits(attend(gpu, kernel, cache, {{0, &text, floor, 1}}),
                      rows_of<K>(right, floor, 1)));
      // One further back than LiveRange allows: its oldest key is gone.
      append(gpu, deeper, {{0, &text, floor - 1, 1}});
      CHECK(!same_bits(attend(gpu, kernel, deeper, {{0, &text, floor - 1, 1}}),
                       rows_of<K>(right, floor - 1, 1)));
    }
  }
}

TEST_CASE_TEMPLATE("device trap_12_what_is_kept_goes_by_position_not_by_slot", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_12")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> first(gpu, 12, 700);
  const Rows<typename K::Layer> other(gpu, 120, 700);
  for (std::int64_t length = 1; length < 600; length += 43) {
    for (const std::int64_t back : {0, 1, 31, 65}) {
      if (back > length) continue;
      CAPTURE(length);
      CAPTURE(back);
      const std::int64_t p = length - back;
      Rows<typename K::Layer> spliced = Rows<typename K::Layer>(gpu, 12, 700);
      const auto follow = [](std::vector<T>& to, const std::vector<T>& from, std::int64_t at) {
        std::copy(from.begin() + at, from.end(), to.begin() + at);
      };
      follow(spliced.host_q, other.host_q, p * K::heads.q_dim());
      follow(spliced.host_k, other.host_k, p * K::heads.kv_dim());
      follow(spliced.host_v, other.host_v, p * K::heads.kv_dim());
      spliced.upload(gpu);
      GuardedCache<typename K::Layer> cache(gpu, 1, slots);
      const std::int64_t oldest = std::max<std::int64_t>(0, length - slots);
      append(gpu, cache, {{0, &first, oldest, length - oldest}});
      append(gpu, cache, {{0, &spliced, p, K::most_rows}});
      const auto out = attend(gpu, kernel, cache, {{0, &spliced, p, K::most_rows}});
      CHECK(wrong(gpu, out, spliced, p) == 0);
    }
  }
}

}  // namespace
}  // namespace kvring::test::device_traps
