// Walks through every state of a small ring.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kvring/live_range.hpp"
#include "world.hpp"

namespace kvring::test {

using Simulation = testing::SlotSimulation<48, 64>;

/// What a rewind leaves in the slots of the positions taken back.
enum class Leftovers { kept, poisoned };

struct World {
  std::int64_t window;
  std::int64_t slots;  // that the library believes in
  std::int64_t context;
  std::int64_t built;  // slots that there really are
  Leftovers leftovers = Leftovers::kept;
  std::int64_t stage = 0;  // rows that may attend before they are in the ring
};

struct Count {
  long states = 0, operations = 0, rows = 0;
  long wrong_values = 0, wrong_bits = 0, broken_guards = 0;
  double schedules = 0;  // of up to `counted_length` operations

  bool all_right() const { return wrong_values + wrong_bits + broken_guards == 0; }
  Count& operator+=(const Count& other) {
    states += other.states;
    operations += other.operations;
    rows += other.rows;
    wrong_values += other.wrong_values;
    wrong_bits += other.wrong_bits;
    broken_guards += other.broken_guards;
    schedules += other.schedules;
    return *this;
  }
};
inline constexpr int counted_length = 12;

/// Visits every state of a world, and stops at the first one with a difference.
template <class Policy, class Storage, class T, std::int64_t Tile>
class Explorer {
 public:
  explicit Explorer(const World& world) : world_(world), memory_(world.built), stage_(world.stage) {
    AnyWindow::chosen = world.window;
  }

