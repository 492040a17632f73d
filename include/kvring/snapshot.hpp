// Snapshot: what is live of one sequence, in host memory, and its high-water mark. fork: the same
// from one sequence of some caches to another, without the detour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kvring/cache.hpp"

namespace kvring {

namespace detail {

/// f(first position, rows) for runs of positions in [begin, end) whose slots are consecutive: one,
/// or two where a ring wraps.
template <class View, class F>
void for_each_run(const View& view, Position begin, Position end, F f) {
  while (begin < end) {
    const std::int64_t slot = View::Storage::slot(begin, view.slots).value;
    const std::int64_t rows = smaller(end - begin, view.slots - slot);
    f(begin, rows);
    begin = begin + rows;
  }
}

/// The oldest position that is live in a layer once `written` positions have been written.
template <class PlanType>
constexpr Position oldest_live(std::int64_t layer, std::int64_t written) {
  return {written - PlanType::capacity(layer, written)};
}

/// f(view, keys or values, run's first position, elements) for all that is live in the layers that
/// own a cache: layer by layer, the oldest position first, K of a run before its V.
template <class PlanType, Backend B, class F>
void for_each_live_run(Caches<PlanType, B>& caches, std::int64_t length, std::int64_t written,
                       F f) {
  for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
    if (!PlanType::owns_cache(layer)) continue;
    PlanType::with_kind(PlanType::kind_of[static_cast<std::size_t>(layer)], [&](auto of) {
      const auto view = caches.template view<typename decltype(of)::type>(layer);
      for_each_run(view, oldest_live<PlanType>(layer, written), {length},
                   [&](Position begin, std::int64_t rows) {
                     f(view, view.k, begin, rows * view.heads.kv_dim());
                     f(view, view.v, begin, rows * view.heads.kv_dim());
                   });
    });
  }
}

/// From memory of a back end to memory of it.
template <Backend B>
void copy_within(const B& backend, void* to, const void* from, std::size_t bytes) {
  if constexpr (requires { backend.copy(to, from, bytes); }) {
    backend.copy(to, from, bytes);
  } else {
    std::vector<std::byte> staged(bytes);
    backend.to_host(staged.data(), from, bytes);
    backend.from_host(to, staged.data(), bytes);
  }
}

}  // namespace detail

/// It costs what is live, not the capacity: the newest rows of each ring, all rows of a full cache.
/// It depends on the plan alone, neither on the context nor on the back end of the caches that it
/// was taken from: any caches of the plan take it, if their context is long enough.
template <class PlanType>
class Snapshot {
 public:
  using Element = typename PlanType::Element;

  /// Of a sequence as it stands.
  template <Backend B>
  Snapshot(Caches<PlanType, B>& caches, std::int64_t sequence)
      : length_(caches.timeline(sequence).length()), written_(caches.timeline(sequence).written()) {
    rows_.resize(static_cast<std::size_t>(elements(length_, written_)));
    Element* to = rows_.data();
    detail::for_each_live_run(
        caches, length_, written_,
        [&](const auto& view, const Element* half, Position begin, std::int64_t count) {
          caches.backend().to_host(to, half + view.row(sequence, begin), bytes_of(count));
          to += count;
        });
  }

  /// As rows() of another one gave it. Throws Error unless such a sequence can be, and takes so
  /// many rows.
  Snapshot(std::int64_t length, std::int64_t written, std::vector<Element> rows)
      : length_(length), written_(written), rows_(std::move(rows)) {
    require(length >= 0 && length <= written && written <= longest, "no sequence holds ", length,
            " positions of ", written, " written");
    Timeline<PlanType>(larger(written, 1)).require_resume(length, written);
    require(std::ssize(rows_) == elements(length, written), "a snapshot of ", length,
            " positions, written up to ", written, ", takes ", elements(length, written),
            " values; ", rows_.size(), " were given");
  }

  /// Makes `sequence` what the one was that the snapshot was taken of: the same bits, and the same
  /// appends and rewinds legal. Refuses a context that is too short, and has then changed nothing.
  template <Backend B>
  void restore(Caches<PlanType, B>& caches, std::int64_t sequence) const {
    Timeline<PlanType>& timeline = caches.timeline(sequence);
    timeline.require_resume(length_, written_);
    timeline.rewind_to({0});  // what it held is lost from here on, even if a copy fails
    const Element* from = rows_.data();
    detail::for_each_live_run(
        caches, length_, written_,
        [&](const auto& view, Element* half, Position begin, std::int64_t count) {
          caches.backend().from_host(half + view.row(sequence, begin), from, bytes_of(count));
          from += count;
        });
    timeline.resume(length_, written_);
  }

  std::int64_t length() const { return length_; }
  std::int64_t written() const { return written_; }
  /// Of each layer that owns a cache, oldest first: K of a run of slots, then V of it.
  std::span<const Element> rows() const { return rows_; }
  std::size_t bytes() const { return bytes_of(std::ssize(rows_)); }

  /// Values of rows() for `length` positions, written up to `written`.
  static constexpr std::int64_t elements(std::int64_t length, std::int64_t written) {
    std::int64_t count = 0;
    for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
      if (!PlanType::owns_cache(layer)) continue;
      const std::int64_t live = length - detail::oldest_live<PlanType>(layer, written).value;
      count += live * PlanType::row_bytes(layer) / std::int64_t{sizeof(Element)};
    }
    return count;
  }

 private:
  static constexpr std::int64_t longest = std::int64_t{1} << 32;  // positions; no product overflows

  static constexpr std::size_t bytes_of(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(Element);
  }

  std::int64_t length_, written_;
  std::vector<Element> rows_;
};

/// Makes sequence `to` what sequence `from` of the same caches is; each goes on by itself. What
/// `to` held is lost.
template <class PlanType, Backend B>
void fork(Caches<PlanType, B>& caches, std::int64_t from, std::int64_t to) {
  const Timeline<PlanType> source = caches.timeline(from);
  Timeline<PlanType>& timeline = caches.timeline(to);
  if (from == to) return;
  timeline.rewind_to({0});
  detail::for_each_live_run(
      caches, source.length(), source.written(),
      [&]<class T>(const auto& view, T* half, Position begin, std::int64_t count) {
        detail::copy_within(caches.backend(), half + view.row(to, begin),
                            half + view.row(from, begin),
                            static_cast<std::size_t>(count) * sizeof(T));
      });
  timeline.resume(source.length(), source.written());
}

}  // namespace kvring
