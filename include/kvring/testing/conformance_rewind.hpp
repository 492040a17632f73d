// Conformance of rewind, for one kind of layer: what may be taken back, what may not, and that
// nothing of what was taken back is ever seen.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/plan.hpp"
#include "kvring/testing/conformance_attention.hpp"
#include "kvring/testing/conformance_plan.hpp"

namespace kvring::testing::conformance {

/// f must throw Error, whose words must have these numbers in them.
template <class F>
void check_refused(F f, std::initializer_list<std::int64_t> numbers) {
  std::string words;
  try {
    f();
  } catch (const Error& error) {
    words = error.what();
  }
  ++covering()->refused;
  CHECK_MESSAGE(!words.empty(), "was not refused");
  for (const std::int64_t number : numbers) {
    CHECK_MESSAGE(words.find(std::to_string(number)) != std::string::npos, "refused without ",
                  number, ": ", words);
  }
}

/// What the timeline of a plan allows, counted here by hand over its kinds, whatever was appended:
/// a chunk, a rewind, and not one row more.
template <class Plan>
void legality() {
  struct Range {
    std::int64_t slots, window, stage;
  };
  std::int64_t largest = Plan::chunk;
  const auto ranges_for = [&](std::int64_t context) {
    std::vector<Range> ranges;
    for (int kind = 0; kind < Plan::kinds; ++kind) {
      Plan::with_kind(kind, [&](auto of) {
        using Kind = typename decltype(of)::type;
        ranges.push_back({slots_by_hand<Plan, Kind>(context), Kind::Policy::window,
                          Plan::template PlacementOf<Kind>::is_staged ? Plan::chunk : 0});
      });
    }
    return ranges;
  };
  for (const Range& range : ranges_for(unbounded)) {
    if (range.slots != unbounded) largest = std::max(largest, range.slots);
  }
  const std::int64_t context = 3 * largest + Plan::chunk;
  const std::vector<Range> ranges = ranges_for(context);

  const auto floor_after = [&](std::int64_t written) {
    std::int64_t floor = 0;  // the oldest position of its window must not be overwritten
    for (const Range& range : ranges) {
      if (written > range.slots) {
        floor = std::max(floor, written - range.slots + (range.window - 1));
      }
    }
    return floor;
  };
  // A sequence of `length` positions, of which `written` have been written.
  const auto check = [&](const Timeline<Plan>& now, std::int64_t length, std::int64_t written) {
    const std::int64_t left = context - length, floor = floor_after(written);
    std::int64_t most = left;
    for (const Range& range : ranges) {
      if (range.window == unbounded) continue;
      const std::int64_t oldest = std::max<std::int64_t>(0, length - (range.window - 1));
      most = std::min(most, std::max(oldest + range.slots - length, std::min(range.stage, left)));
    }
    most = std::max<std::int64_t>(0, most);
    Timeline<Plan> refusing = now;
    check_refused([&] { refusing.append(most + 1); }, {most + 1, length});
    if (floor > 1) check_refused([&] { refusing.rewind_to({floor - 1}); }, {floor - 1, floor});
    check_refused([&] { refusing.rewind_to({length + 1}); }, {length + 1, length});
    check_refused([&] { refusing.rewind_to({-1}); }, {-1});
    for (const Timeline<Plan>* timeline : {&now, &std::as_const(refusing)}) {
      CHECK(timeline->appendable() == most);
      CHECK(timeline->rewind_floor().value == floor);
      for (int kind = 0; kind < Plan::kinds; ++kind) {
        CHECK(timeline->range_of_kind(kind).length() == length);
        CHECK(timeline->range_of_kind(kind).written() == written);
      }
    }
  };

  for (const std::int64_t rows : {Plan::chunk, std::max<std::int64_t>(1, Plan::chunk / 3)}) {
    Timeline<Plan> timeline(context);
    check(timeline, 0, 0);
    for (std::int64_t length = rows; length <= context; length += rows) {
      timeline.append(rows);
      check(timeline, length, length);
      CHECK(timeline.appendable() >= std::min(Plan::chunk, context - length));
      const std::int64_t floor = floor_after(length);
      CHECK(floor <= std::max<std::int64_t>(0, length - Plan::rewind));
      // Taken back to the floor in two steps: the high-water mark stays, and so does the floor.
      Timeline<Plan> back = timeline;
      for (const std::int64_t position : {(length + floor) / 2, floor}) {
        back.rewind_to({position});
        check(back, position, position == 0 ? 0 : length);
      }
      back.rewind_to({0});
      check(back, 0, 0);
      // Goes on where such a sequence stood elsewhere, and nowhere else.
      if (floor > 0)
        check_refused([&] { back.resume(floor - 1, length); }, {floor - 1, length - 1});
      check_refused([&] { back.resume(length, context + 1); }, {context});
      check_refused([&] { back.resume(length + 1, length); }, {length + 1, length - 1});
      check(back, 0, 0);
      back.resume(floor, floor == 0 ? 0 : length);
      check(back, floor, floor == 0 ? 0 : length);
    }
  }
}

/// A prompt that is taken back to the floor and goes on with other rows: as if it had never been
/// another.
template <class S>
void rewinds(const typename S::Backend& backend) {
  const typename S::Prompt first{.seed = 31}, second{.seed = 32};
  const std::int64_t slots = slots_of<S>(), context = 3 * S::length;
  const std::int64_t longest = S::is_ring ? S::ring + S::window + 7 : S::length - 1;
  LiveRange live = S::live_range(S::is_ring ? slots : context, context);
  GuardedCache<S> cache(backend, 1, slots);
  for (const Span& span : in_chunks(longest, S::chunk)) live.append(span.rows);
  cache.append_span(0, first, 0, longest);

  const std::int64_t floor = S::is_ring ? live.rewind_floor().value
                                        : longest - std::min(longest, larger(1, S::Plan::rewind));
  live.rewind_to({floor});
  const std::int64_t rows = std::min(S::chunk, S::is_ring ? live.appendable() : slots - floor);
  live.append(rows);
  cache.append({{0, &second, floor, rows}});
  const typename S::Pieces seen{{0, &second, floor, std::min<std::int64_t>(rows, 2)},
                                {0, &second, floor + rows - 1, 1}};
  typename S::Results results, right;
  for (const auto& piece : seen) cache.attend_into(results, piece);

  GuardedCache<S, typename S::FullView> full(backend, 1, floor + rows);
  full.append_span(0, first, 0, floor);
  full.append_span(0, second, floor, floor + rows);
  for (const auto& piece : seen) full.attend_into(right, piece);
  check_same<S>("after a rewind to the floor", second, results, right);
  ++covering()->schedules;
}

/// Before each row near a boundary as many drafts of NaN as may be taken back are appended, and
/// taken back: no row sees them.
template <class S>
void rejected_drafts(const typename S::Backend& backend) {
  const typename S::Prompt prompt{.seed = 33};
  const typename S::Prompt drafts{.seed = 33, .is_nan = true};
  const std::vector<Span> spans = boundary_spans<S>();
  const Schedule schedule = token_by_token(spans, S::chunk);
  GuardedCache<S> clean(backend, 1, slots_of<S>()), cache(backend, 1, slots_of<S>());
  const typename S::Results right = results_of<S>(clean, prompt, schedule, spans);

  const std::int64_t context = S::is_ring ? 3 * S::length : S::length;
  LiveRange live = S::live_range(slots_of<S>(), context);
  typename S::Results results;
  for (const Span& piece : schedule) {
    const bool attends = right.contains(piece.start.value);
    const std::int64_t most =
        std::min({larger(1, S::Plan::rewind), S::chunk, live.appendable_in_place()});
    if (attends) {
      live.append(most);
      cache.append({{0, &drafts, piece.start.value, most}});
      live.rewind_to(piece.start);
    }
    live.append(piece.rows);
    cache.append({{0, &prompt, piece.start.value, piece.rows}});
    if (attends) cache.attend_into(results, {0, &prompt, piece.start.value, 1});
  }
  check_same<S>("after rejected drafts", prompt, results, right);
  ++covering()->schedules;
}

}  // namespace kvring::testing::conformance
