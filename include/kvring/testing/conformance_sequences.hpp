// Conformance of snapshots and forks: sequences that go on elsewhere.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvring/snapshot.hpp"
#include "kvring/testing/conformance_plan.hpp"
#include "kvring/testing/conformance_rewind.hpp"

namespace kvring::testing::conformance {

/// One layer of each kind of a plan, so that rings wrap in the memory of few. Not staged: chunks
/// are as long as every ring takes them in place.
template <class PlanType, class Kinds = typename PlanType::Kinds>
struct OneOfEach;
template <class PlanType, class... Kind>
struct OneOfEach<PlanType, TypeList<Kind...>> {
  using Layers = Hybrid<std::int64_t{sizeof...(Kind)}, Kind...>;
  static constexpr std::int64_t chunk = [] {
    std::int64_t rows = PlanType::chunk;
    const auto fit = [&]<class Placed>(std::type_identity<Placed>) {
      if constexpr (Placed::is_ring) {
        rows = smaller(rows, Placed::Storage::slots - (Placed::Policy::window - 1));
      }
    };
    (fit(std::type_identity<typename PlanType::template PlacementOf<Kind>>{}), ...);
    return rows;
  }();
  using type = Plan<OneOfEach, typename PlanType::Element, Chunk<chunk>, Rewind<PlanType::rewind>,
                    KeyTile<PlanType::key_tile>>;
};

/// Caches of a plan, all NaN at first, whose sequences advance in all layers at once.
template <class PlanType, class Kernels, Backend B>
struct Sequences {
  B backend;
  Caches<PlanType, B> caches;

  Sequences(const B& backend, std::int64_t context, std::int64_t sequences)
      : backend(backend), caches(backend, context, sequences) {
    detail::for_each_layer<PlanType>(caches, [&](auto view, std::int64_t layer, auto) {
      if (PlanType::owns_cache(layer)) detail::fill_with_nan(backend, view, sequences);
    });
  }
  /// Appends `rows` rows that follow from a seed; the results of the last `attending` of them.
  std::vector<float> advance(std::int64_t sequence, std::uint64_t seed, std::int64_t rows,
                             std::int64_t attending) {
    std::vector<float> results;
    const std::int64_t begin = caches.timeline(sequence).length();
    caches.timeline(sequence).append(rows);
    detail::for_each_layer<PlanType>(caches, [&](auto view, std::int64_t layer, auto kind) {
      using S = Subject<PlanType, typename decltype(kind)::type, Kernels, B>;
      const typename S::Prompt prompt{.seed = seed + static_cast<std::uint64_t>(layer)};
      append<S>(backend, view, {{sequence, &prompt, begin, rows}});
      if (attending == 0) return;
      const std::int64_t first = begin + rows - attending;
      for (const auto x : attend<S>(backend, view, {{sequence, &prompt, first, attending}})) {
        results.push_back(to_f32(x));
      }
    });
    return results;
  }
};

/// A sequence that has wrapped; its snapshot, restored in other caches; its fork in the same: all
/// go on with the same rows to the same bits, whatever their slots held before.
template <class UsersPlan, class Kernels, Backend B>
void snapshot_and_fork(const B& backend) {
  using PlanType = typename OneOfEach<UsersPlan>::type;
  std::int64_t length = PlanType::key_tile + 3;
  for (int kind = 0; kind < PlanType::kinds; ++kind) {
    PlanType::with_kind(kind, [&](auto of) {
      using S = Subject<PlanType, typename decltype(of)::type, Kernels, B>;
      length = std::max(length, S::ring + S::tile + 3);
    });
  }
  constexpr std::int64_t drafts = smaller(PlanType::rewind, PlanType::chunk);
  constexpr std::int64_t more = smaller(PlanType::chunk, 3);
  const std::int64_t context = length + larger(drafts, more + 1);
  using Both = Sequences<PlanType, Kernels, B>;
  Both ours(backend, context, 2), others(backend, context, 2);
  for (const Span& span : in_chunks(length, PlanType::chunk)) ours.advance(0, 200, span.rows, 0);
  if (drafts > 0) {  // now more has been written than the sequence is long
    ours.advance(0, 300, drafts, 0);
    ours.caches.timeline(0).rewind_to({length});
  }
  const Snapshot<PlanType> snapshot(ours.caches, 0);
  snapshot.restore(others.caches, 0);
  fork(ours.caches, 0, 1);
  const Timeline<PlanType>& original = ours.caches.timeline(0);
  for (const Timeline<PlanType>* copy : {&others.caches.timeline(0), &ours.caches.timeline(1)}) {
    CHECK(copy->length() == length);
    CHECK(copy->written() == original.written());
    CHECK(copy->rewind_floor() == original.rewind_floor());
    CHECK(copy->appendable() == original.appendable());
  }
  const auto check = [](const std::string& what, const std::vector<float>& a,
                        const std::vector<float>& b) {
    const Difference difference = differing_bits(std::span(a), std::span(b));
    CHECK_MESSAGE(!difference, what, ": ", difference);
    covering()->as_bits += static_cast<long>(difference.compared);
  };
  // The fork goes on first, with rows of its own: the original must not notice.
  const std::vector<float> forked = ours.advance(1, 400, more, more);
  const std::vector<float> right = ours.advance(0, 500, more, more);
  check("a restored sequence", others.advance(0, 500, more, more), right);
  Snapshot<PlanType>(ours.caches, 1).restore(others.caches, 1);
  check("a copy of the fork", others.advance(1, 600, 1, 1), ours.advance(1, 600, 1, 1));
  Snapshot<PlanType>(others.caches, 0).restore(ours.caches, 1);
  check("a copy of the copy", ours.advance(1, 700, 1, 1), ours.advance(0, 700, 1, 1));
  snapshot.restore(others.caches, 0);
  check("a sequence that is restored again", others.advance(0, 400, more, more), forked);
  // A context too short is refused, and what was there stays.
  Both brief(backend, length - 1, 1);
  brief.advance(0, 800, 1, 0);
  check_refused([&] { snapshot.restore(brief.caches, 0); }, {length - 1});
  CHECK(brief.caches.timeline(0).length() == 1);
  covering()->schedules += 5;
}

}  // namespace kvring::testing::conformance