  Count run() {
    const auto small = [](std::int64_t n) { return static_cast<int>(smaller(n, 1'000)); };
    index_of({LiveRange(world_.slots, world_.window, world_.context, world_.stage),
              Simulation(small(world_.slots), small(world_.window), small(world_.context)),
              memory_.contents(),
              {},
              0});
    for (std::size_t i = 0; i < nodes_.size() && count_.all_right(); ++i) {
      for (std::int64_t rows = 1; nodes_[i].range.may_append(rows); ++rows) {
        const bool fits = rows <= nodes_[i].range.appendable_in_place();
        if (fits || rows > world_.stage) append_to(i, rows);
        if (rows <= world_.stage) stage_to(i, rows);
      }
      for (std::int64_t p = 0; p < nodes_[i].range.length(); ++p) {
        if (nodes_[i].range.may_rewind_to({p})) take_back(i, p);
      }
    }
    count_.states = static_cast<long>(nodes_.size());
    count_.schedules = count_schedules();
    return count_;
  }

 private:
  struct Node {
    LiveRange range;
    Simulation ring;
    std::vector<T> contents;
    std::vector<int> history;  // version of the row at each position
    int version;               // of rows to come: 1 once something was taken back
  };

  auto view() { return memory_.template view<Storage>(world_.built); }

  void append_to(std::size_t from, std::int64_t rows) {
    Node next = nodes_[from];
    const std::int64_t start = next.range.length();
    next.range.append(rows);
    next.ring.append(static_cast<int>(rows));
    next.history.resize(static_cast<std::size_t>(start + rows), next.version);

    memory_.restore(next.contents);
    append(view(), start, std::vector<int>(static_cast<std::size_t>(rows), next.version));
    next.contents = memory_.contents();

    attend_all_rows(next, start, rows);
    count_.broken_guards += !memory_.guards_are_intact();
    visit(from, std::move(next));
  }

  /// The rows attend in the stage: over the ring as it is, and with NaN in every slot out of their
  /// sight. Then they are committed.
  void stage_to(std::size_t from, std::int64_t rows) {
    Node next = nodes_[from];
    const std::int64_t start = next.range.length();
    const std::vector<int> versions(static_cast<std::size_t>(rows), next.version);
    next.range.append(rows);
    next.history.resize(static_cast<std::size_t>(start + rows), next.version);

    Queries queries(start, rows);
    memory_.restore(next.contents);
    poison_out_of_sight(next, start, start - 1);
    auto staged = stage_.open(view(), queries.segment, versions);
    attend_host<Policy, Tile>(staged, queries);
    compare(next, queries);
    memory_.restore(next.contents);
    staged = stage_.open(view(), queries.segment, versions);
    attend_scalar<Policy, Tile>(staged, queries);
    compare(next, queries);
    attend_host<Policy, Tile>(staged, queries);
    compare(next, queries);

    commit(staged);
    next.ring.append(static_cast<int>(rows));
    next.contents = memory_.contents();
    count_.broken_guards += !memory_.guards_are_intact();
    visit(from, std::move(next));
  }

  void take_back(std::size_t from, std::int64_t position) {
    Node next = nodes_[from];
    next.range.rewind_to({position});
    next.history.resize(static_cast<std::size_t>(position));
    if (world_.leftovers == Leftovers::kept) {
      next.version = 1;
    } else {
      memory_.restore(next.contents);
      for (std::int64_t slot = 0; slot < world_.built; ++slot) {
        if (next.ring.position_in(static_cast<int>(slot)) >= position) memory_.poison(slot);
      }
      next.contents = memory_.contents();
    }
    next.ring.rewind_to(static_cast<int>(position));
    visit(from, std::move(next));
  }

  /// The rows just appended attend: as they are, and with NaN in every slot out of their sight.
  void attend_all_rows(const Node& node, std::int64_t start, std::int64_t rows) {
    Queries queries(start, rows);
    attend_scalar<Policy, Tile>(view(), queries);
    compare(node, queries);
    attend_host<Policy, Tile>(view(), queries);
    compare(node, queries);

    poison_out_of_sight(node, start, start + rows - 1);
    attend_host<Policy, Tile>(view(), queries);
    compare(node, queries);
    for (std::int64_t p = start + rows - 1; p >= start; --p) {  // later rows are NaN for earlier
      memory_.restore(node.contents);
      poison_out_of_sight(node, p, p);
      Queries query(p, 1);
      attend_scalar<Policy, Tile>(view(), query);
      compare(node, query);
    }
  }

  void poison_out_of_sight(const Node& node, std::int64_t first_query, std::int64_t last_query) {
    for (std::int64_t slot = 0; slot < world_.built; ++slot) {
      const std::int64_t held = node.ring.position_in(static_cast<int>(slot));
      if (first_query - held >= world_.window || held > last_query) memory_.poison(slot);
    }
  }

  void compare(const Node& node, const Queries& queries) {
    for (std::int64_t i = 0; i < queries.segment.rows; ++i, ++count_.rows) {
      const std::span<const float> out = queries.out[static_cast<std::size_t>(i)];
      const auto& expected =
          expected_.of(world_.window, queries.segment.start.value + i, node.history);
      const std::span<const double> reference = expected.reference;
      const std::span<const float> bits = expected.bits;
      count_.wrong_values += static_cast<bool>(testing::beyond(tolerance, out, reference));
      count_.wrong_bits += static_cast<bool>(testing::differing_bits(out, bits));
    }
  }

  /// Where an operation leads: to a state that is known by its bytes, or to a new one.
  void visit(std::size_t from, Node node) {
    ++count_.operations;
    const int target = index_of(std::move(node));
    targets_[from].push_back(target);
  }

  int index_of(Node node) {
    std::string key(reinterpret_cast<const char*>(node.contents.data()),
                    node.contents.size() * sizeof(T));
    for (const std::int64_t part :
         {node.range.length(), node.range.written(), std::int64_t{node.version}}) {
      key += std::to_string(part) + ' ';
    }
    const auto [found, is_new] = index_.try_emplace(key, static_cast<int>(nodes_.size()));
    if (is_new) {
      nodes_.push_back(std::move(node));
      targets_.emplace_back();
    }
    return found->second;
  }

  /// Paths of up to `counted_length` operations, the empty one included.
  double count_schedules() const {
    std::vector<double> longer(nodes_.size(), 1), shorter;
    for (int length = 0; length < counted_length; ++length) {
      shorter = longer;
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        longer[i] = 1;
        for (const int target : targets_[i]) longer[i] += shorter[static_cast<std::size_t>(target)];
      }
    }
    return longer[0];
  }

  World world_;
  GuardedMemory<T> memory_;
  StageMemory<T, Tile> stage_;
  std::vector<Node> nodes_;
  std::vector<std::vector<int>> targets_;
  std::map<std::string, int> index_;
  Count count_;
  static inline Expected<Policy, T, Tile> expected_;
};

template <class T, std::int64_t Tile>
Count explore_ring(const World& world) {
  return Explorer<AnyWindow, Ring<64>, T, Tile>(world).run();
}

/// With every tile of 1, 2, 3, 4 and 8 keys that divides `ring`.
template <class T>
Count explore_tiles(const World& world, std::int64_t ring) {
  Count count = explore_ring<T, 1>(world);
  if (ring % 2 == 0) count += explore_ring<T, 2>(world);
  if (ring % 3 == 0) count += explore_ring<T, 3>(world);
  if (ring % 4 == 0) count += explore_ring<T, 4>(world);
  if (ring % 8 == 0) count += explore_ring<T, 8>(world);
  return count;
}

/// Checks a world and adds it to the sum.
inline void expect_right(const World& world, const Count& count, Count& sum) {
  CAPTURE(world.window);
  CAPTURE(world.slots);
  CAPTURE(world.context);
  CHECK(count.wrong_values == 0);
  CHECK(count.wrong_bits == 0);
  CHECK(count.broken_guards == 0);
  CHECK(count.rows > 0);
  sum += count;
}

inline void print(const char* name, const Count& sum) {
  std::printf(
      "worlds, %s: %ld states, %ld operations, %.3g schedules of up to %d operations, %ld rows "
      "compared\n",
      name, sum.states, sum.operations, sum.schedules, counted_length, sum.rows);
}

}  // namespace kvring::test
