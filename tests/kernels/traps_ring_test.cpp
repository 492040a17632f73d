// Traps of a ring itself: its size, its slots, what of it is in sight. For each element type and
// both host kernels.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvring/live_range.hpp"
#include "refusal.hpp"
#include "traps.hpp"

using namespace kvring;
using namespace kvring::test;
using namespace kvring::test::traps;

namespace {

TEST_CASE_TEMPLATE("trap_01_an_absolute_index_leaves_the_ring", T, f32, f16, bf16) {
  const Rows<T> prompt(1, 5 * slots + 7);
  with_each_kernel([&](auto kernel) {
    Cache<T> cache(1, slots);
    const auto results = prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, scores);
    CHECK(wrong(results, prompt) == 0);
    CHECK(cache.guards_are_intact());
  });
}

TEST_CASE_TEMPLATE("trap_02_a_ring_needs_room_for_the_chunk", T, f32, f16, bf16) {
  const Rows<T> prompt(2, 150);
  const std::vector<float> right = token_by_token(prompt);
  with_each_kernel([&](auto kernel) {
    using Kernel = decltype(kernel);
    Cache<T> exact(1, slots);
    CHECK(!differing_bits(prefill<Kernel, Policy, tile>(exact, 0, prompt, chunk, scores), right));
    // Tiles of one key allow a ring of any length. One slot short: the first row of a chunk misses
    // its oldest key, and sees a newer one in its place.
    TestCache<heads, T, Full> full(1, 150);
    const auto by_keys = prefill<Kernel, Policy, 1>(full, 0, prompt, 150, scores);
    Cache<T> enough(1, slots), short_by_one(1, slots - 1), window_only(1, window);
    CHECK(!differing_bits(prefill<Kernel, Policy, 1>(enough, 0, prompt, chunk, scores), by_keys));
    CHECK(wrong(prefill<Kernel, Policy, 1>(short_by_one, 0, prompt, chunk, scores), prompt) > 0);
    CHECK(wrong(prefill<Kernel, Policy, 1>(window_only, 0, prompt, chunk, scores), prompt) > 0);
  });
}

TEST_CASE_TEMPLATE("trap_03_the_last_chunk_may_be_short", T, f32, f16, bf16) {
  const Rows<T> longest(3, 8 * chunk);
  const std::vector<float> right = token_by_token(longest);
  with_each_kernel([&](auto kernel) {
    for (std::int64_t length = 1; length <= 8 * chunk; ++length) {
      Rows<T> prompt(3, length);
      Cache<T> cache(1, slots);
      const auto results = prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, scores);
      const auto end = right.begin() + length * heads.q_dim();
      REQUIRE(!differing_bits(results, {right.begin(), end}));
    }
  });
}

TEST_CASE_TEMPLATE("trap_04_a_chunk_never_has_two_writers_for_a_slot", T, f32, f16, bf16) {
  // As many rows as are allowed, at every length: in any order they leave the same bytes. One more
  // is refused; behind the check's back it takes a key that is in sight, or a slot twice.
  const Rows<T> prompt(4, 5 * slots);
  const auto bytes = [&](const std::vector<std::int64_t>& pieces, bool backwards) {
    Cache<T> cache(1, slots);
    std::int64_t p = 0;
    for (const std::int64_t rows : pieces) {
      const Launch launch(Pieces<T>{{0, &prompt, p, rows}});
      const Append<typename Cache<T>::View> kernel{cache.view(), launch.batch(), launch.k.data(),
                                                   launch.v.data()};
      for (std::int64_t i = 0; i < rows; ++i) kernel(backwards ? rows - 1 - i : i);
      p += rows;
    }
    std::vector<T> all = cache.k();
    all.insert(all.end(), cache.v().begin(), cache.v().end());
    return all;
  };
  for (std::int64_t length = 0; length <= 2 * slots; ++length) {
    CAPTURE(length);
    LiveRange live(slots, window, 5 * slots);
    std::vector<std::int64_t> pieces;
    while (live.length() < length) {
      pieces.push_back(std::min(live.appendable(), length - live.length()));
      live.append(pieces.back());
    }
    const std::int64_t most = live.appendable();
    CHECK(contains(refusal([&] { live.append(most + 1); }), "append at most"));
    CHECK(live.length() == length);
    pieces.push_back(most);
    CHECK(same_bytes(bytes(pieces, true), bytes(pieces, false)));
    pieces.back() = slots + 1;
    CHECK(!same_bytes(bytes(pieces, true), bytes(pieces, false)));
  }
}

/// V is 1 at one position and 0 elsewhere: a result is the weight of that position.
template <class Kernel, std::int64_t Tile, class T>
long wrong_weights(std::int64_t keys_in_sight) {
  constexpr std::int64_t length = 40;
  AnyWindow::chosen = keys_in_sight;
  long wrong = 0;
  for (std::int64_t hot = 0; hot < length; ++hot) {
    Prompt<few, T> prompt(5, length);
    std::fill(prompt.v.begin(), prompt.v.end(), 0.0f);
    std::fill_n(prompt.v.begin() + hot * few.kv_dim(), few.kv_dim(), 1.0f);
    TestCache<few, T> cache(1, ring_slots(keys_in_sight, 7, Tile));
    const auto results = prefill<Kernel, AnyWindow, Tile>(cache, 0, prompt, 7, scores);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const std::int64_t p = static_cast<std::int64_t>(i) / few.q_dim();
      const bool in_sight = hot <= p && p - hot < keys_in_sight;
      wrong += in_sight ? !(results[i] > 0) : results[i] != 0;
    }
  }
  return wrong;
}

