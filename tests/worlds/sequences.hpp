// Walks through every schedule of append, rewind, snapshot, restore and fork on two small
// sequences.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kvring/snapshot.hpp"
#include "world.hpp"

namespace kvring::test {

struct SequencesCount {
  long sequences = 0, operations = 0, rows = 0;  // carried out and compared
  long wrong_rows = 0, wrong_verdicts = 0, wrong_copies = 0, broken_neighbours = 0;
  double schedules = 0;  // that are made of these operations

  long wrong() const { return wrong_rows + wrong_verdicts + wrong_copies + broken_neighbours; }
  SequencesCount& operator+=(const SequencesCount& other) {
    sequences += other.sequences;
    operations += other.operations;
    rows += other.rows;
    wrong_rows += other.wrong_rows;
    wrong_verdicts += other.wrong_verdicts;
    wrong_copies += other.wrong_copies;
    broken_neighbours += other.broken_neighbours;
    schedules += other.schedules;
    return *this;
  }
};

/// Two sequences in a ring of the window `W` for such chunks, and rewinds of up to `B`, and in a
/// full cache, and one snapshot. A chunk is appended to the ring where that has room, and staged if
/// the plan is: where both can be done, both are. A state is two sequences and what was saved. A
/// sequence is its timeline, its history and its bytes, and nothing else can reach a kernel; so
/// each operation is carried out once for each sequence that it is given, and the walk goes over
/// the results.
///
/// What is dead is NaN: positions taken back, and all that a sequence held before a snapshot or a
/// fork took its place. The simulation is copied whole, with everything that it ever held: what it
/// may still do is what a restored sequence must be allowed to do.
template <std::int64_t W, class ChunkType, std::int64_t B, class T, std::int64_t Tile = 1>
class SequencesWalk {
 public:
  static constexpr int longest = 6;  // operations

  SequencesCount run() {
    AnyWindow::chosen = W;
    poison(0);
    const int empty = index_of(sequence_now(0, Simulation(slots, W, context), {}, 0));
    std::map<State, double> open{{State{empty, empty, none}, 1}};
    for (int length = 0; length < longest; ++length) {
      std::map<State, double> next;
      for (const auto& [state, paths] : open) {
        for (const int s : {0, 1}) {
          for (const int target : appends_and_rewinds(state[s], s)) {
            State after = state;
            after[s] = target;
            next[after] += paths;
          }
          State after = state;
          after[2] = saved(state[s], s);
          next[after] += paths;
          after = state;
          after[1 - s] = forked(state[s], s);
          next[after] += paths;
          if (state[2] == none) continue;
          after = state;
          after[s] = restored(state[2], s);
          next[after] += paths;
        }
      }
      for (const auto& [state, paths] : next) count_.schedules += paths;
      open = std::move(next);
    }
    count_.sequences = static_cast<long>(sequences_.size());
    return count_;
  }

 private:
  struct Local : Layer<Swa<W>, heads> {};
  struct Global : Layer<Dense, heads> {};
  struct Model {
    using Layers = Hybrid<2, Local, Global>;
  };
  using PlanType = Plan<Model, T, ChunkType, Rewind<B>, KeyTile<Tile>>;
  static constexpr std::int64_t most = ChunkType::rows;
  static constexpr std::int64_t slots = PlanType::template ring_slots<0>();
  static constexpr std::int64_t context = longest * most + 1;
  using Simulation = testing::SlotSimulation<16, 32>;
  static_assert(slots <= 16 && context <= 32 && W < context);

  /// Indices into sequences_: of the two sequences, and of the one that was saved.
  using State = std::array<int, 3>;
  static constexpr int none = -1;

  struct Sequence {
    Timeline<PlanType> timeline;
    Simulation ring;
    std::vector<int> history;  // version of the row at each position
    int version;               // of rows to come; 2 once something was taken back
    std::vector<T> contents;
  };
  /// Where operations lead, once they have been carried out: for sequence 0 and for sequence 1.
  struct Results {
    std::array<std::optional<std::vector<int>>, 2> appends_and_rewinds;
    std::array<std::optional<int>, 2> forked, restored;
    std::optional<Snapshot<PlanType>> snapshot;
  };

  /// The ring, as a type that does not depend on its slots: one kernel serves every plan.
  auto ring() {
    const auto view = caches_.template view<Local>(0);
    return CacheView<Ring<16>, heads, T>{view.k, view.v, view.slots};
  }
  auto full() { return caches_.template view<Global>(1); }

