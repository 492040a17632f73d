// Traps of tiles of keys and of the sums over them. For each element type and both host kernels.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "traps.hpp"

using namespace kvring;
using namespace kvring::test;
using namespace kvring::test::traps;

namespace {

template <class Kernel, std::int64_t Tile, class T>
void rings_of_whole_tiles() {
  const Rows<T> prompt(19, 140);
  TestCache<heads, T, Full> full(1, 140);
  const auto right = prefill<ByScalar, Policy, Tile>(full, 0, prompt, 140, scores);
  // Tiles of one key wrap at any length alike: rings a little longer than two windows are enough.
  for (std::int64_t tiles = 1; tiles <= (Tile == 1 ? 44 : 70 / Tile); ++tiles) {
    const std::int64_t ring = tiles * Tile, most = ring - (window - 1);
    for (std::int64_t rows = 1; rows <= most; rows += rows < 5 ? 1 : 6) {
      Cache<T> cache(1, ring);
      REQUIRE(
          !differing_bits(prefill<Kernel, Policy, Tile>(cache, 0, prompt, rows, scores), right));
    }
  }
}

TEST_CASE_TEMPLATE("trap_19_no_tile_straddles_the_wrap", T, f32, f16, bf16) {
  with_each_kernel([](auto kernel) {
    using Kernel = decltype(kernel);
    rings_of_whole_tiles<Kernel, 1, T>();
    rings_of_whole_tiles<Kernel, 5, T>();
    rings_of_whole_tiles<Kernel, 16, T>();
  });
}

template <class Kernel, class T>
void tiles_of_a_block(std::int64_t keys_in_sight, std::int64_t length) {
  AnyWindow::chosen = keys_in_sight;
  const Prompt<few, T> prompt(21, length);
  const Expected expected(prompt, keys_in_sight, scores.scale, scores.softcap);
  TestCache<few, T, Full> full(1, length);
  const auto right = prefill<ByScalar, AnyWindow, 64>(full, 0, prompt, 1, scores);
  for (const std::int64_t rows : {length, std::int64_t{65}}) {
    TestCache<few, T> ring(1, ring_slots(keys_in_sight, rows, 64));
    CHECK(!differing_bits(prefill<Kernel, AnyWindow, 64>(ring, 0, prompt, rows, scores), right));
  }
  const auto last = std::span(right).last(static_cast<std::size_t>(few.q_dim()));
  CHECK(expected.wrong(last, length - 1, 64) == 0);
}

TEST_CASE_TEMPLATE("trap_21_a_block_ends_whatever_tiles_its_rows_see", T, f32, f16, bf16) {
  // Windows of whole tiles and prompts one longer: where a producer and a consumer that count for
  // themselves come to differ by one.
  with_each_kernel([](auto kernel) {
    using Kernel = decltype(kernel);
    tiles_of_a_block<Kernel, T>(128, 129);
    tiles_of_a_block<Kernel, T>(128, 257);
    tiles_of_a_block<Kernel, T>(256, 257);
  });
}

/// A ring that counts how often it is asked where a position lives.
struct CountedRing : Ring<slots> {
  static inline std::int64_t asked = 0;
  static Slot slot(Position p, std::int64_t slots) {
    ++asked;
    return Ring<traps::slots>::slot(p, slots);
  }
};

TEST_CASE_TEMPLATE("trap_22_keys_out_of_sight_are_skipped_not_masked", T, f32, f16, bf16) {
  // One row, near the beginning and eight million positions on, at the same place in its tile.
  const Rows<T> prompt(22, 1);
  with_each_kernel([&](auto kernel) {
    const auto asked_at = [&](std::int64_t p) {
      TestCache<heads, T, CountedRing> cache(1, slots);
      const Segment segment{.sequence = 0, .start = {p}, .first_row = 0, .rows = 1};
      std::vector<float> out(heads.q_dim());
      CountedRing::asked = 0;
      kernel.template run<Policy, tile>(cache.view(), Batch{&segment, 1, 1}, prompt.q.data(),
                                        out.data(), scores);
      return CountedRing::asked;
    };
    for (std::int64_t p = 2 * slots; p < 2 * slots + tile; ++p) {
      const std::int64_t near = asked_at(p);
      CHECK(near > 0);
      CHECK(near <= window * heads.q);
      CHECK(asked_at(p + 1'000'000 * tile) == near);
    }
  });
}

TEST_CASE_TEMPLATE("trap_25_contexts_shorter_than_the_ring_the_window_the_tile", T, f32, f16,
                   bf16) {
  // A cache has a slot for each position then, and no whole number of tiles.
  with_each_kernel([](auto kernel) {
    for (std::int64_t context = 1; context <= slots; ++context) {
      const Rows<T> prompt(25, context);
      Cache<T> cache(1, context);
      const auto results = prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, scores);
      REQUIRE(!differing_bits(results, token_by_token(prompt)));
      REQUIRE(wrong(results, prompt) == 0);
      REQUIRE(cache.guards_are_intact());
    }
  });
}

