// Conformance in memory, for one kind of layer: which bytes append writes, which slots attention
// reads, and that the sequences of a batch don't meet.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "kvring/testing/conformance_attention.hpp"

namespace kvring::testing::conformance {

/// Every row to its slot as nearest element, and nothing else: no padding row, no other sequence,
/// nothing before or behind the cache. Chunks run up to the wrap, over it, and are as long as they
/// may be.
template <class S>
void appends(const typename S::Backend& backend) {
  constexpr std::int64_t sequences = 3;
  using T = typename S::Element;
  using Row = typename S::Row;
  const std::int64_t slots = slots_of<S>();
  GuardedCache<S> cache(backend, sequences, slots);
  std::vector<T> right = cache.contents();
  const typename S::Prompt prompts[sequences] = {
      {.seed = 11, .exact = false}, {.seed = 12, .exact = false}, {.seed = 13, .exact = false}};

  std::vector<Row> row(static_cast<std::size_t>(S::heads.kv_dim()));
  const auto expect = [&](const Piece<typename S::Prompt>& piece) {
    for (std::int64_t p = piece.start; p < piece.start + piece.rows; ++p) {
      std::int64_t slot = p;
      while (slot >= slots) slot -= slots;
      for (const bool is_v : {false, true}) {
        is_v ? piece.prompt->put_v(p, row.data()) : piece.prompt->put_k(p, row.data());
        const std::int64_t at =
            is_v ? cache.v_at(piece.sequence, slot) : cache.k_at(piece.sequence, slot);
        for (std::size_t i = 0; i < row.size(); ++i) {
          right[static_cast<std::size_t>(at) + i] = from_f32<T>(to_f32(row[i]));
        }
      }
    }
  };
  // Sequence 1 goes all the way; 2 and 0 keep it company, in that order, with other lengths.
  std::int64_t done[sequences] = {};
  const auto go = [&](std::int64_t sequence, std::int64_t rows, typename S::Pieces& pieces) {
    rows = std::min(rows, S::length - done[sequence]);
    if (rows < 1) return;
    pieces.push_back({sequence, &prompts[sequence], done[sequence], rows});
    done[sequence] += rows;
  };
  for (const std::int64_t chunk :
       {S::chunk, std::int64_t{1}, std::max<std::int64_t>(1, S::chunk - 1), S::chunk}) {
    typename S::Pieces pieces;
    go(2, std::min<std::int64_t>(chunk, 3), pieces);
    go(1, chunk, pieces);
    go(0, std::max<std::int64_t>(1, chunk / 8), pieces);
    if (pieces.empty()) continue;  // no longer prompt is looked at
    cache.append(pieces);
    for (const auto& piece : pieces) expect(piece);
    const long wrong = differing_bytes(cache.contents(), right);
    CHECK_MESSAGE(wrong == 0, wrong, " elements of the cache and its guards are wrong after ",
                  done[1], " rows");
    ++covering()->schedules;
  }
  // On to the end, the wrap included, one chunk at a time.
  while (done[1] < S::length) {
    typename S::Pieces pieces;
    go(1, S::chunk, pieces);
    cache.append(pieces);
    for (const auto& piece : pieces) expect(piece);
  }
  const long wrong = differing_bytes(cache.contents(), right);
  CHECK_MESSAGE(wrong == 0, wrong, " elements of the cache and its guards are wrong after ",
                S::length, " rows");
}

/// Whatever stands in slots that no row may see, before the window, after the query, never written,
/// in the slack of the ring: no bit changes.
template <class S>
void poison(const typename S::Backend& backend) {
  using T = typename S::Element;
  const typename S::Prompt prompt{.seed = 7};
  const std::vector<Span> spans = boundary_spans<S>();
  const Schedule schedule = token_by_token(spans, S::chunk);
  GuardedCache<S> clean(backend, 1, slots_of<S>());
  const typename S::Results right = results_of<S>(clean, prompt, schedule, spans);
  const float huge = std::is_same_v<T, f16> ? 60'000.0f : 3e38f;
  int turn = 0;
  const float poisons[] = {std::numeric_limits<float>::quiet_NaN(), huge,
                           -std::numeric_limits<float>::infinity()};
  for (const int half : {0, 1}) {  // every other row attends amid poison
    // What a row does not see, no later row does: it may be poisoned for good.
    GuardedCache<S> cache(backend, 1, slots_of<S>());
    typename S::Results results;
    walk<S>(cache, prompt, schedule, spans, [&](auto& c, const auto& piece) {
      if (turn++ % 2 == half) {
        c.fill_all_but(0, S::oldest_seen(piece.start), piece.start,
                       from_f32<T>(poisons[turn / 2 % 3]));
      }
      c.attend_into(results, piece);
    });
    check_same<S>("with poison out of sight", prompt, results, right);
  }
}

/// Sequences of other lengths in one launch, before and behind: each row has the bits that it has
/// alone.
template <class S>
void batch_neighbours(const typename S::Backend& backend) {
  std::vector<std::int64_t> lengths{1, S::tile + 1, S::chunk + 1,
                                    S::is_ring ? S::ring + S::window / 2 + 5 : S::length};
  if (S::has_window) lengths.insert(lengths.begin() + 1, S::window);
  if (!S::is_ring) {
    for (std::int64_t& length : lengths) length = std::min(length, S::length);
  }
  const std::int64_t sequences = std::ssize(lengths);
  const std::int64_t slots = slots_of<S>();
  std::vector<typename S::Prompt> prompts;
  std::vector<std::int64_t> order;  // of the sequences in the launch: odd ones first
  for (std::int64_t s = 0; s < sequences; ++s) {
    prompts.push_back({.seed = 20 + static_cast<std::uint64_t>(s)});
    order.insert(s % 2 == 0 ? order.end() : order.begin(), s);
  }
  GuardedCache<S> cache(backend, sequences, slots);
  typename S::Pieces pieces;  // from 1 to 5 rows of each
  for (const std::int64_t s : order) {
    const std::int64_t length = lengths[static_cast<std::size_t>(s)];
    const std::int64_t last = std::min({length, s + 1, S::chunk});
    const auto& prompt = prompts[static_cast<std::size_t>(s)];
    cache.append_span(s, prompt, 0, length - last);
    pieces.push_back({s, &prompt, length - last, last});
  }
  cache.append(pieces);
  const auto together = cache.attend(pieces);
  ++covering()->schedules;

  auto from = together.begin();
  for (const auto& piece : pieces) {
    typename S::Results mine, right;
    for (std::int64_t i = 0; i < piece.rows; ++i, from += S::heads.q_dim()) {
      mine[piece.start + i].assign(from, from + S::heads.q_dim());
    }
    GuardedCache<S> alone(backend, 1, slots);
    alone.append_span(0, *piece.prompt, 0, piece.start);
    alone.append({{0, piece.prompt, piece.start, piece.rows}});
    alone.attend_into(right, {0, piece.prompt, piece.start, piece.rows});
    CAPTURE(piece.sequence);
    check_same<S>("in company", *piece.prompt, mine, right);
  }
}

}  // namespace kvring::testing::conformance
