// What the small worlds share: rows of numbers that every element type holds exactly, a cache
// between guards, a window chosen at run time, and what attention must give.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "kvring/cache.hpp"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_host.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/stage.hpp"
#include "kvring/stage_plan.hpp"
#include "kvring/testing/compare.hpp"
#include "kvring/testing/reference.hpp"

namespace kvring::test {

inline constexpr Heads heads{.q = 4, .kv = 2, .dim = 3};
inline constexpr Scores scores{.scale = 0.75f, .softcap = 0};

/// f32 rounding: |q|, |k|, |v| <= 1, so a score is at most 0.75 * 3 and wrong by less than 5e-7, a
/// weight by less than 1e-6 of itself, and a mean of at most 16 values by less than twice that. A
/// key too many or too few moves the mean by more than 1e-3 (tested).
inline constexpr double tolerance = 3e-6;

using QueryRow = std::array<float, heads.q_dim()>;
using KvRow = std::array<float, heads.kv_dim()>;

enum class Of { query, key, value };

/// The row of a position: multiples of 1/64 in [-1, 1], exact in f16 and bf16. A position that is
/// taken back comes again as another version.
template <class Row>
Row row_of(Of what, std::int64_t position, int version = 0) {
  Row row;
  std::uint64_t bits =
      static_cast<std::uint64_t>(position) * 8 + version * 3 + static_cast<int>(what);
  for (float& x : row) {
    bits = bits * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
    x = static_cast<float>(static_cast<int>((bits >> 33) % 129) - 64) / 64;
  }
  return row;
}

/// Swa<1> ... Swa<8>, chosen at run time so that one kernel serves every world.
struct AnyWindow {
  static inline std::int64_t chosen = 1;
  static constexpr std::int64_t window = 8;
  static Position first_visible(Position query) {
    switch (chosen) {
      case 1:
        return Swa<1>::first_visible(query);
      case 2:
        return Swa<2>::first_visible(query);
      case 3:
        return Swa<3>::first_visible(query);
      case 4:
        return Swa<4>::first_visible(query);
      case 5:
        return Swa<5>::first_visible(query);
      case 6:
        return Swa<6>::first_visible(query);
      case 7:
        return Swa<7>::first_visible(query);
      case 8:
        return Swa<8>::first_visible(query);
    }
    return {-1};
  }
};

/// K and V of one layer for three sequences. The first and the last are guards that nothing may
/// touch, and so is the room after them; everything begins as NaN.
template <class T>
class GuardedMemory {
 public:
  static constexpr std::int64_t room = 48;  // rows after the last slot

  explicit GuardedMemory(std::int64_t slots)
      : slots_(slots), k_(size(), not_a_number), v_(size(), not_a_number) {}

  template <class Storage>
  CacheView<Storage, heads, T> view(std::int64_t slots) {
    return {k_.data(), v_.data(), slots};
  }

  /// The rows of sequence 1, K then V of each slot.
  std::vector<T> contents() const {
    std::vector<T> rows(k_.begin() + begin(), k_.begin() + end());
    rows.insert(rows.end(), v_.begin() + begin(), v_.begin() + end());
    return rows;
  }
  void restore(const std::vector<T>& rows) {
    std::copy_n(rows.begin(), end() - begin(), k_.begin() + begin());
    std::copy_n(rows.begin() + (end() - begin()), end() - begin(), v_.begin() + begin());
  }
  void poison(std::int64_t slot) {
    const std::int64_t row = begin() + slot * heads.kv_dim();
    std::fill_n(k_.begin() + row, heads.kv_dim(), not_a_number);
    std::fill_n(v_.begin() + row, heads.kv_dim(), not_a_number);
  }
  bool guards_are_intact() const {
    const auto is_guard = [](T x) { return to_f32(x) != to_f32(x); };
    for (const std::vector<T>* memory : {&k_, &v_}) {
      if (!std::all_of(memory->begin(), memory->begin() + begin(), is_guard)) return false;
      if (!std::all_of(memory->begin() + end(), memory->end(), is_guard)) return false;
    }
    return true;
  }

 private:
  static inline const T not_a_number = from_f32<T>(std::numeric_limits<float>::quiet_NaN());
  std::size_t size() const {
    return static_cast<std::size_t>((3 * slots_ + room) * heads.kv_dim());
  }
  std::int64_t begin() const { return slots_ * heads.kv_dim(); }
  std::int64_t end() const { return 2 * slots_ * heads.kv_dim(); }

