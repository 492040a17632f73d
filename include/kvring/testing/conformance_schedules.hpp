// Where rings go wrong: the positions whose rows the conformance suite looks at, and the schedules
// in which prompts are appended up to them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kvring/chunk.hpp"
#include "kvring/testing/conformance_cache.hpp"

namespace kvring::testing::conformance {

/// The rows round each boundary b, b - 2 ... b + 1, as ordered spans without overlap. A query at
/// W - 1 is the first with a whole window; the row at R takes the first slot anew, and the one at
/// 2R takes it a third time.
template <class S>
std::vector<Span> boundary_spans() {
  std::vector<std::int64_t> boundaries{0, S::tile, S::chunk, 2 * S::chunk};
  if (S::has_window) boundaries.push_back(S::window);
  if (S::is_ring) boundaries.insert(boundaries.end(), {S::ring, 2 * S::ring});
  std::vector<bool> chosen(static_cast<std::size_t>(S::length), false);
  for (const std::int64_t b : boundaries) {
    for (std::int64_t p = std::max<std::int64_t>(0, b - 2); p < std::min(b + 2, S::length); ++p) {
      chosen[static_cast<std::size_t>(p)] = true;
    }
  }
  std::vector<Span> spans;
  for (std::int64_t p = 0; p < S::length; ++p) {
    if (!chosen[static_cast<std::size_t>(p)]) continue;
    if (!spans.empty() && spans.back().end().value == p) {
      ++spans.back().rows;
    } else {
      spans.push_back({{p}, 1});
    }
  }
  return spans;
}

/// Chunks of a prompt, one after the other.
using Schedule = std::vector<Span>;

/// The whole prompt in chunks of `chunk` rows, after a first one of `first`.
inline Schedule in_chunks(std::int64_t length, std::int64_t chunk, std::int64_t first = 0) {
  Schedule schedule;
  if (first > 0) schedule.push_back({{0}, std::min(first, length)});
  for (const Span span : ChunkSchedule({first}, std::max<std::int64_t>(0, length - first), chunk)) {
    schedule.push_back(span);
  }
  return schedule;
}

/// Rows near boundaries one at a time, all others in chunks.
inline Schedule token_by_token(const std::vector<Span>& spans, std::int64_t chunk) {
  Schedule schedule;
  std::int64_t done = 0;
  for (const Span& span : spans) {
    for (const Span piece : ChunkSchedule({done}, span.start.value - done, chunk)) {
      schedule.push_back(piece);
    }
    for (std::int64_t p = span.start.value; p < span.end().value; ++p) schedule.push_back({{p}, 1});
    done = span.end().value;
  }
  return schedule;
}

/// A chunk of the full length that begins at each boundary's first row: when it attends, all that
/// the chunk may overwrite is overwritten.
inline Schedule from_boundaries(const std::vector<Span>& spans, std::int64_t chunk) {
  Schedule schedule;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const std::int64_t begin = spans[i].start.value;
    const std::int64_t end = i + 1 < spans.size() ? spans[i + 1].start.value : spans[i].end().value;
    for (const Span piece : ChunkSchedule({begin}, end - begin, chunk)) schedule.push_back(piece);
  }
  return schedule;
}

/// Appends a prompt by a schedule. After each chunk, its rows that are in `spans` attend: after all
/// of the chunk has been appended. f(cache, piece) does it.
template <class S, class Cache, class F>
void walk(Cache& cache, const typename S::Prompt& prompt, const Schedule& schedule,
          const std::vector<Span>& spans, F f) {
  ++covering()->schedules;
  for (const Span& piece : schedule) {
    cache.append({{0, &prompt, piece.start.value, piece.rows}});
    for (const Span& span : spans) {
      const std::int64_t begin = std::max(piece.start.value, span.start.value);
      const std::int64_t end = std::min(piece.end().value, span.end().value);
      if (begin < end) f(cache, Piece<typename S::Prompt>{0, &prompt, begin, end - begin});
    }
  }
}

/// The results of the rows in `spans`.
template <class S, class Cache>
typename S::Results results_of(Cache& cache, const typename S::Prompt& prompt,
                               const Schedule& schedule, const std::vector<Span>& spans) {
  typename S::Results results;
  walk<S>(cache, prompt, schedule, spans,
          [&](Cache& c, const auto& piece) { c.attend_into(results, piece); });
  return results;
}

/// The same from a cache with a slot for each position: the whole prompt in one chunk, then each
/// span. Nothing wraps, nothing is overwritten.
template <class S>
typename S::Results results_of_full_cache(const typename S::Backend& backend,
                                          const typename S::Prompt& prompt, std::int64_t length,
                                          const std::vector<Span>& spans) {
  GuardedCache<S, typename S::FullView> cache(backend, 1, length);
  return results_of<S>(cache, prompt, {{{0}, length}}, spans);
}

}  // namespace kvring::testing::conformance
