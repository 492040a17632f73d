// Traps of taking back: how far, how often, and what is left in the slots. For each element type
// and both host kernels.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "kvring/live_range.hpp"
#include "traps.hpp"

using namespace kvring;
using namespace kvring::test;
using namespace kvring::test::traps;

namespace {

TEST_CASE_TEMPLATE("trap_08_rejected_drafts_are_not_seen", T, f32, f16, bf16) {
  // After each position k drafts of NaN are appended, and taken back.
  const Rows<T> prompt(8, 150);
  Rows<T> drafts(8, 150 + chunk);
  std::fill(drafts.k.begin(), drafts.k.end(), std::numeric_limits<float>::quiet_NaN());
  std::fill(drafts.v.begin(), drafts.v.end(), std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> right = token_by_token(prompt);
  with_each_kernel([&](auto kernel) {
    for (const std::int64_t rejected : {std::int64_t{1}, std::int64_t{4}, chunk}) {
      Cache<T> cache(1, slots);
      LiveRange live(slots, window, 1'000);
      std::vector<float> results;
      for (std::int64_t p = 0; p < 150; ++p) {
        live.append(1);
        const Pieces<T> one{{0, &prompt, p, 1}};
        append(cache, one);
        const auto row = attend<decltype(kernel), Policy, tile>(cache, one, scores);
        results.insert(results.end(), row.begin(), row.end());
        live.append(rejected);
        append(cache, Pieces<T>{{0, &drafts, p + 1, rejected}});
        live.rewind_to({p + 1});
      }
      CHECK(!differing_bits(results, right));
    }
  });
}

/// A cache of `ring` slots that holds the newest of `length` positions.
template <class T>
Cache<T> written(const Rows<T>& prompt, std::int64_t length, std::int64_t ring) {
  Cache<T> cache(1, ring);
  for (std::int64_t p = 0; p < length; ++p) append(cache, Pieces<T>{{0, &prompt, p, 1}});
  return cache;
}

/// Row `p` of the prompt, appended and attended.
template <class Kernel, class T>
std::vector<float> step(Cache<T>& cache, const Rows<T>& prompt, std::int64_t p) {
  const Pieces<T> one{{0, &prompt, p, 1}};
  append(cache, one);
  return attend<Kernel, Policy, tile>(cache, one, scores);
}

template <class T>
std::vector<float> row_of(const std::vector<float>& results, std::int64_t p) {
  const auto begin = results.begin() + p * heads.q_dim();
  return {begin, begin + heads.q_dim()};
}

TEST_CASE_TEMPLATE("trap_09_the_rewind_floor_follows_from_the_slack", T, f32, f16, bf16) {
  const Rows<T> prompt(9, 200);
  const std::vector<float> right = token_by_token(prompt);
  with_each_kernel([&](auto kernel) {
    using Kernel = decltype(kernel);
    for (const std::int64_t more : {std::int64_t{0}, tile, 3 * tile}) {
      const std::int64_t ring = slots + more, slack = ring - (window - 1);
      for (std::int64_t length = ring + 1; length <= 3 * ring; length += 5) {
        CAPTURE(ring);
        CAPTURE(length);
        LiveRange live(ring, window, 1'000);
        while (live.length() < length) live.append(1);
        const std::int64_t floor = length - slack;
        CHECK(live.may_rewind_to({floor}));
        CHECK(!live.may_rewind_to({floor - 1}));
        Cache<T> cache = written(prompt, length, ring), deeper = written(prompt, length, ring);
        CHECK(!differing_bits(step<Kernel>(cache, prompt, floor), row_of<T>(right, floor)));
        // One further back, behind the check's back: its oldest key is gone.
        CHECK(wrong(step<Kernel>(deeper, prompt, floor - 1), prompt, floor - 1) > 0);
      }
    }
  });
}

TEST_CASE_TEMPLATE("trap_10_many_small_rewinds_are_as_deep_as_their_sum", T, f32, f16, bf16) {
  // One, two or five back, and none or one on again, until it is refused: depth counts from the
  // highest position ever written.
  constexpr std::int64_t high = 100, slack = slots - (window - 1);
  const Rows<T> prompt(10, 120);
  const std::vector<float> right = token_by_token(prompt);
  with_each_kernel([&](auto kernel) {
    for (const std::int64_t back : {1, 2, 5}) {
      for (std::int64_t on = 0; on < std::min<std::int64_t>(back, 2); ++on) {
        CAPTURE(back);
        CAPTURE(on);
        Cache<T> cache = written(prompt, high, slots);
        LiveRange live(slots, window, 1'000);
        while (live.length() < high) live.append(1);
        while (live.may_rewind_to({live.length() - back})) {
          live.rewind_to({live.length() - back});
          for (std::int64_t i = 0; i < on; ++i) {
            append(cache, Pieces<T>{{0, &prompt, live.length(), 1}});
            live.append(1);
          }
        }
        const std::int64_t length = live.length();
        CHECK(length >= high - slack);
        CHECK(length - back < high - slack);
        CHECK_THROWS_AS(live.rewind_to({length - back}), Error);
        CHECK(live.length() == length);
        CHECK(live.written() == high);
        for (std::int64_t p = length; p < 115; ++p) {
          CHECK(!differing_bits(step<decltype(kernel)>(cache, prompt, p), row_of<T>(right, p)));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("trap_12_what_is_kept_goes_by_position_not_by_slot", T, f32, f16, bf16) {
  // Every length of a small ring, every legal depth; another text follows, four rows at once.
  constexpr std::int64_t ring = 8, rows = 4, most = 3 * ring;
  using Narrow = Swa<5>;
  using Text = Prompt<few, T>;
  const Text first(12, most + rows), other(1'200, most + rows);
  const auto follow = [](std::vector<float>& to, const std::vector<float>& from, std::int64_t row) {
    std::copy(from.begin() + row, from.end(), to.begin() + row);
  };
  with_each_kernel([&](auto kernel) {
    long cases = 0;
    for (std::int64_t length = 1; length <= most; ++length) {
      LiveRange live(ring, Narrow::window, 1'000);
      while (live.length() < length) live.append(1);
      for (std::int64_t p = 0; p <= length; ++p) {
        if (!live.may_rewind_to({p})) continue;
        Text spliced = first;
        follow(spliced.q, other.q, p * few.q_dim());
        follow(spliced.k, other.k, p * few.kv_dim());
        follow(spliced.v, other.v, p * few.kv_dim());
        TestCache<few, T, Full> full(1, spliced.end());
        const auto right = prefill<ByScalar, Narrow, 4>(full, 0, spliced, 1, scores);

        TestCache<few, T> cache(1, ring);
        for (std::int64_t at = 0; at < length; ++at) {
          append(cache, std::vector<Piece<Text>>{{0, &first, at, 1}});
        }
        const std::vector<Piece<Text>> piece{{0, &spliced, p, rows}};
        append(cache, piece);
        const auto begin = right.begin() + p * few.q_dim();
        REQUIRE(!differing_bits(attend<decltype(kernel), Narrow, 4>(cache, piece, scores),
                                {begin, begin + rows * few.q_dim()}));
        ++cases;
      }
    }
    CHECK(cases > 3 * most);
  });
}

}  // namespace
