// LiveRange against the simulation, which writes into slots and looks: every reachable state of
// every small ring, every operation, and the ones past the limit.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <set>
#include <utility>
#include <vector>

#include "kvring/layer.hpp"
#include "kvring/live_range.hpp"
#include "kvring/testing/reference.hpp"

using namespace kvring;

namespace {

constexpr int most_slots = 16, most_positions = 48;
using Simulation = testing::SlotSimulation<most_slots, most_positions>;

/// A ring, as the library sees it and as it is.
struct State {
  LiveRange range;
  Simulation ring;
  int stage;

  constexpr State(int slots, int window, int context, int stage = 0)
      : range(slots, window, context, stage), ring(slots, window, context), stage(stage) {}

  constexpr bool agree_on_append(int rows) const {
    return range.may_append(rows) == (ring.may_append(rows) || can_stage(rows)) &&
           (range.appendable_in_place() >= rows) == (rows < 0 || ring.may_append(rows));
  }
  constexpr bool can_stage(int rows) const { return rows <= stage && ring.may_stage(rows); }
  constexpr bool agree_on_rewind(int position) const {
    return range.may_rewind_to({position}) == ring.may_rewind_to(position);
  }
  constexpr State appended(int rows) const {
    State next = *this;
    next.range.append(rows);
    next.ring.append(rows);
    return next;
  }
  constexpr State taken_back(int position) const {
    State next = *this;
    next.range.rewind_to({position});
    next.ring.rewind_to(position);
    return next;
  }

  /// What the future depends on.
  auto key() const {
    std::array<int, most_slots + 2> key{static_cast<int>(range.length()),
                                        static_cast<int>(range.written())};
    for (int slot = 0; slot < most_slots; ++slot) key[2 + slot] = ring.position_in(slot);
    return key;
  }
};

/// Every schedule of up to `operations` legal operations: the verdicts agree on each operation,
/// also on the illegal ones.
constexpr bool verdicts_agree(const State& state, int operations, int most) {
  const int length = state.ring.length();
  for (int rows = -1; rows <= most; ++rows) {
    if (!state.agree_on_append(rows)) return false;
    if (operations == 0 || rows < 1 || !state.ring.may_append(rows)) continue;
    if (!verdicts_agree(state.appended(rows), operations - 1, most)) return false;
  }
  for (int position = -1; position <= length + 1; ++position) {
    if (!state.agree_on_rewind(position)) return false;
    if (operations == 0 || position >= length || !state.ring.may_rewind_to(position)) continue;
    if (!verdicts_agree(state.taken_back(position), operations - 1, most)) return false;
  }
  return true;
}

template <int Slots>
constexpr bool verdicts_agree_for_windows(int context) {
  for (int window = 1; window <= 3; ++window) {
    if (!verdicts_agree(State(Slots, window, context), 4, Slots + 1)) return false;
  }
  return true;
}
static_assert(verdicts_agree_for_windows<1>(9));
static_assert(verdicts_agree_for_windows<2>(9));
static_assert(verdicts_agree_for_windows<3>(9));
static_assert(verdicts_agree_for_windows<3>(3));  // the context ends where the ring does
static_assert(verdicts_agree(State(3, 2, 9, 4), 3, 5));

struct Count {
  long states = 0, verdicts = 0, disagreements = 0, refusals_that_changed = 0;
  bool append_refused = false, rewind_refused = false;  // within the context
};

/// All states that legal operations lead to, of any number, with appends of up to `chunk` rows and
/// rewinds of up to `rewind` positions from the highest ever written. In each of them the verdicts
/// on every operation within those limits, and `beyond` past them, are compared.
Count explore(State start, int context, int chunk, int rewind, int beyond) {
  Count count;
  std::set<decltype(start.key())> known{start.key()};
  std::vector<State> open{start};
  const auto visit = [&](State next) {
    if (known.insert(next.key()).second) open.push_back(std::move(next));
  };
  while (!open.empty()) {
    const State state = open.back();
    open.pop_back();
    ++count.states;
    const int length = state.ring.length();
    const int written = static_cast<int>(state.range.written());

    for (int rows = 0; rows <= chunk + beyond; ++rows, ++count.verdicts) {
      count.disagreements += !state.agree_on_append(rows);
      if (state.range.may_append(rows)) {
        if (rows >= 1 && rows <= chunk) visit(state.appended(rows));
        continue;
      }
      if (rows <= chunk && length + rows <= context) count.append_refused = true;
      State refused = state;
      try {
        refused.range.append(rows);
        ++count.refusals_that_changed;
      } catch (const Error&) {
        count.refusals_that_changed += refused.key() != state.key();
      }
    }
    for (int back = -beyond; back <= rewind + beyond; ++back, ++count.verdicts) {
      const int position = written - back;
      count.disagreements += !state.agree_on_rewind(position);
      if (state.range.may_rewind_to({position})) {
        if (back >= 1 && back <= rewind && position < length) visit(state.taken_back(position));
        continue;
      }
      if (back >= 0 && back <= rewind && position >= 0 && position <= length) {
        count.rewind_refused = true;
      }
      State refused = state;
      try {
        refused.range.rewind_to({position});
        ++count.refusals_that_changed;
      } catch (const Error&) {
        count.refusals_that_changed += refused.key() != state.key();
      }
    }
    if (state.range.may_rewind_to({0})) visit(state.taken_back(0));
  }
  return count;
}

}  // namespace

