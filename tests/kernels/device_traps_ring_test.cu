// Traps of a ring itself, for each attention kernel of the GPU.
#include <limits>
#include <type_traits>

#include "device_traps.cuh"
#include "kvring/kernels/attend_mma.cuh"
#include "kvring/kernels/attend_simt.cuh"
#include "kvring/kernels/attend_wgmma.cuh"
#include "kvring/kernels/attend_wgmma512.cuh"
#include "kvring/kernels/decode.cuh"

namespace kvring::test::device_traps {

template <class E>
template <class P>
void Mma<E>::operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch, const E* q,
                        E* out, Scores score) const {
  attend_mma(gpu, policy, cache, batch, q, out, score);
}
template <class E>
template <class P>
void Wgmma<E>::operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch, const E* q,
                          E* out, Scores score) const {
  attend_wgmma(gpu, policy, cache, batch, q, out, score);
}
template <class E>
template <class P>
void Wgmma512<E>::operator()(const Cuda& gpu, P policy, View<Wide<E>> cache, Batch batch,
                             const E* q, E* out, Scores score) const {
  attend_wgmma512(gpu, policy, cache, batch, q, out, score);
}
template <class E>
template <class P>
void Simt<E>::operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch, const E* q,
                         E* out, Scores score) const {
  attend_simt(gpu, policy, cache, batch, q, out, score);
}
template <class E>
template <class P>
void Decode<E>::operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch,
                           const E* q, E* out, Scores score) const {
  attend_decode<most_rows>(gpu, policy, cache, batch, q, out, score, plan, scratch->data());
}

#define KVRING_INSTANTIATE(Kernel, E, P)                                                           \
  template void Kernel<E>::operator()(const Cuda&, P, View<Kernel<E>::Layer>, Batch, const E*, E*, \
                                      Scores) const
KVRING_INSTANTIATE(Mma, f16, Policy);
KVRING_INSTANTIATE(Mma, bf16, Policy);
KVRING_INSTANTIATE(Mma, f16, Swa<3>);
KVRING_INSTANTIATE(Mma, bf16, Swa<3>);
KVRING_INSTANTIATE(Wgmma, f16, Policy);
KVRING_INSTANTIATE(Wgmma, bf16, Policy);
KVRING_INSTANTIATE(Wgmma, f16, Swa<3>);
KVRING_INSTANTIATE(Wgmma, bf16, Swa<3>);
KVRING_INSTANTIATE(Wgmma512, f16, Policy);
KVRING_INSTANTIATE(Wgmma512, bf16, Policy);
KVRING_INSTANTIATE(Wgmma512, f16, Swa<3>);
KVRING_INSTANTIATE(Wgmma512, bf16, Swa<3>);
KVRING_INSTANTIATE(Simt, f32, Policy);
KVRING_INSTANTIATE(Simt, f32, Swa<3>);
KVRING_INSTANTIATE(Decode, f16, Policy);
KVRING_INSTANTIATE(Decode, bf16, Policy);