  /// f(first value, values) of the sequence in each of the four arrays.
  template <class F>
  void for_each_part(std::int64_t s, F f) {
    const auto part = [&](auto view) {
      const std::int64_t count = view.slots * heads.kv_dim();
      f(view.k + s * count, count);
      f(view.v + s * count, count);
    };
    part(ring());
    part(full());
  }
  void poison(std::int64_t s) {
    for_each_part(s, [](T* first, std::int64_t count) { std::fill_n(first, count, nan()); });
  }
  bool is_poisoned(std::int64_t s) {
    bool all = true;
    for_each_part(s, [&](const T* first, std::int64_t count) {
      all = all && std::all_of(first, first + count, [](T x) { return to_f32(x) != to_f32(x); });
    });
    return all;
  }
  static T nan() { return from_f32<T>(std::numeric_limits<float>::quiet_NaN()); }

  /// A sequence of `index` as sequence `s`, its neighbour NaN.
  void load(int index, std::int64_t s) {
    const Sequence& sequence = sequences_[static_cast<std::size_t>(index)];
    poison(1 - s);
    caches_.timeline(1 - s) = Timeline<PlanType>(context);
    const T* from = sequence.contents.data();
    for_each_part(s, [&](T* first, std::int64_t count) {
      std::copy_n(from, count, first);
      from += count;
    });
    caches_.timeline(s) = sequence.timeline;
  }
  Sequence sequence_now(std::int64_t s, Simulation ring, std::vector<int> history, int version) {
    std::vector<T> contents;
    for_each_part(s, [&](const T* first, std::int64_t count) {
      contents.insert(contents.end(), first, first + count);
    });
    return {caches_.timeline(s), std::move(ring), std::move(history), version, std::move(contents)};
  }

  const std::vector<int>& appends_and_rewinds(int index, int s) {
    auto& known =
        results_[static_cast<std::size_t>(index)].appends_and_rewinds[static_cast<std::size_t>(s)];
    if (known) return *known;
    std::vector<int> targets;
    const Sequence from = sequences_[static_cast<std::size_t>(index)];
    for (std::int64_t rows = 1; rows <= smaller(most, from.timeline.appendable()); ++rows) {
      const bool fits = rows <= from.timeline.range_of_kind(0).appendable_in_place();
      if (fits || !PlanType::is_staged) targets.push_back(appended(index, s, rows, false));
      if (PlanType::is_staged) targets.push_back(appended(index, s, rows, true));
    }
    for (std::int64_t p = 0; p < from.timeline.length(); ++p) {
      const bool near = p == 0 || from.timeline.written() - p <= B;
      if (near && p >= from.timeline.rewind_floor().value)
        targets.push_back(taken_back(index, s, p));
      if (p == 0 && from.timeline.rewind_floor().value > 0) {
        targets.push_back(taken_back(index, s, 0));
      }
    }
    // index_of may have moved what `known` referred to.
    auto& kept =
        results_[static_cast<std::size_t>(index)].appends_and_rewinds[static_cast<std::size_t>(s)];
    kept = std::move(targets);
    return *kept;
  }

  int appended(int index, int s, std::int64_t rows, bool staged) {
    Sequence next = sequences_[static_cast<std::size_t>(index)];
    const int version = next.version == 2 ? 2 : s;
    const std::int64_t start = next.timeline.length();
    load(index, s);
    caches_.timeline(s).append(rows);
    const std::vector<int> versions(static_cast<std::size_t>(rows), version);
    append(full(), start, versions, s);
    next.ring.append(static_cast<int>(rows));
    next.history.insert(next.history.end(), versions.begin(), versions.end());

    Queries queries(start, rows, s);
    const auto attend_over = [&](const auto& view) {
      attend_scalar<AnyWindow, Tile>(view, queries);
      compare(queries, next.history, windowed_, W);
      attend_host<AnyWindow, Tile>(view, queries);
      compare(queries, next.history, windowed_, W);
    };
    if (staged) {
      const auto view = stage_.open(ring(), queries.segment, versions);
      attend_over(view);
      commit(view);
    } else {
      append(ring(), start, versions, s);
      attend_over(ring());
    }
    attend_host<Dense, Tile>(full(), queries);
    compare(queries, next.history, dense_, context);
    return finish(s, std::move(next.ring), std::move(next.history), next.version);
  }

  int taken_back(int index, int s, std::int64_t p) {
    Sequence next = sequences_[static_cast<std::size_t>(index)];
    load(index, s);
    caches_.timeline(s).rewind_to({p});
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      if (next.ring.position_in(static_cast<int>(slot)) >= p) kill(ring(), s, slot);
    }
    for (std::int64_t dead = p; dead < next.timeline.length(); ++dead) kill(full(), s, dead);
    next.ring.rewind_to(static_cast<int>(p));
    next.history.resize(static_cast<std::size_t>(p));
    return finish(s, std::move(next.ring), std::move(next.history), p == 0 ? 0 : 2);
  }

  template <class View>
  void kill(View view, std::int64_t s, std::int64_t slot) {
    const std::int64_t row = (s * view.slots + slot) * heads.kv_dim();
    std::fill_n(view.k + row, heads.kv_dim(), nan());
    std::fill_n(view.v + row, heads.kv_dim(), nan());
  }

