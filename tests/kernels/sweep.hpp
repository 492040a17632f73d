// One shape of attention through many random cases: both host kernels against the double-precision
// reference, and against each other as bits.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "attention.hpp"

namespace kvring::test {

struct Tally {
  int cases = 0;
  long rows = 0;                 // attended, each by both kernels
  long compared = 0;             // rows that were compared with the reference
  long wrong = 0;                // elements out of bound
  long differing = 0;            // elements of the two kernels whose bits differ
  long windows = 0, fooled = 0;  // rows compared with a window one key longer or shorter; not told
};

/// A random case: a prompt of which the last rows attend, in chunks, while everything that no row
/// of the chunk may see is NaN, rows ahead included.
template <class Policy, std::int64_t Tile, Heads H, class T>
void sweep_case(std::uint64_t seed, Tally& tally) {
  Random random(seed);
  // Multiplications that the attended rows and the reference may cost.
  constexpr double kernel_budget = 3e6, reference_budget = 2e6;

  if constexpr (std::is_same_v<Policy, AnyWindow>) AnyWindow::chosen = random.log_between(1, 300);
  const std::int64_t window = window_of<Policy>();
  const bool past_window = window < 700 && random.between(0, 1) == 0;
  const std::int64_t length = random.log_between(past_window ? window : 1, 700);
  const std::int64_t seen = std::min(window, length);
  const double row_cost = static_cast<double>(H.q_dim() * seen);
  const std::int64_t rows = std::min(
      length, std::max<std::int64_t>(1, static_cast<std::int64_t>(kernel_budget / row_cost)));
  const std::int64_t start = length - random.between(1, rows);
  const std::int64_t chunk = random.log_between(1, 200);
  const std::int64_t context = length + random.between(0, 1) * random.between(0, 50);
  const std::int64_t slots =
      window == unbounded
          ? context
          : std::min(context, ring_slots(window, chunk, Tile) + Tile * random.between(0, 2));
  const std::int64_t sequences = random.between(1, 3);
  const std::int64_t sequence = random.between(0, sequences - 1);
  const float k_size = random.between(0, 3) == 0 ? 4.0f : 1.0f;
  const Scores scores{
      .scale = random.between(0, 1) == 0 ? 1 / std::sqrt(static_cast<float>(H.dim))
                                         : static_cast<float>(0.02 + random.unit()),
      .softcap = random.between(0, 2) == 0 ? static_cast<float>(1 + 50 * random.unit()) : 0.0f};
  CAPTURE(seed);
  CAPTURE(window);
  CAPTURE(length);
  CAPTURE(start);
  CAPTURE(chunk);
  CAPTURE(slots);

  const Prompt<H, T> prompt(seed + 1, length, k_size);
  const Expected expected(prompt, window, scores.scale, scores.softcap);
  const std::int64_t sample =
      std::max<std::int64_t>(2, static_cast<std::int64_t>(reference_budget / row_cost / 3));
  TestCache<H, T> cache(sequences, slots);

  long wrong = 0, differing = 0;
  const auto attend_rows = [&](std::int64_t first, std::int64_t count) {
    const std::int64_t oldest = std::max<std::int64_t>(0, first - (seen - 1));
    cache.fill_all_but(sequence, oldest, first + count - 1, cache.not_a_number());
    const std::vector<Piece<Prompt<H, T>>> piece{{sequence, &prompt, first, count}};
    const std::vector<float> by_scalar = attend<ByScalar, Policy, Tile>(cache, piece, scores);
    const std::vector<float> by_host = attend<ByHost, Policy, Tile>(cache, piece, scores);
    differing += static_cast<long>(differing_bits(by_scalar, by_host).differing);
    tally.rows += count;

    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t p = first + i;
      const bool ends = p == start || p == length - 1;
      if (!ends && random.between(0, std::max<std::int64_t>(1, length - start) - 1) >= sample)
        continue;
      const auto results = std::span(by_scalar).subspan(static_cast<std::size_t>(i * H.q_dim()),
                                                        static_cast<std::size_t>(H.q_dim()));
      wrong += expected.wrong(results, p, Tile);
      ++tally.compared;
      if (window == unbounded) continue;
      for (const std::int64_t more : {-1, 1}) {
        if (p + 1 < window + (more + 1) / 2 || window + more < 1) continue;
        const std::vector<double> other = expected.row_if_window_were(more, p);
        tally.fooled += expected.differing(results, other, p, Tile) == 0;
        ++tally.windows;
      }
    }
  };

  for (std::int64_t p = 0; p < length;) {
    const std::int64_t count = std::min(chunk, (p < start ? start : length) - p);
    append(cache, std::vector<Piece<Prompt<H, T>>>{{sequence, &prompt, p, count}});
    if (p >= start) {
      const std::int64_t some = random.between(1, count);  // the rows ahead of these become NaN
      attend_rows(p, some);
      if (some < count) {
        const std::int64_t rest = p + some;
        append(cache, std::vector<Piece<Prompt<H, T>>>{{sequence, &prompt, rest, count - some}});
        attend_rows(rest, count - some);
      }
    }
    p += count;
  }
  CHECK(wrong == 0);
  CHECK(differing == 0);
  CHECK(cache.guards_are_intact());
  ++tally.cases;
}

inline constexpr int cases_a_shape = 30;

template <class Policy, std::int64_t Tile, Heads H, class T>
void sweep(std::uint64_t seed, Tally& tally) {
  const Tally before = tally;
  for (int i = 0; i < cases_a_shape; ++i) {
    sweep_case<Policy, Tile, H, T>(seed * 1'000 + static_cast<std::uint64_t>(i), tally);
  }
  CHECK(tally.compared - before.compared > cases_a_shape);
}

/// The bound must bite: a window of one key more or less is out of it, unless the weight of that
/// key is next to nothing.
inline void require_bite(const Tally& tally) {
  CHECK(tally.windows > 1'000);
  CHECK(tally.fooled * 20 <= tally.windows);
  MESSAGE(tally.cases, " cases, ", tally.rows, " rows, ", tally.compared, " compared; ",
          tally.fooled, " of ", tally.windows, " wrong windows not told");
}

}  // namespace kvring::test
