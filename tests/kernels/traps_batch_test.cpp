// Traps of launches: chunks with room to spare, rows of several sequences, heads that share keys,
// drafts, threads. For each element type and both host kernels.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include "traps.hpp"

using namespace kvring;
using namespace kvring::test;
using namespace kvring::test::traps;

namespace {

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

TEST_CASE_TEMPLATE("trap_36_each_drafted_row_has_its_own_left_edge", T, f32, f16, bf16) {
  // A block of drafts, at every place of the ring. A NaN in the oldest key of row i reaches rows
  // 0 ... i, and no bit of the others.
  const Rows<T> prompt(36, 4 * slots);
  const std::vector<float> right = token_by_token(prompt);
  with_each_kernel([&](auto kernel) {
    for (std::int64_t start = 2 * slots; start < 3 * slots; ++start) {
      const Pieces<T> drafts{{0, &prompt, start, chunk}};
      for (std::int64_t edge = 0; edge < chunk; ++edge) {
        Cache<T> cache(1, slots);
        for (std::int64_t p = start - slots; p < start; ++p) {
          append(cache, Pieces<T>{{0, &prompt, p, 1}});
        }
        append(cache, drafts);
        cache.fill_slot(0, (start - (window - 1) + edge) % slots, cache.not_a_number());
        const auto results = attend<decltype(kernel), Policy, tile>(cache, drafts, scores);
        long wrong = 0;
        for (std::int64_t i = 0; i < chunk * heads.q_dim(); ++i) {
          const float x = results[static_cast<std::size_t>(i)];
          wrong += i / heads.q_dim() <= edge
                       ? !std::isnan(x)
                       : x != right[static_cast<std::size_t>(start * heads.q_dim() + i)];
        }
        REQUIRE(wrong == 0);
      }
    }
  });
}

TEST_CASE_TEMPLATE("trap_38_one_sequence_is_appended_while_another_attends", T, f32, f16, bf16) {
  // Two threads, two sequences of one cache, nothing between them.
  const Rows<T> prompt(38, 8 * slots), other(380, 8 * slots);
  const std::vector<float> right = token_by_token(prompt);
  with_each_kernel([&](auto kernel) {
    Cache<T> cache(2, slots);
    std::thread beside([&] {
      for (int time = 0; time < 20; ++time) {
        for (std::int64_t p = 0; p < other.rows; p += 8)
          append(cache, Pieces<T>{{1, &other, p, 8}});
      }
    });
    const auto results = prefill<decltype(kernel), Policy, tile>(cache, 0, prompt, chunk, scores);
    beside.join();
    CHECK(!differing_bits(results, right));
    Cache<T> alone(1, slots);
    for (std::int64_t p = 0; p < other.rows; p += 8) append(alone, Pieces<T>{{0, &other, p, 8}});
    const std::size_t size = static_cast<std::size_t>(slots * heads.kv_dim());
    const auto first = cache.k().begin() + cache.guard + slots * heads.kv_dim();
    const auto lone = alone.k().begin() + cache.guard;
    const auto same = [](T a, T b) { return to_f32(a) == to_f32(b); };
    CHECK(std::equal(first, first + static_cast<std::ptrdiff_t>(size), lone, same));
  });
}

}  // namespace