TEST_CASE_TEMPLATE("trap_26_nan_that_nobody_wrote_or_sees_is_not_read", T, f32, f16, bf16) {
  // A NaN key makes NaN of the rows that see it, and changes no bit of the others.
  const Rows<T> prompt(26, 3 * chunk);
  const std::vector<float> right = token_by_token(prompt);
  with_each_kernel([&](auto kernel) {
    for (std::int64_t hot = 0; hot < prompt.rows; ++hot) {
      for (const bool in_v : {false, true}) {
        Rows<T> poisoned = prompt;
        std::vector<float>& values = in_v ? poisoned.v : poisoned.k;
        std::fill_n(values.begin() + hot * heads.kv_dim(), heads.kv_dim(),
                    std::numeric_limits<float>::quiet_NaN());
        Cache<T> cache(1, slots);
        const auto results =
            prefill<decltype(kernel), Policy, tile>(cache, 0, poisoned, chunk, scores);
        long wrong = 0;
        for (std::size_t i = 0; i < results.size(); ++i) {
          const std::int64_t p = static_cast<std::int64_t>(i) / heads.q_dim();
          const bool in_sight = hot <= p && p - hot < window;
          wrong += in_sight ? !std::isnan(results[i]) : results[i] != right[i];
        }
        REQUIRE(wrong == 0);
      }
    }
  });
}

TEST_CASE_TEMPLATE("trap_27_tiles_without_a_key_in_sight", T, f32, f16, bf16) {
  // Windows far smaller than the tile, blocks of rows that no tile serves all of; and scores so far
  // apart that every weight but one is 0, in a first tile that the rest outweighs by far.
  with_each_kernel([](auto kernel) {
    using Kernel = decltype(kernel);
    for (const float k_size : {1.0f, 1e4f}) {
      const Prompt<few, T> prompt(27, 200, k_size);
      for (const float scale : {0.3f, 100.0f}) {
        const Scores steep{.scale = scale, .softcap = 0};
        TestCache<few, T> narrow(1, 128), single(1, 64), wide(1, 320);
        const auto three = prefill<Kernel, Swa<3>, 64>(narrow, 0, prompt, 60, steep);
        const auto itself = prefill<Kernel, Swa<1>, 64>(single, 0, prompt, 64, steep);
        const auto all = prefill<Kernel, Swa<150>, 16>(wide, 0, prompt, 100, steep);
        CHECK(all_finite(three));
        CHECK(all_finite(all));
        // A query that sees its own key alone gets its value, whatever the score.
        long wrong = 0;
        for (std::int64_t p = 0; p < 200; ++p) {
          for (std::int64_t i = 0; i < few.q_dim(); ++i) {
            wrong += itself[static_cast<std::size_t>(p * few.q_dim() + i)] !=
                     prompt.v_at(p)[static_cast<std::size_t>(i % few.dim)];
          }
        }
        CHECK(wrong == 0);
      }
    }
  });
}

template <class Kernel, std::int64_t Tile, class T>
long wrong_sinks() {
  // All scores are 0, all values 1, and one sink is 0: n keys in sight give n / (n + 1).
  AnyWindow::chosen = 64;
  constexpr std::int64_t length = 90;
  constexpr std::int64_t ring = 128;
  const std::vector<float> sinks{0, -INFINITY};
  const Scores sunk{.scale = 1, .softcap = 0, .sinks = sinks.data()};
  Prompt<few, T> prompt(28, length);
  std::fill(prompt.q.begin(), prompt.q.end(), 0.0f);
  std::fill(prompt.v.begin(), prompt.v.end(), 1.0f);
  long wrong = 0;
  for (const std::int64_t rows : {1, 40}) {
    TestCache<few, T> cache(1, ring);
    const auto results = prefill<Kernel, AnyWindow, Tile>(cache, 0, prompt, rows, sunk);
    for (std::int64_t p = 0; p < length; ++p) {
      const auto keys = static_cast<float>(std::min<std::int64_t>(p + 1, 64));
      for (std::int64_t i = 0; i < few.q_dim(); ++i) {
        const float right = i < few.dim ? keys / (keys + 1) : 1.0f;
        wrong += results[static_cast<std::size_t>(p * few.q_dim() + i)] != right;
      }
    }
  }
  return wrong;
}

TEST_CASE_TEMPLATE("trap_28_a_sink_counts_once_however_the_keys_are_cut", T, f32, f16, bf16) {
  with_each_kernel([](auto kernel) {
    CHECK(wrong_sinks<decltype(kernel), 1, T>() == 0);
    CHECK(wrong_sinks<decltype(kernel), 16, T>() == 0);
    CHECK(wrong_sinks<decltype(kernel), 64, T>() == 0);
  });
}

}  // namespace
