// Subject: one kind of layer of a plan, with some kernels on one back end; and what happens when
// they append and attend.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <type_traits>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/cache.hpp"
#include "kvring/live_range.hpp"
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
      Placement::is_staged && detail::takes_staged<Kernels, Backend>(tile);
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

}  // namespace kvring::testing::conformance