namespace {

TEST_CASE_TEMPLATE("device trap_01_an_absolute_index_leaves_the_ring", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_01")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 1, 5 * slots + 7);
  GuardedCache<typename K::Layer> cache(gpu, 1, slots);
  const auto results = prefill(gpu, kernel, cache, 0, text, K::most_rows);
  CHECK(wrong(gpu, results, text, 0) == 0);
  CHECK(cache.guards_are_intact());
}

TEST_CASE_TEMPLATE("device trap_02_a_ring_needs_room_for_the_chunk", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_02")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 2, 600);
  GuardedCache<typename K::Layer> exact(gpu, 1, slots), window_only(gpu, 1, window);
  CHECK(
      same_bits(prefill(gpu, kernel, exact, 0, text, K::most_rows), over_full(gpu, kernel, text)));
  // W slots, and more than one row at once: newer keys in the place of older ones.
  CHECK(wrong(gpu, prefill(gpu, kernel, window_only, 0, text, K::most_rows), text, 0) > 0);
}

TEST_CASE_TEMPLATE("device trap_03_the_last_chunk_may_be_short", K, Mma<f16>, Mma<bf16>, Wgmma<f16>,
                   Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_03")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> longest(gpu, 3, 6 * K::most_rows);
  const auto right = over_full(gpu, kernel, longest);
  for (std::int64_t last = 1; last <= K::most_rows; last += last < 20 ? 1 : 5) {
    CAPTURE(last);
    const std::int64_t length = 5 * K::most_rows + last;
    const Rows<typename K::Layer> text(gpu, 3, length);
    GuardedCache<typename K::Layer> cache(gpu, 1, slots);
    const auto results = prefill(gpu, kernel, cache, 0, text, K::most_rows);
    CHECK(same_bits(results, rows_of<K>(right, 0, length)));
  }
}

TEST_CASE_TEMPLATE("device trap_05_window_counts_the_query", K, Mma<f16>, Mma<bf16>, Wgmma<f16>,
                   Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_05")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  constexpr std::int64_t length = 330;
  Rows<typename K::Layer> text(gpu, 5, length);
  for (const std::int64_t hot : {0, 1, 62, 63, 64, 65, 100, 127, 128, 129, 191, 192, 200}) {
    CAPTURE(hot);
    // V is 1 at one position and 0 elsewhere: a result is the weight of that position.
    std::fill(text.host_v.begin(), text.host_v.end(), T{});
    std::fill_n(text.host_v.begin() + hot * K::heads.kv_dim(), K::heads.kv_dim(), from_f32<T>(1));
    text.upload(gpu);
    GuardedCache<typename K::Layer> cache(gpu, 1, slots);
    const auto results = prefill(gpu, kernel, cache, 0, text, K::most_rows);
    long wrong = 0;
    for (std::int64_t i = 0; i < std::ssize(results); ++i) {
      const std::int64_t p = i / K::heads.q_dim();
      const float x = to_f32(results[static_cast<std::size_t>(i)]);
      wrong += hot <= p && p - hot < window ? !(x > 0) : x != 0;
    }
    CHECK(wrong == 0);
  }
}

/// Bits of rows at `begin` ..., of which the first only fill the window.
template <class K>
std::vector<typename K::T> shifted(const Cuda& gpu, const K& kernel, std::uint64_t seed,
                                   std::int64_t begin) {
  const Rows<typename K::Layer> text(gpu, seed, 400, begin);
  GuardedCache<typename K::Layer> cache(gpu, 1, slots);
  return prefill(gpu, kernel, cache, 0, text, K::most_rows, scores, begin + window - 1);
}

TEST_CASE_TEMPLATE("device trap_06_the_mask_knows_positions_not_slots", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_06")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const auto right = shifted(gpu, kernel, 6, 0);
  // Four tiles: what decoding in four parts gives to each stays the same. Slots differ by 64, 128.
  for (const std::int64_t shift : {256, 512, 256 * 100}) {
    CAPTURE(shift);
    CHECK(same_bits(shifted(gpu, kernel, 6, shift), right));
  }
}

TEST_CASE_TEMPLATE("device trap_07_stale_rows_in_the_slack_are_not_seen", K, Mma<f16>, Mma<bf16>,
                   Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_07")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 7, 600);
  const auto right = over_full(gpu, kernel, text);
  const float huge = std::is_same_v<T, f16> ? 60'000.0f : 3e38f;
  for (const std::int64_t more : {0, 64, 320}) {
    for (const float stale : {std::numeric_limits<float>::quiet_NaN(),
                              std::numeric_limits<float>::infinity(), huge, -huge}) {
      GuardedCache<typename K::Layer> cache(gpu, 1, slots + more);
      for (std::int64_t p = 0; p < 600; p += p < 8 ? 1 : 37) {
        const std::int64_t first = std::max<std::int64_t>(0, p - window + 1);
        append(gpu, cache, {{0, &text, first, p + 1 - first}});
        cache.fill_all_but(first, p, from_f32<T>(stale));
        const auto row = attend(gpu, kernel, cache, {{0, &text, p, 1}});
        REQUIRE(same_bits(row, rows_of<K>(right, p, 1)));
      }
    }
  }
}

TEST_CASE_TEMPLATE("device trap_14_every_length_before_and_after_the_first_wrap", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_14")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 14, slots + 2);
  const auto right = over_full(gpu, kernel, text);
  CHECK(wrong(gpu, right, text, 0) == 0);
  GuardedCache<typename K::Layer> cache(gpu, 1, slots);
  for (std::int64_t p = 0; p < slots + 2; ++p) {  // a row at each length
    append(gpu, cache, {{0, &text, p, 1}});
    REQUIRE(same_bits(attend(gpu, kernel, cache, {{0, &text, p, 1}}), rows_of<K>(right, p, 1)));
  }
}

TEST_CASE_TEMPLATE("device trap_15_positions_around_2_to_the_31_and_far_beyond", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_15")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const auto right = shifted(gpu, kernel, 15, 0);
  for (const int bit : {31, 32, 40, 62}) {
    CAPTURE(bit);
    CHECK(same_bits(shifted(gpu, kernel, 15, (std::int64_t{1} << bit) - 256), right));
  }
}

TEST_CASE_TEMPLATE("device trap_25_contexts_shorter_than_the_ring_the_window_the_tile", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_25")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  for (const std::int64_t context : {1, 2, 15, 63, 64, 65, 100, 127, 128, 129, 191}) {
    CAPTURE(context);
    const Rows<typename K::Layer> text(gpu, 25, context);
    GuardedCache<typename K::Layer> cache(gpu, 1, context);
    const auto results = prefill(gpu, kernel, cache, 0, text, K::most_rows);
    CHECK(wrong(gpu, results, text, 0) == 0);
    CHECK(cache.guards_are_intact());
  }
}

