// GuardedCache: a cache of one kind of layer, between guards, whose every slot a case may look at
// or fill; and its stage, if it has one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/kernels/stage.hpp"
#include "kvring/stage_plan.hpp"
#include "kvring/testing/conformance_subject.hpp"

namespace kvring::testing::conformance {

/// A cache for some sequences that begins as NaN, between guards of NaN; and a stage, if the plan
/// has one, for what the last append brought.
template <class S, class ViewType = typename S::View>
class GuardedCache {
 public:
  using T = typename S::Element;
  static constexpr std::int64_t width = S::heads.kv_dim();
  static constexpr std::int64_t guard = 64;  // rows, before and after K and V

  GuardedCache(typename S::Backend backend, std::int64_t sequences, std::int64_t slots)
      : backend_(backend),
        slots_(slots),
        half_((sequences * slots + 2 * guard) * width),
        memory_(backend, 2 * half_) {
    set_contents(std::vector<T>(static_cast<std::size_t>(2 * half_), detail::not_a_number<T>()));
  }

  ViewType view() {
    return {memory_.data() + guard * width, memory_.data() + half_ + guard * width, slots_};
  }
  void append(const typename S::Pieces& pieces) {
    settle();
    if constexpr (may_stage) {
      for (const auto& piece : pieces) {
        if (piece.rows > S::in_place) return append_staged(pieces);
      }
    }
    conformance::append<S>(backend_, view(), pieces);
  }
  /// If the last append staged its rows, piece i must be of sequence i of that append.
  std::vector<typename S::Row> attend(const typename S::Pieces& pieces) {
    if constexpr (may_stage) {
      if (!fresh_.empty()) return conformance::attend<S>(backend_, staged_view(), pieces);
    }
    return conformance::attend<S>(backend_, view(), pieces);
  }
  void attend_into(typename S::Results& results, const Piece<typename S::Prompt>& piece) {
    const std::vector<typename S::Row> all = attend({piece});
    for (std::int64_t i = 0; i < piece.rows; ++i) {
      const auto from = all.begin() + i * S::heads.q_dim();
      results[piece.start + i].assign(from, from + S::heads.q_dim());
    }
  }

  /// Positions begin ... end - 1 of a prompt, at most `chunk` at a time.
  void append_span(std::int64_t sequence, const typename S::Prompt& prompt, std::int64_t begin,
                   std::int64_t end, std::int64_t chunk = S::chunk) {
    for (std::int64_t p = begin; p < end; p += chunk) {
      append({{sequence, &prompt, p, std::min(chunk, end - p)}});
    }
  }

  /// K with its guards, then V with its guards.
  std::vector<T> contents() {
    settle();
    std::vector<T> all(static_cast<std::size_t>(2 * half_));
    backend_.to_host(all.data(), memory_.data(), memory_.bytes());
    return all;
  }
  void set_contents(const std::vector<T>& all) { memory_.from_host(all.data(), 2 * half_); }

  /// Elements before the slot of a row in contents(), in K and in V.
  std::int64_t k_at(std::int64_t sequence, std::int64_t slot) const {
    return (guard + sequence * slots_ + slot) * width;
  }
  std::int64_t v_at(std::int64_t sequence, std::int64_t slot) const {
    return half_ + k_at(sequence, slot);
  }

  /// All slots of a sequence but those in which positions first ... last live, guards and other
  /// sequences too.
  void fill_all_but(std::int64_t sequence, std::int64_t first, std::int64_t last, T with) {
    const std::vector<T> before = contents();
    std::vector<T> after(before.size(), with);
    for (std::int64_t p = first; p <= last; ++p) {
      for (const std::int64_t at : {k_at(sequence, p % slots_), v_at(sequence, p % slots_)}) {
        std::copy_n(before.begin() + at, width, after.begin() + at);
      }
    }
    set_contents(after);
  }

 private:
  static constexpr bool may_stage = S::is_staged && std::is_same_v<ViewType, typename S::View>;

  auto staged_view() {
    T* const k = stage_.data();
    return StagedView<ViewType, S::tile>{view(), k, k + stage_.size() / 2,
                                         Batch{fresh_there_.data(), std::ssize(fresh_),
                                               fresh_.back().first_row + fresh_.back().rows}};
  }
  void append_staged(const typename S::Pieces& pieces) {
    const detail::Launch launch(pieces);
    fresh_ = launch.segments;
    fresh_there_ = detail::to_backend(backend_, fresh_);
    const std::int64_t rows = stage_rows(launch.rows, std::ssize(fresh_), S::tile);
    stage_ = detail::to_backend(backend_, std::vector<T>(static_cast<std::size_t>(2 * rows * width),
                                                         detail::not_a_number<T>()));
    open_stage(detail::for_stages(backend_), staged_view());
    conformance::append<S>(backend_, staged_view(), pieces);
  }
  /// Brings staged rows into the ring.
  void settle() {
    if constexpr (may_stage) {
      if (!fresh_.empty()) commit_stage(detail::for_stages(backend_), staged_view());
      fresh_.clear();
    }
  }

  typename S::Backend backend_;
  std::int64_t slots_, half_;
  Buffer<T, typename S::Backend> memory_, stage_;
  std::vector<Segment> fresh_;  // staged, and not yet in the ring
  Buffer<Segment, typename S::Backend> fresh_there_;
};

template <class T>
long differing_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  covering()->bytes += static_cast<long>(a.size() * sizeof(T));
  if (a.size() != b.size()) return -1;
  long count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(T)) != 0;
  return count;
}

}  // namespace kvring::testing::conformance