TEST_CASE_TEMPLATE("trap_05_window_counts_the_query", T, f32, f16, bf16) {
  with_each_kernel([](auto kernel) {
    using Kernel = decltype(kernel);
    for (const std::int64_t keys : {1, 2, 7, 8, 9, 16, 17}) {
      CAPTURE(keys);
      CHECK(wrong_weights<Kernel, 8, T>(keys) == 0);
      CHECK(wrong_weights<Kernel, 1, T>(keys) == 0);
    }
  });
}

TEST_CASE_TEMPLATE("trap_06_the_mask_knows_positions_not_slots", T, f32, f16, bf16) {
  // The same rows at positions shifted by half a ring, and by others, in whole tiles: other slots,
  // the same bits. Rows up to window - 1 see what is before position 0 in one and not in the other.
  constexpr std::int64_t length = 100, warm = window - 1;
  with_each_kernel([&](auto kernel) {
    const auto at = [&](std::int64_t shift) {
      const Rows<T> prompt(6, length, 1, shift);
      Cache<T> cache(1, slots);
      return prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, scores, shift + warm);
    };
    const std::vector<float> right = at(0);
    REQUIRE(all_finite(right));
    for (const std::int64_t shift : {slots / 2, tile, slots, 3 * slots + slots / 2, 8 * slots}) {
      CAPTURE(shift);
      CHECK(!differing_bits(at(shift), right));
    }
  });
}

TEST_CASE_TEMPLATE("trap_07_stale_rows_in_the_slack_are_not_seen", T, f32, f16, bf16) {
  const Rows<T> prompt(7, 120);
  const std::vector<float> right = token_by_token(prompt);
  const float huge = std::is_same_v<T, f16> ? 60'000.0f : 3e38f;
  with_each_kernel([&](auto kernel) {
    for (const std::int64_t more : {std::int64_t{0}, tile, 5 * tile}) {
      for (const float stale : {std::numeric_limits<float>::quiet_NaN(),
                                std::numeric_limits<float>::infinity(), huge, -huge}) {
        Cache<T> cache(1, slots + more);
        for (std::int64_t p = 0; p < 120; ++p) {
          const Pieces<T> one{{0, &prompt, p, 1}};
          append(cache, one);
          cache.fill_all_but(0, std::max<std::int64_t>(0, p - window + 1), p, from_f32<T>(stale));
          const auto results = attend<decltype(kernel), Policy, tile>(cache, one, scores);
          const auto begin = right.begin() + p * heads.q_dim();
          REQUIRE(!differing_bits(results, {begin, begin + heads.q_dim()}));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("trap_14_every_length_before_and_after_the_first_wrap", T, f32, f16, bf16) {
  with_each_kernel([](auto kernel) {
    for (std::int64_t length = 1; length <= slots + 2; ++length) {
      const Rows<T> prompt(14, length);
      Cache<T> cache(1, slots);
      const auto results = prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, scores);
      REQUIRE(wrong(results, prompt) == 0);
    }
  });
}

TEST_CASE_TEMPLATE("trap_15_positions_around_2_to_the_31_and_far_beyond", T, f32, f16, bf16) {
  constexpr std::int64_t length = 120, warm = window - 1;
  with_each_kernel([&](auto kernel) {
    const auto at = [&](std::int64_t begin) {
      const Rows<T> prompt(15, length, 1, begin);
      Cache<T> cache(1, slots);
      return prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, scores, begin + warm);
    };
    const std::vector<float> right = at(0);
    for (const int bit : {31, 32, 40, 62}) {
      const std::int64_t begin = (std::int64_t{1} << bit) - 64;  // a multiple of the ring
      REQUIRE(begin % slots == 0);
      CHECK(!differing_bits(at(begin), right));
    }
  });
}

TEST_CASE_TEMPLATE("trap_29_every_element_type_wraps", T, f32, f16, bf16) {
  // Many times round the ring, a row at a time and in chunks, softcap included.
  const Rows<T> prompt(29, 12 * slots);
  const Scores capped{.scale = 0.7f, .softcap = 3};
  const Expected expected(prompt, window, capped.scale, capped.softcap);
  with_each_kernel([&](auto kernel) {
    Cache<T> cache(1, slots), singly(1, slots);
    const auto results = prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, capped);
    const auto one_by_one = prefill<decltype(kernel), Policy, tile>(singly, 0, prompt, 1, capped);
    CHECK(!differing_bits(results, one_by_one));
    long wrong = 0;
    for (std::int64_t p = 0; p < prompt.rows; ++p) {
      const auto row = std::span(results).subspan(static_cast<std::size_t>(p * heads.q_dim()),
                                                  static_cast<std::size_t>(heads.q_dim()));
      wrong += expected.wrong(row, p, tile);
    }
    CHECK(wrong == 0);
  });
}

}  // namespace