TEST_CASE_TEMPLATE("device trap_26_nan_that_nobody_wrote_or_sees_is_not_read", K, Mma<f16>,
                   Mma<bf16>, Wgmma<f16>, Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>,
                   Decode<f16>, Decode<bf16>) {
  if (cannot_run<K>("device trap_26")) return;
  using T = typename K::T;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 26, 500);
  const auto right = over_full(gpu, kernel, text);
  // Chunks of any place in a cache that is NaN but for what they see.
  for (std::int64_t start = 0; start + K::most_rows <= 500; start += 29) {
    for (const std::int64_t rows : {std::int64_t{1}, K::most_rows}) {
      CAPTURE(start);
      GuardedCache<typename K::Layer> cache(gpu, 1, slots);
      const std::int64_t first = std::max<std::int64_t>(0, start - window + 1);
      append(gpu, cache, {{0, &text, first, start + rows - first}});
      const auto results = attend(gpu, kernel, cache, {{0, &text, start, rows}});
      REQUIRE(same_bits(results, rows_of<K>(right, start, rows)));
    }
  }
}

TEST_CASE_TEMPLATE("device trap_29_every_element_type_wraps", K, Mma<f16>, Mma<bf16>, Wgmma<f16>,
                   Wgmma<bf16>, Wgmma512<f16>, Wgmma512<bf16>, Simt<f32>, Decode<f16>,
                   Decode<bf16>) {
  if (cannot_run<K>("device trap_29")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const K kernel(gpu);
  const Rows<typename K::Layer> text(gpu, 29, 12 * slots);
  const Scores capped{.scale = 0.25f, .softcap = 3};
  GuardedCache<typename K::Layer> cache(gpu, 1, slots), by_fewer(gpu, 1, slots);
  const auto results = prefill(gpu, kernel, cache, 0, text, K::most_rows, capped);
  CHECK(same_bits(prefill(gpu, kernel, by_fewer, 0, text, 13, capped), results));
  CHECK(wrong(gpu, results, text, 0, capped) == 0);
}

}  // namespace
}  // namespace kvring::test::device_traps
