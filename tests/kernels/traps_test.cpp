// The traps of ring caches that other libraries fell into, each with its test, for each element
// type and both host kernels.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "attention.hpp"
#include "kvring/live_range.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr Heads heads{.q = 6, .kv = 2, .dim = 12};
constexpr Scores scores{.scale = 0.4f, .softcap = 0};
constexpr std::int64_t tile = 8, window = 20, chunk = 13;
using Policy = Swa<window>;
constexpr std::int64_t slots = 32;  // window - 1 + chunk: not one to spare
static_assert(slots == window - 1 + chunk && slots % tile == 0);

template <class T>
using Rows = Prompt<heads, T>;
template <class T>
using Cache = TestCache<heads, T>;
template <class T>
using Pieces = std::vector<Piece<Rows<T>>>;

/// Elements out of bound of rows `first` ... of a prompt.
template <class T>
long wrong(const std::vector<float>& results, const Rows<T>& prompt, std::int64_t first = 0) {
  const Expected expected(prompt, window, scores.scale, scores.softcap);
  const std::size_t width = heads.q_dim();
  long count = 0;
  for (std::size_t i = 0; i * width < results.size(); ++i) {
    const auto row = std::span(results).subspan(i * width, width);
    count += expected.wrong(row, first + static_cast<std::int64_t>(i), tile);
  }
  return count;
}