TEST_CASE("LiveRange says of every operation in every state of every ring what the slots say") {
  long states = 0, verdicts = 0;
  for (int window = 1; window <= 9; ++window) {
    for (int slots = 1; slots <= most_slots; ++slots) {
      for (const int context : {1, slots - 1, slots, slots + 1, 2 * slots + window + 1}) {
        if (context < 1) continue;
        const int held = std::min(slots, context);  // a ring is cut to its context
        const Count count = explore(State(held, window, context), context, held, held, 2);
        CAPTURE(window);
        CAPTURE(slots);
        CAPTURE(context);
        CHECK(count.disagreements == 0);
        CHECK(count.refusals_that_changed == 0);
        states += count.states;
        verdicts += count.verdicts;
      }
    }
  }
  std::printf("legality: %ld states, %ld verdicts\n", states, verdicts);
  CHECK(verdicts > 500'000);
}

TEST_CASE("LiveRange of a staged ring says of every operation what slots and stage say") {
  long states = 0, verdicts = 0;
  for (int window = 1; window <= 8; ++window) {
    for (int slots = 1; slots <= 12; ++slots) {
      for (const int stage : {1, 3, 8, 13}) {
        const int context = 2 * slots + window + 1;
        const Count count =
            explore(State(slots, window, context, stage), context, context, slots, 2);
        CAPTURE(window);
        CAPTURE(slots);
        CAPTURE(stage);
        CHECK(count.disagreements == 0);
        CHECK(count.refusals_that_changed == 0);
        states += count.states;
        verdicts += count.verdicts;
      }
    }
  }
  std::printf("legality, staged: %ld states, %ld verdicts\n", states, verdicts);
  CHECK(verdicts > 500'000);
}

TEST_CASE(
    "W, B, R in 1 ... 8: a staged ring serves any chunk and its rewind iff it has the slots") {
  int serving = 0;
  for (int window = 1; window <= 8; ++window) {
    for (int rewind = 0; rewind <= 8; ++rewind) {
      for (int slots = 1; slots <= 15; ++slots) {
        // A token is decoded without the stage, so it must fit in place; a chunk need not.
        const int context = 2 * slots + window + 9;
        const Count token = explore(State(slots, window, context), context, 1, rewind, 1);
        const Count chunk = explore(State(slots, window, context, 9), context, 9, rewind, 1);
        const bool serves = !token.append_refused && !chunk.append_refused && !chunk.rewind_refused;
        CAPTURE(window);
        CAPTURE(rewind);
        CAPTURE(slots);
        REQUIRE(chunk.disagreements == 0);
        REQUIRE(serves == (slots >= detail::ring_slots_needed(window, 1, rewind)));
        serving += serves;
      }
    }
  }
  std::printf("legality, staged: %d of %d rings serve\n", serving, 8 * 9 * 15);
  CHECK(serving > 0);
}

TEST_CASE("W, C, B, R in 1 ... 8: a ring serves its chunk and rewind iff it has the slots") {
  int worlds = 0, serving = 0;
  long verdicts = 0;
  for (int window = 1; window <= 8; ++window) {
    for (int chunk = 1; chunk <= 8; ++chunk) {
      for (int rewind = 1; rewind <= 8; ++rewind) {
        for (int slots = 1; slots <= 8; ++slots, ++worlds) {
          const int context = 2 * slots + window + chunk;
          const Count count = explore(State(slots, window, context), context, chunk, rewind, 1);
          const bool serves = !count.append_refused && !count.rewind_refused;
          CAPTURE(window);
          CAPTURE(chunk);
          CAPTURE(rewind);
          CAPTURE(slots);
          REQUIRE(count.disagreements == 0);
          REQUIRE(count.refusals_that_changed == 0);
          REQUIRE(serves == (slots >= detail::ring_slots_needed(window, chunk, rewind)));
          serving += serves;
          verdicts += count.verdicts;
        }
      }
    }
  }
  std::printf("legality: %d worlds, %d of them serve, %ld verdicts\n", worlds, serving, verdicts);
  CHECK(worlds == 4096);
  CHECK(serving > 0);
}
