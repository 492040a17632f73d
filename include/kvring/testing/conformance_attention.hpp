// Conformance of append and attention, for one kind of layer: boundaries, schedules, masks.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kvring/testing/conformance_expected.hpp"
#include "kvring/testing/conformance_schedules.hpp"

namespace kvring::testing::conformance {

/// Slots of a kind's own storage for the positions that the cases go through.
template <class S>
constexpr std::int64_t slots_of() {
  return S::Placement::capacity(S::length);
}

/// Every boundary, the rows before it appended in chunks: exact within the bound.
template <class S>
void boundaries(const typename S::Backend& backend) {
  const typename S::Prompt prompt{.seed = 1};
  GuardedCache<S> cache(backend, 1, slots_of<S>());
  check_with_reference<S>(
      prompt, results_of<S>(cache, prompt, in_chunks(S::length, S::chunk), boundary_spans<S>()));
}

/// The chunking changes no bit of a row.
template <class S>
void chunks(const typename S::Backend& backend) {
  const typename S::Prompt prompt{.seed = 2};
  const std::vector<Span> spans = boundary_spans<S>();
  const auto by = [&](const Schedule& schedule) {
    GuardedCache<S> cache(backend, 1, slots_of<S>());
    return results_of<S>(cache, prompt, schedule, spans);
  };
  const typename S::Results right = by(in_chunks(S::length, S::chunk));
  check_same<S>("one row more before the first chunk", prompt,
                by(in_chunks(S::length, S::chunk, 1)), right);
  check_same<S>("token by token", prompt, by(token_by_token(spans, S::chunk)), right);
  check_same<S>("a whole chunk from each boundary", prompt, by(from_boundaries(spans, S::chunk)),
                right);
  const std::int64_t one_less = std::max<std::int64_t>(1, S::chunk - 1);
  check_same<S>("chunks of one row less", prompt, by(in_chunks(S::length, one_less)), right);
  // As many launches as are cheap, of no whole tile.
  const std::int64_t few = std::min(S::chunk, std::max(S::tile + 1, S::length / 100));
  check_same<S>("chunks of few rows", prompt, by(in_chunks(S::length, few, few / 2)), right);
}

/// A ring gives the bits of a cache in which nothing wraps; so does one that a short context makes
/// shorter than the window.
template <class S>
void ring_is_full(const typename S::Backend& backend) {
  const typename S::Prompt prompt{.seed = 3};
  const std::vector<Span> spans = boundary_spans<S>();
  const typename S::Results right = results_of_full_cache<S>(backend, prompt, S::length, spans);
  GuardedCache<S> cache(backend, 1, slots_of<S>());
  check_same<S>("as planned", prompt,
                results_of<S>(cache, prompt, in_chunks(S::length, S::chunk), spans), right);

  for (const std::int64_t context :
       {std::int64_t{1}, S::tile, S::tile + 1, S::has_window ? S::window + 1 : 2 * S::tile + 1}) {
    if (context > S::length) continue;
    const std::vector<Span> last{
        {{std::max<std::int64_t>(0, context - 2)}, std::min<std::int64_t>(context, 2)}};
    GuardedCache<S> brief(backend, 1, S::Placement::capacity(context));
    check_same<S>("in a short context", prompt,
                  results_of<S>(brief, prompt, in_chunks(context, S::chunk), last),
                  results_of_full_cache<S>(backend, prompt, context, last));
  }
}

/// The plan, had it been given a StagedChunk.
template <class PlanType>
using StagedTwin =
    Plan<typename PlanType::Model, typename PlanType::Element, StagedChunk<PlanType::chunk>,
         Rewind<PlanType::rewind>, KeyTile<PlanType::key_tile>>;

/// The same with rows that wait in a stage until they have attended, whether the plan is staged or
/// not, if the kernels can do it.
template <class S>
void staged_is_full(const typename S::Backend& backend) {
  if constexpr (S::is_ring && !S::Placement::is_staged &&
                detail::takes_staged<typename S::Kernels, typename S::Backend>(S::tile)) {
    using Twin = Subject<StagedTwin<typename S::Plan>, typename S::Kind, typename S::Kernels,
                         typename S::Backend>;
    static_assert(Twin::is_staged);
    ring_is_full<Twin>(backend);
  }
}

/// Rows with a whole window, at other positions and so in other slots: the same bits. Shifts are
/// whole tiles, for kernels cut keys there, or whole start_steps.
template <class S>
void any_start(const typename S::Backend& backend) {
  if constexpr (S::is_ring) {
    constexpr std::int64_t step = detail::start_step<typename S::Kernels>(S::tile);
    const auto steps = [](std::int64_t positions) { return positions / step * step; };
    const auto at = [&](std::int64_t begin) {
      const typename S::Prompt prompt{.seed = 4, .begin = begin};
      GuardedCache<S> cache(backend, 1, S::ring);
      const Piece<typename S::Prompt> last{0, &prompt, begin + S::window - 1, smaller(S::chunk, 3)};
      cache.append_span(0, prompt, begin, last.start);
      cache.append({last});
      typename S::Results results, from_zero;
      cache.attend_into(results, last);
      for (const auto& [p, row] : results) from_zero[p - begin] = row;
      ++covering()->schedules;
      return from_zero;
    };
    const typename S::Results right = at(0);
    check_with_reference<S>({.seed = 4}, right);
    // Half a ring, a window that wraps, rings, 2^31 within the window, and far beyond.
    for (const std::int64_t begin :
         {step, steps(S::ring / 2), steps(S::ring - S::window / 2), steps(S::ring),
          steps(3 * S::ring + S::ring / 2), steps((std::int64_t{1} << 31) - S::window / 2),
          steps(std::int64_t{1} << 39)}) {
      if (begin + S::window + 2 > detail::most_positions<typename S::Kernels>()) continue;
      CAPTURE(begin);
      check_same<S>("begun elsewhere", {.seed = 4}, at(begin), right);
    }
  } else {
    // A full cache has no other slots; a prompt may still be cut anywhere, and go on.
    const typename S::Prompt prompt{.seed = 4};
    const std::vector<Span> last{{{S::length - 3}, 3}};
    const typename S::Results right = results_of_full_cache<S>(backend, prompt, S::length, last);
    for (const std::int64_t cut : {std::int64_t{1}, S::tile, S::length - 4, S::length - 1}) {
      if (cut < 1 || cut > S::chunk) continue;
      GuardedCache<S> cache(backend, 1, slots_of<S>());
      check_same<S>("begun elsewhere", prompt,
                    results_of<S>(cache, prompt, in_chunks(S::length, S::chunk, cut), last), right);
    }
  }
}

/// Exactly which keys a row sees: V is 1 at one position for each column, so a result is the weight
/// of that position, and must be 0 out of sight and more in sight. Rows of the same chunk that come
/// later have been appended; older rows are there as far as the ring holds them.
template <class S>
void who_sees_what(const typename S::Backend& backend) {
  for (const Span& span : boundary_spans<S>()) {
    const std::int64_t begin =
        S::is_ring ? std::max<std::int64_t>(0, span.start.value - S::ring) : 0;
    const std::int64_t end = span.start.value + std::min(S::chunk, span.rows + S::tile);
    typename S::Prompt prompt{.seed = 5};
    const std::int64_t dims = S::heads.dim;
    const auto probe = [&](std::int64_t p) {
      auto& probes = prompt.probes;
      if (p < begin || p >= end || static_cast<std::int64_t>(probes.size()) == dims) return;
      if (std::find(probes.begin(), probes.end(), p) == probes.end()) probes.push_back(p);
    };
    for (std::int64_t p = span.start.value; p < span.end().value; ++p) {
      for (const std::int64_t more : {0, 1, -1}) probe(p + more);
      if constexpr (S::has_window) {
        for (const std::int64_t more : {0, 1, -1}) probe(p - S::window + more);
      }
    }
    const std::int64_t step = std::max<std::int64_t>(1, (end - begin) / dims);
    for (std::int64_t p = begin; p < end; p += step) probe(p);

    GuardedCache<S> cache(backend, 1, S::Placement::capacity(std::max(end, S::length)));
    cache.append_span(0, prompt, begin, span.start.value);
    cache.append({{0, &prompt, span.start.value, end - span.start.value}});
    const std::int64_t rows = std::min(span.rows, end - span.start.value);
    const auto results = cache.attend({{0, &prompt, span.start.value, rows}});
    ++covering()->schedules;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t p = span.start.value + row;
      long too_many = 0, missing = 0;
      for (std::int64_t i = 0; i < S::heads.q_dim(); ++i) {
        const std::size_t column = static_cast<std::size_t>(i % dims);
        if (column >= prompt.probes.size()) continue;
        const float weight = to_f32(results[static_cast<std::size_t>(row * S::heads.q_dim() + i)]);
        const std::int64_t key = prompt.probes[column];
        const bool in_sight = key <= p && (!S::has_window || p - key < S::window);
        if (in_sight) missing += !(weight > 0);
        if (!in_sight) too_many += !(weight == 0);
        ++covering()->exact;
      }
      CHECK_MESSAGE(missing == 0, "position ", p, ": ", missing,
                    " keys of the window do not count");
      CHECK_MESSAGE(too_many == 0, "position ", p, ": ", too_many, " keys out of sight count");
    }
  }
}

/// Scores beyond what e^x of a float holds: a softmax needs the row's maximum. A common term in
/// all scores changes nothing.
template <class S>
void large_scores(const typename S::Backend& backend) {
  const std::vector<Span> spans = boundary_spans<S>();
  for (const float sign : {1.0f, -1.0f}) {
    const float least = 100 / S::scores().scale;  // in a dot product
    const typename S::Prompt prompt{.seed = 6,
                                    .lift = sign * std::exp2(std::ceil(std::log2(least)))};
    GuardedCache<S> cache(backend, 1, slots_of<S>());
    const std::vector<Span> last{spans[spans.size() / 2], spans.back()};
    check_with_reference<S>(prompt,
                            results_of<S>(cache, prompt, in_chunks(S::length, S::chunk), last));
  }
}

}  // namespace kvring::testing::conformance