  /// Takes the snapshot, unless this sequence has one. What it holds depends on the sequence alone.
  int saved(int index, int s) {
    if (!results_[static_cast<std::size_t>(index)].snapshot) {
      load(index, s);
      results_[static_cast<std::size_t>(index)].snapshot.emplace(caches_, s);
      ++count_.operations;
    }
    return index;
  }

  int restored(int index, int s) {
    auto& known = results_[static_cast<std::size_t>(index)].restored[static_cast<std::size_t>(s)];
    if (known) return *known;
    load(index, 1 - s);
    poison(1 - s);  // the original is gone
    caches_.timeline(s) = Timeline<PlanType>(context);
    results_[static_cast<std::size_t>(index)].snapshot->restore(caches_, s);
    const int target = copied(index, s);
    results_[static_cast<std::size_t>(index)].restored[static_cast<std::size_t>(s)] = target;
    return target;
  }

  /// From sequence `s` to the other one.
  int forked(int index, int s) {
    auto& known = results_[static_cast<std::size_t>(index)].forked[static_cast<std::size_t>(s)];
    if (known) return *known;
    load(index, s);
    fork(caches_, s, 1 - s);
    poison(s);
    const int target = copied(index, 1 - s);
    results_[static_cast<std::size_t>(index)].forked[static_cast<std::size_t>(s)] = target;
    return target;
  }

  /// What stands in sequence `s` now, which must be a copy.
  int copied(int index, int s) {
    const Sequence from = sequences_[static_cast<std::size_t>(index)];
    const Sequence copy = sequence_now(s, from.ring, from.history, from.version);
    const auto bits = [](const std::vector<T>& values) {
      return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    };
    count_.wrong_copies += bits(copy.contents) != bits(from.contents);
    return finish(s, from.ring, from.history, from.version);
  }

  int finish(int s, Simulation ring, std::vector<int> history, int version) {
    ++count_.operations;
    count_.broken_neighbours += !is_poisoned(1 - s);
    return index_of(sequence_now(s, std::move(ring), std::move(history), version));
  }

  template <class E>
  void compare(const Queries& queries, const std::vector<int>& history, E& expected,
               std::int64_t window) {
    for (std::int64_t i = 0; i < queries.segment.rows; ++i, ++count_.rows) {
      const std::span<const float> out = queries.out[static_cast<std::size_t>(i)];
      const auto& right = expected.of(window, queries.segment.start.value + i, history);
      const std::span<const double> reference = right.reference;
      const std::span<const float> bits = right.bits;
      count_.wrong_rows += static_cast<bool>(testing::beyond(tolerance, out, reference)) ||
                           static_cast<bool>(testing::differing_bits(out, bits));
    }
  }

  int index_of(Sequence sequence) {
    std::string key(reinterpret_cast<const char*>(sequence.contents.data()),
                    sequence.contents.size() * sizeof(T));
    for (const std::int64_t part : {sequence.timeline.length(), sequence.timeline.written(),
                                    std::int64_t{sequence.version}}) {
      key += std::to_string(part) + ' ';
    }
    for (int slot = 0; slot < static_cast<int>(slots); ++slot) {
      key += static_cast<char>(sequence.ring.position_in(slot));
    }
    const auto [found, is_new] =
        index_.try_emplace(std::move(key), static_cast<int>(sequences_.size()));
    if (is_new) {
      check_verdicts(sequence);
      sequences_.push_back(std::move(sequence));
      results_.emplace_back();
    }
    return found->second;
  }

  /// The library's word on every operation against what the simulation finds by doing it.
  void check_verdicts(const Sequence& sequence) {
    const LiveRange& range = sequence.timeline.range_of_kind(0);
    for (int rows = 0; rows <= static_cast<int>(slots) + 1; ++rows) {
      if (sequence.ring.length() + rows > static_cast<int>(context)) break;
      const bool can_stage = PlanType::is_staged && rows <= most && sequence.ring.may_stage(rows);
      count_.wrong_verdicts +=
          range.may_append(rows) != (sequence.ring.may_append(rows) || can_stage);
    }
    for (int p = -1; p <= sequence.ring.length() + 1; ++p) {
      count_.wrong_verdicts += range.may_rewind_to({p}) != sequence.ring.may_rewind_to(p);
    }
  }

  Caches<PlanType, Host> caches_{Host{}, context, 2};
  StageMemory<T, Tile> stage_{most};
  std::vector<Sequence> sequences_;
  std::vector<Results> results_;
  std::map<std::string, int> index_;
  SequencesCount count_;
  static inline Expected<AnyWindow, T, Tile> windowed_;
  static inline Expected<Dense, T, Tile> dense_;
};

}  // namespace kvring::test
