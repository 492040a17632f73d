// What kvring is compared with: attention in double precision over the whole history, and a ring
// that is looked at instead of calculated. Shares no code with the library: nothing of kvring is
// included here.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace kvring::testing {

/// Every key and value of one sequence, by position, in double precision.
class Reference {
 public:
  /// Attention of a query row. `window` counts the query's own key.
  struct Attention {
    std::int64_t q_heads = 1, kv_heads = 1, head_dim = 1;
    std::int64_t window = std::numeric_limits<std::int64_t>::max();
    double scale = 1;
    double softcap = 0;  // 0: none
  };

  /// Replaces what was at that position.
  void append(std::int64_t position, std::span<const float> k, std::span<const float> v) {
    history_[position] = {{k.begin(), k.end()}, {v.begin(), v.end()}};
  }

  /// Forgets everything from `position` on.
  void rewind(std::int64_t position) {
    history_.erase(history_.lower_bound(position), history_.end());
  }

  /// The output row of the query at `position`. Throws if a key that it must see was never given.
  std::vector<double> attend(std::span<const float> query, std::int64_t position,
                             const Attention& a) const {
    std::vector<double> out;
    for (std::int64_t head = 0; head < a.q_heads; ++head) {
      const std::int64_t kv_head = head / (a.q_heads / a.kv_heads);
      const std::size_t q_begin = static_cast<std::size_t>(head * a.head_dim);
      const std::size_t kv_begin = static_cast<std::size_t>(kv_head * a.head_dim);
      const std::size_t dims = static_cast<std::size_t>(a.head_dim);

      std::vector<const Row*> rows;
      std::vector<double> scores;
      for (std::int64_t key = 0; key <= position; ++key) {
        if (position - key >= a.window) continue;
        const auto found = history_.find(key);
        if (found == history_.end()) {
          throw std::logic_error("reference: no key at position " + std::to_string(key));
        }
        double score = 0;
        for (std::size_t d = 0; d < dims; ++d) {
          score += static_cast<double>(query[q_begin + d]) * found->second.k[kv_begin + d];
        }
        score *= a.scale;
        if (a.softcap != 0) score = a.softcap * std::tanh(score / a.softcap);
        rows.push_back(&found->second);
        scores.push_back(score);
      }

      double highest = scores[0];
      for (const double score : scores) {
        if (score > highest) highest = score;
      }
      double total = 0;
      std::vector<double> sums(dims, 0.0);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const double weight = std::exp(scores[i] - highest);
        total += weight;
        for (std::size_t d = 0; d < dims; ++d) sums[d] += weight * rows[i]->v[kv_begin + d];
      }
      for (const double sum : sums) out.push_back(sum / total);
    }
    return out;
  }

 private:
  struct Row {
    std::vector<double> k, v;  // [kv_heads, head_dim]
  };
  std::map<std::int64_t, Row> history_;
};

/// A ring of slots, each of which remembers the last write that it received. Which appends and
/// rewinds are legal is found by doing them and looking: legal is what leaves every query that
/// attends next with all keys of its window.
template <int MostSlots, int MostPositions>
class SlotSimulation {
 public:
  constexpr SlotSimulation(int slots, int window, int context)
      : window_(window), context_(context) {
    int slot = 0;  // counted round, not divided
    for (int& of_position : slot_of_) {
      of_position = slot;
      slot = slot + 1 == slots ? 0 : slot + 1;
    }
  }

  constexpr int length() const { return length_; }

  /// The position whose row a slot holds, or -1.
  constexpr int position_in(int slot) const { return held_[slot].position; }

  /// Rows are appended one after the other; then each of them attends.
  constexpr bool may_append(int rows) const {
    if (rows < 0 || rows > context_ - length_) return false;
    SlotSimulation after = *this;
    after.append(rows);
    for (int query = length_; query < after.length_; ++query) {
      for (int key = 0; key <= query; ++key) {
        if (query - key < window_ && !after.holds(key)) return false;
      }
    }
    return true;
  }

  /// The rows attend first, each over what the slots hold and the rows before it; then they are
  /// appended.
  constexpr bool may_stage(int rows) const {
    if (rows < 0 || rows > context_ - length_) return false;
    for (int query = length_; query < length_ + rows; ++query) {
      for (int key = 0; key < length_; ++key) {
        if (query - key < window_ && !holds(key)) return false;
      }
    }
    return true;
  }

  /// The query that attends next is the one at `position`, once its own row is appended. That row
  /// must not take the slot of a newer position: what was overwritten cannot be gone back to,
  /// unless the sequence starts again.
  constexpr bool may_rewind_to(int position) const {
    if (position < 0 || position > length_) return false;
    if (position == 0) return true;
    for (int key = 0; key < position; ++key) {
      if (position - key < window_ && !holds(key)) return false;
    }
    return position_in(slot_of_[position]) <= position;
  }

  constexpr void append(int rows) {
    for (int i = 0; i < rows; ++i) {
      held_[slot_of_[length_]] = {length_, ++writes_};
      write_of_[length_] = writes_;
      ++length_;
    }
  }

  constexpr void rewind_to(int position) {
    for (int p = position; p < MostPositions; ++p) write_of_[p] = 0;
    if (position == 0) held_ = {};
    length_ = position;
  }

 private:
  struct Held {
    int position = -1;
    int write = -1;
  };

  /// The position's latest row is still where it was written.
  constexpr bool holds(int position) const {
    return held_[slot_of_[position]].write == write_of_[position];
  }

  int window_, context_;
  int length_ = 0;
  int writes_ = 0;
  std::array<int, MostPositions> slot_of_{};
  std::array<Held, MostSlots> held_{};
  std::array<int, MostPositions> write_of_{};  // the write that made each position's row, 0: none
};

}  // namespace kvring::testing
