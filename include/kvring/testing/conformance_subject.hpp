// Subject: one kind of layer of a plan, with some kernels on one back end; and what happens when
// they append and attend.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <type_traits>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/cache.hpp"
#include "kvring/kernels/stage.hpp"
#include "kvring/live_range.hpp"
#include "kvring/stage_plan.hpp"
#include "kvring/testing/compare.hpp"
#include "kvring/testing/conformance_coverage.hpp"
#include "kvring/testing/conformance_kernels.hpp"
#include "kvring/testing/conformance_rows.hpp"

namespace kvring::testing::conformance {

template <class PlanType, class KindType, class KernelsType, Backend BackendType>
struct Subject {
  using Plan = PlanType;
  using Kind = KindType;
  using Kernels = KernelsType;
  using Backend = BackendType;
  using Placement = typename Plan::template PlacementOf<Kind>;
  using Policy = typename Kind::Policy;
  using Element = typename Plan::Element;
  using View = CacheView<typename Placement::Storage, Kind::heads, Element>;
  using FullView = CacheView<Full, Kind::heads, Element>;
  using Row = RowOf<Kernels, Backend, View>;
  using Prompt = conformance::Prompt<Kind::heads, Element, Row>;
  using Pieces = std::vector<Piece<Prompt>>;
  using Tile = KeyTile<Plan::key_tile>;
  /// Result rows by position.
  using Results = std::map<std::int64_t, std::vector<Row>>;

  static_assert(conformance::Kernels<Kernels, Backend, Policy, Tile, View>,
                "kvring: the kernels lack append or attend with the library's parameters: see "
                "conformance_kernels.hpp");

  static constexpr Heads heads = Kind::heads;
  static constexpr std::int64_t window = Policy::window;
  static constexpr std::int64_t tile = Plan::key_tile;
  static constexpr bool is_ring = Placement::is_ring;
  static constexpr bool has_window = window != unbounded;
  /// Slots of the ring; of a full cache, enough for what the cases do.
  static constexpr std::int64_t ring = [] {
    if constexpr (is_ring) return View::Storage::slots;
    return std::int64_t{0};
  }();
  /// Rows that the ring takes before the first of them attends. More are staged, if the plan and
  /// the kernels do that; without such kernels a staged plan is run in shorter chunks.
  static constexpr std::int64_t in_place = is_ring ? ring - (window - 1) : unbounded;
  static constexpr bool is_staged =
      Placement::is_staged && detail::takes_staged<Kernels, Backend>();
  static constexpr std::int64_t chunk = is_staged ? Plan::chunk : smaller(Plan::chunk, in_place);
  /// Positions that the cases go through.
  static constexpr std::int64_t length = is_ring ? 2 * (is_staged ? larger(ring, chunk) : ring) + 2
                                                 : larger(chunk, has_window ? window : 0) + 2;
  static constexpr bool same_bits = detail::gives_same_bits<Kernels>();

  /// The bookkeeping of a sequence in `slots` slots.
  static LiveRange live_range(std::int64_t slots, std::int64_t context) {
    return {slots, window, context, is_staged ? chunk : 0};
  }
  static Scores scores() { return {.scale = 1 / std::sqrt(static_cast<float>(heads.dim))}; }
  static std::int64_t oldest_seen(std::int64_t position) {
    return has_window ? std::max<std::int64_t>(0, position - window + 1) : 0;
  }
};

namespace detail {

template <class T>
T not_a_number() {
  return from_f32<T>(std::numeric_limits<float>::quiet_NaN());
}

template <class T, class B>
Buffer<T, B> to_backend(const B& backend, const std::vector<T>& values) {
  Buffer<T, B> buffer(backend, static_cast<std::int64_t>(values.size()));
  buffer.from_host(values.data(), buffer.size());
  return buffer;
}

/// Segments of pieces, one after the other, and rows of the launch's arrays: more than the batch
/// has.
template <class PromptType>
struct Launch {
  std::vector<Segment> segments;
  std::int64_t rows = 0;

  explicit Launch(const std::vector<Piece<PromptType>>& pieces) {
    for (const Piece<PromptType>& piece : pieces) {
      segments.push_back({.sequence = piece.sequence,
                          .start = {piece.start},
                          .first_row = rows,
                          .rows = piece.rows});
      rows += piece.rows;
    }
  }
  std::int64_t padded_rows() const { return round_up(rows + 1, 128); }
  Batch batch(const Segment* where) const {
    return {where, static_cast<std::int64_t>(segments.size()), rows};
  }
};

}  // namespace detail

/// Appends the rows of pieces, which are legal: to slots of which each is written once.
template <class S, class View>
void append(const typename S::Backend& backend, View view, const typename S::Pieces& pieces) {
  using Row = typename S::Row;
  const detail::Launch launch(pieces);
  const std::size_t elements = static_cast<std::size_t>(launch.padded_rows() * S::heads.kv_dim());
  std::vector<Row> k(elements, detail::not_a_number<Row>()), v = k;
  std::int64_t at = 0;
  for (const auto& piece : pieces) {
    for (std::int64_t p = piece.start; p < piece.start + piece.rows; ++p) {
      piece.prompt->put_k(p, k.data() + at);
      piece.prompt->put_v(p, v.data() + at);
      at += S::heads.kv_dim();
    }
  }
  const auto segments = detail::to_backend(backend, launch.segments);
  const auto k_there = detail::to_backend(backend, k), v_there = detail::to_backend(backend, v);
  S::Kernels::append(backend, view, launch.batch(segments.data()), k_there.data(), v_there.data());
  covering()->appended += launch.rows;
}

/// The results of pieces' rows, one after the other. Their keys and values have been appended.
template <class S, class View>
std::vector<typename S::Row> attend(const typename S::Backend& backend, View view,
                                    const typename S::Pieces& pieces) {
  using Row = typename S::Row;
  const detail::Launch launch(pieces);
  const std::size_t width = static_cast<std::size_t>(S::heads.q_dim());
  const std::size_t elements = static_cast<std::size_t>(launch.padded_rows()) * width;
  const Row untouched = from_f32<Row>(42);
  std::vector<Row> q(elements, detail::not_a_number<Row>()), out(elements, untouched);
  std::size_t at = 0;
  for (const auto& piece : pieces) {
    for (std::int64_t p = piece.start; p < piece.start + piece.rows; ++p, at += width) {
      piece.prompt->put_q(p, q.data() + at);
      covering()->keys += p - S::oldest_seen(p) + 1;
    }
  }
  covering()->attended += launch.rows;
  const auto segments = detail::to_backend(backend, launch.segments);
  const auto q_there = detail::to_backend(backend, q);
  auto out_there = detail::to_backend(backend, out);
  S::Kernels::attend(backend, typename S::Policy{}, typename S::Tile{}, view,
                     launch.batch(launch.segments.data()), launch.batch(segments.data()),
                     q_there.data(), out_there.data(), S::scores());
  backend.to_host(out.data(), out_there.data(), out_there.bytes());
  const bool padding_is_intact = std::all_of(out.begin() + static_cast<std::ptrdiff_t>(at),
                                             out.end(), [](Row x) { return to_f32(x) == 42; });
  CHECK_MESSAGE(padding_is_intact, "attend wrote rows that belong to no segment");
  out.resize(at);
  return out;
}

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