/// The rows of a whole prompt, over a full cache, one at a time.
template <class T>
std::vector<float> token_by_token(const Rows<T>& prompt) {
  TestCache<heads, T, Full> cache(1, prompt.end());
  return prefill<ByScalar, Policy, tile>(cache, 0, prompt, 1, scores);
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

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

constexpr Heads few{.q = 2, .kv = 1, .dim = 8};

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

TEST_CASE_TEMPLATE("trap_16_a_padded_chunk_does_not_reach_the_live_window", T, f32, f16, bf16) {
  // The launch's arrays have room for a chunk; rows past the batch's are NaN in K, V and Q.
  const Rows<T> prompt(16, 100);
  const std::vector<float> right = token_by_token(prompt);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  with_each_kernel([&](auto kernel) {
    Cache<T> cache(1, slots);
    Random random(16);
    std::vector<float> results;
    for (std::int64_t p = 0; p < 100;) {
      const std::int64_t rows = std::min(100 - p, random.between(1, chunk));
      Launch launch(Pieces<T>{{0, &prompt, p, rows}});
      launch.q.resize(chunk * heads.q_dim(), nan);
      launch.k.resize(chunk * heads.kv_dim(), nan);
      launch.v.resize(chunk * heads.kv_dim(), nan);
      const Append<typename Cache<T>::View> appending{cache.view(), launch.batch(), launch.k.data(),
                                                      launch.v.data()};
      for (std::int64_t row = 0; row < rows; ++row) appending(row);
      std::vector<float> out(launch.q.size(), 42.0f);
      kernel.template run<Policy, tile>(cache.view(), launch.batch(), launch.q.data(), out.data(),
                                        scores);
      const auto end = out.begin() + rows * heads.q_dim();
      results.insert(results.end(), out.begin(), end);
      REQUIRE(std::all_of(end, out.end(), [](float x) { return x == 42.0f; }));
      p += rows;
    }
    CHECK(!differing_bits(results, right));
  });
}

TEST_CASE_TEMPLATE("trap_17_a_ragged_batch_knows_each_length", T, f32, f16, bf16) {
  // One launch, every sequence at another length; each row as if it were alone.
  const std::vector<std::int64_t> lengths{1, window, window + 1, slots, 3 * slots + 5};
  Cache<T> cache(5, slots);
  std::vector<Rows<T>> prompts;
  for (const std::int64_t length : lengths) prompts.emplace_back(100 + length, length);
  Pieces<T> pieces;
  std::vector<float> right;
  for (std::int64_t s = 0; s < 5; ++s) {
    const Rows<T>& prompt = prompts[static_cast<std::size_t>(s)];
    const std::int64_t last = std::min(chunk, prompt.rows) - (s == 3);  // not all of one length
    for (std::int64_t p = 0; p < prompt.rows - last;) {
      const std::int64_t rows = std::min(chunk, prompt.rows - last - p);
      append(cache, Pieces<T>{{s, &prompt, p, rows}});
      p += rows;
    }
    pieces.push_back({s, &prompt, prompt.rows - last, last});
    const std::vector<float> alone = token_by_token(prompt);
    right.insert(right.end(), alone.end() - last * heads.q_dim(), alone.end());
  }
  append(cache, pieces);
  with_each_kernel([&](auto kernel) {
    CHECK(!differing_bits(attend<decltype(kernel), Policy, tile>(cache, pieces, scores), right));
  });
}

template <class Kernel, std::int64_t Tile, class T>
void rings_of_whole_tiles() {
  const Rows<T> prompt(19, 140);
  TestCache<heads, T, Full> full(1, 140);
  const auto right = prefill<ByScalar, Policy, Tile>(full, 0, prompt, 140, scores);
  for (std::int64_t tiles = 1; tiles <= 70 / Tile; ++tiles) {
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

/// Each query head of a group alone, with the kv head that it reads.
template <class Kernel, Heads H, class T>
long wrong_groups() {
  constexpr Heads one{.q = 1, .kv = 1, .dim = H.dim};
  const Prompt<H, T> prompt(20, 61);
  TestCache<H, T> cache(1, slots);
  const std::vector<float> together =
      prefill<Kernel, Policy, tile>(cache, 0, prompt, chunk, scores);
  long wrong = 0;
  for (std::int64_t head = 0; head < H.q; ++head) {
    const std::int64_t kv_head = head / (H.q / H.kv);
    Prompt<one, T> alone(20, 61);
    for (std::int64_t p = 0; p < 61; ++p) {
      for (std::int64_t d = 0; d < H.dim; ++d) {
        const std::size_t to = static_cast<std::size_t>(p * H.dim + d);
        alone.q[to] = prompt.q_at(p)[static_cast<std::size_t>(head * H.dim + d)];
        alone.k[to] = prompt.k_at(p)[static_cast<std::size_t>(kv_head * H.dim + d)];
        alone.v[to] = prompt.v_at(p)[static_cast<std::size_t>(kv_head * H.dim + d)];
      }
    }
    TestCache<one, T> lone_cache(1, slots);
    const std::vector<float> results =
        prefill<Kernel, Policy, tile>(lone_cache, 0, alone, chunk, scores);
    std::vector<float> of_head;
    for (std::int64_t p = 0; p < 61; ++p) {
      const auto begin = together.begin() + (p * H.q + head) * H.dim;
      of_head.insert(of_head.end(), begin, begin + H.dim);
    }
    wrong += static_cast<long>(differing_bits(results, of_head).differing);
  }
  return wrong;
}

TEST_CASE_TEMPLATE("trap_20_every_query_head_of_a_group_has_its_own_position", T, f32, f16, bf16) {
  with_each_kernel([](auto kernel) {
    using Kernel = decltype(kernel);
    CHECK(wrong_groups<Kernel, Heads{.q = 4, .kv = 2, .dim = 6}, T>() == 0);
    CHECK(wrong_groups<Kernel, Heads{.q = 12, .kv = 3, .dim = 6}, T>() == 0);
    CHECK(wrong_groups<Kernel, Heads{.q = 8, .kv = 1, .dim = 6}, T>() == 0);
    CHECK(wrong_groups<Kernel, Heads{.q = 10, .kv = 2, .dim = 6}, T>() == 0);
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

TEST_CASE_TEMPLATE("trap_30_many_sequences_in_one_allocation", T, f32, f16, bf16) {
  // Sequences take turns at random; each gets what it gets alone, and those that never had a turn
  // keep their bytes.
  with_each_kernel([](auto kernel) {
    Random random(30);
    std::vector<Rows<T>> prompts;
    for (std::uint64_t s = 0; s < 7; ++s) prompts.emplace_back(300 + s, random.between(1, 120));
    std::vector<std::int64_t> done(7, 0);
    std::vector<std::vector<float>> results(7);
    Cache<T> cache(7, slots);
    for (int turn = 0; turn < 400; ++turn) {
      const std::int64_t s = random.between(0, 2) * 2 + 1;  // 1, 3 and 5
      const Rows<T>& prompt = prompts[static_cast<std::size_t>(s)];
      std::int64_t& at = done[static_cast<std::size_t>(s)];
      const std::int64_t rows = std::min(prompt.rows - at, random.between(1, chunk));
      if (rows == 0) continue;
      const Pieces<T> piece{{s, &prompt, at, rows}};
      append(cache, piece);
      const auto out = attend<decltype(kernel), Policy, tile>(cache, piece, scores);
      auto& all = results[static_cast<std::size_t>(s)];
      all.insert(all.end(), out.begin(), out.end());
      at += rows;
    }
    for (const std::size_t s : {1, 3, 5}) {
      CHECK(!differing_bits(results[s], token_by_token(prompts[s])));
    }
    for (const std::vector<T>* memory : {&cache.k(), &cache.v()}) {
      for (const std::int64_t s : {0, 2, 4, 6}) {
        const auto begin = memory->begin() + cache.guard + s * slots * heads.kv_dim();
        CHECK(std::all_of(begin, begin + slots * heads.kv_dim(),
                          [](T x) { return to_f32(x) != to_f32(x); }));
      }
    }
    CHECK(cache.guards_are_intact());
  });
}

}  // namespace