  std::int64_t slots_;
  std::vector<T> k_, v_;
};

/// Appends rows from `start` on to a sequence, one for each version.
template <class View>
void append(const View& view, std::int64_t start, const std::vector<int>& versions,
            std::int64_t sequence = 1) {
  const std::int64_t rows = static_cast<std::int64_t>(versions.size());
  std::vector<KvRow> k, v;
  for (std::int64_t i = 0; i < rows; ++i) {
    k.push_back(row_of<KvRow>(Of::key, start + i, versions[i]));
    v.push_back(row_of<KvRow>(Of::value, start + i, versions[i]));
  }
  const Segment segment{.sequence = sequence, .start = {start}, .rows = rows};
  const Append<View> append{view, {&segment, 1, rows}, k.data()->data(), v.data()->data()};
  for (std::int64_t row = rows - 1; row >= 0; --row) append(row);  // any order will do
}

/// A stage for one segment of up to `rows` rows, NaN before each use.
template <class T, std::int64_t Tile>
class StageMemory {
 public:
  explicit StageMemory(std::int64_t rows)
      : k_(static_cast<std::size_t>(stage_rows(rows, 1, Tile) * heads.kv_dim())), v_(k_) {}

  /// The ring's rows and some new ones, of `versions` from segment.start on, before these are
  /// committed.
  template <class RingView>
  StagedView<RingView, Tile> open(const RingView& ring, const Segment& segment,
                                  const std::vector<int>& versions) {
    for (std::vector<T>* memory : {&k_, &v_}) {
      std::fill(memory->begin(), memory->end(),
                from_f32<T>(std::numeric_limits<float>::quiet_NaN()));
    }
    using View = StagedView<RingView, Tile>;
    const View view{ring, k_.data(), v_.data(), {&segment, 1, segment.rows}};
    const OpenStage<View, CopyRow<View>> task{view};
    for (std::int64_t i = 0; i < task.calls(); ++i) task(i);
    append(view, segment.start.value, versions, segment.sequence);
    return view;
  }

 private:
  std::vector<T> k_, v_;
};

template <class View>
void commit(const View& view) {
  const CommitStage<View, CopyRow<View>> task{view};
  for (std::int64_t i = task.calls() - 1; i >= 0; --i) task(i);  // any order will do
}

/// Queries of rows [start, start + rows) of a sequence, and the room for their results.
struct Queries {
  Queries(std::int64_t start, std::int64_t rows, std::int64_t sequence = 1)
      : segment{.sequence = sequence, .start = {start}, .rows = rows}, out(rows) {
    for (std::int64_t i = 0; i < rows; ++i) q.push_back(row_of<QueryRow>(Of::query, start + i));
  }
  Batch batch() const { return {&segment, 1, segment.rows}; }

  Segment segment;
  std::vector<QueryRow> q, out;
};

template <class Policy, std::int64_t Tile, class View>
void attend_scalar(const View& view, Queries& queries) {
  const AttendScalar<Policy, Tile, View> attend{view, queries.batch(), queries.q.data()->data(),
                                                queries.out.data()->data(), scores};
  for (std::int64_t i = 0; i < queries.segment.rows * heads.q; ++i) attend(i);
}

template <class Policy, std::int64_t Tile, class View>
void attend_host(const View& view, Queries& queries) {
  using Attend = AttendHost<Policy, Tile, View>;
  const Attend attend{view, queries.batch(), queries.q.data()->data(), queries.out.data()->data(),
                      scores};
  for (std::int64_t i = 0; i < Attend::blocks(queries.batch()); ++i) attend(i);
}

/// What a query must give when the keys of its window have these versions: by the reference, and
/// by attention over a full cache that got its rows one at a time.
template <class Policy, class T, std::int64_t Tile>
class Expected {
 public:
  struct Row {
    std::vector<double> reference;
    QueryRow bits;
  };

  /// `versions`: of positions 0 ... query, each below 3; only the window's count.
  const Row& of(std::int64_t window, std::int64_t query, const std::vector<int>& versions) {
    std::int64_t digits = 1;
    for (std::int64_t key = query; key >= 0 && query - key < window; --key) {
      digits = digits * 3 + versions[static_cast<std::size_t>(key)];
    }
    const auto [found, is_new] = rows_.try_emplace({window, query, digits});
    if (is_new) found->second = compute(window, query, versions);
    return found->second;
  }

 private:
  static Row compute(std::int64_t window, std::int64_t query, const std::vector<int>& versions) {
    const QueryRow q = row_of<QueryRow>(Of::query, query);
    testing::Reference reference;
    GuardedMemory<T> memory(query + 1);
    const auto view = memory.template view<Full>(query + 1);
    for (std::int64_t p = 0; p <= query; ++p) {
      const int version = versions[static_cast<std::size_t>(p)];
      reference.append(p, row_of<KvRow>(Of::key, p, version), row_of<KvRow>(Of::value, p, version));
      append(view, p, {version});
    }
    Queries queries(query, 1);
    attend_scalar<Policy, Tile>(view, queries);
    return {reference.attend(q, query,
                             {.q_heads = heads.q,
                              .kv_heads = heads.kv,
                              .head_dim = heads.dim,
                              .window = window,
                              .scale = scores.scale}),
            queries.out[0]};
  }

  std::map<std::array<std::int64_t, 3>, Row> rows_;
};

}  // namespace kvring::test
