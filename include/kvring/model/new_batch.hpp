// NewBatch: the new tokens of a forward pass, checked, and brought to where the model is.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kvring/cache.hpp"
#include "kvring/kernels/batch.hpp"

namespace kvring {

/// New tokens of one sequence: they continue what its timeline holds.
struct NewTokens {
  std::int64_t sequence = 0;
  std::span<const std::int32_t> ids;
};

/// Of which rows of a chunk the logits will be asked for. What only other rows need is left out in
/// the last layer.
enum class Wanted { none, last, all };

template <class Plan, Backend B>
class NewBatch {
 public:
  NewBatch(Segment* segments, std::int32_t* ids) : segments_(segments), ids_(ids) {}

  /// Checks a batch; moves the timelines and copies it only if all of it is legal.
  void accept(const B& backend, Caches<Plan, B>& caches, std::span<const NewTokens> batch,
              Wanted wanted, std::int64_t chunk) {
    const std::int64_t rows = check(caches, batch, chunk);
    rows_ = rows;
    // A single sequence can leave out rows of the last layer; several want their own last rows.
    first_wanted_ = 0;
    if (batch.size() == 1 && wanted == Wanted::last) first_wanted_ = rows - 1;
    if (batch.size() == 1 && wanted == Wanted::none) first_wanted_ = rows;

    note_staged(caches, batch);
    host_segments_.clear();
    std::vector<std::int32_t> ids;
    ids.reserve(static_cast<std::size_t>(rows));
    for (const NewTokens& tokens : batch) {
      Timeline<Plan>& timeline = caches.timeline(tokens.sequence);
      host_segments_.push_back({.sequence = tokens.sequence,
                                .start = {timeline.length()},
                                .first_row = static_cast<std::int64_t>(ids.size()),
                                .rows = static_cast<std::int64_t>(tokens.ids.size())});
      ids.insert(ids.end(), tokens.ids.begin(), tokens.ids.end());
      timeline.append(host_segments_.back().rows);
    }
    count_ = static_cast<std::int64_t>(host_segments_.size());
    // What remains of a single segment in the last layer, as a batch of its own.
    const Segment& first = host_segments_.front();
    host_segments_.push_back({.sequence = first.sequence,
                              .start = first.start + first_wanted_,
                              .first_row = 0,
                              .rows = first.rows - first_wanted_});
    backend.from_host(segments_, host_segments_.data(), host_segments_.size() * sizeof(Segment));
    backend.from_host(ids_, ids.data(), ids.size() * sizeof(std::int32_t));
  }

  /// Whether the rows attend before they are in the caches of a kind. Of a plan that is not staged
  /// never; else when a segment is longer than what its ring takes in place.
  bool is_staged(int kind) const { return is_staged_[static_cast<std::size_t>(kind)]; }

  std::int64_t rows() const { return rows_; }
  std::int64_t first_wanted() const { return first_wanted_; }
  const std::int32_t* ids() const { return ids_; }
  Batch whole() const { return from(0); }
  /// The batch from row `first` on, 0 or first_wanted(), numbered from 0.
  Batch from(std::int64_t first) const { return from(first, segments_); }
  /// The same with segments in host memory.
  Batch host_from(std::int64_t first) const { return from(first, host_segments_.data()); }

 private:
  Batch from(std::int64_t first, const Segment* segments) const {
    if (first == 0) return {segments, count_, rows_};
    return {segments + count_, 1, rows_ - first};
  }

  void note_staged(Caches<Plan, B>& caches, std::span<const NewTokens> batch) {
    is_staged_ = {};
    for (const NewTokens& tokens : batch) {
      const Timeline<Plan>& timeline = caches.timeline(tokens.sequence);
      for (int kind = 0; kind < Plan::kinds; ++kind) {
        const std::int64_t fit = timeline.range_of_kind(kind).appendable_in_place();
        if (std::ssize(tokens.ids) > fit) is_staged_[static_cast<std::size_t>(kind)] = true;
      }
    }
  }

  static std::int64_t check(Caches<Plan, B>& caches, std::span<const NewTokens> batch,
                            std::int64_t chunk) {
    constexpr std::int64_t vocabulary = Plan::Model::vocabulary;
    require(!batch.empty(), "a forward pass of no tokens");
    std::int64_t rows = 0;
    std::vector<bool> seen(static_cast<std::size_t>(caches.sequences()));
    for (const NewTokens& tokens : batch) {
      const auto count = static_cast<std::int64_t>(tokens.ids.size());
      require(count >= 1, "a forward pass of no tokens for sequence ", tokens.sequence);
      caches.timeline(tokens.sequence).require_append(count);
      require(!seen[static_cast<std::size_t>(tokens.sequence)], "sequence ", tokens.sequence,
              " stands twice in a batch");
      seen[static_cast<std::size_t>(tokens.sequence)] = true;
      for (const std::int32_t id : tokens.ids) {
        require(id >= 0 && id < vocabulary, "token id ", id, " is outside the vocabulary of ",
                vocabulary);
      }
      rows += count;
    }
    require(rows <= chunk, "a forward pass of ", rows, " rows: chunks have at most ", chunk);
    return rows;
  }

  Segment* segments_;  // [sequences + 1], in memory of the back end
  std::int32_t* ids_;  // [rows], likewise
  std::vector<Segment> host_segments_;
  std::array<bool, static_cast<std::size_t>(Plan::kinds)> is_staged_{};
  std::int64_t count_ = 0, rows_ = 0, first_wanted_ = 0;
};

}  // namespace kvring
