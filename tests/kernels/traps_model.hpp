// A model of three kinds of layers and two that read a donor, its rows, and passes over its caches.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "kvring/cache.hpp"
#include "traps.hpp"

namespace kvring::test::traps {

struct Narrow : Layer<Swa<5>, few> {};
struct Wide : Layer<Swa<9>, few> {};
struct Global : Layer<Dense, few> {};
struct Mixed {
  using Layers = Hybrid<5, Narrow, Wide, Global, Tail<Wide, Global>>;
  using Sharing = SharedKv<2>;  // layers 3 and 4 read 1 and 2
};
template <class T>
using MixedPlan = Plan<Mixed, T, Chunk<4>, Rewind<6>, KeyTile<4>>;
static_assert(MixedPlan<f32>::ring_slots<0>() == 12 && MixedPlan<f32>::ring_slots<1>() == 16);

/// Rows of each layer, and the results of each layer over a cache that forgets nothing.
template <class T>
struct Text {
  using PlanType = MixedPlan<T>;
  std::vector<Prompt<few, T>> rows_of;
  std::vector<std::vector<float>> right;

  Text(std::uint64_t seed, std::int64_t length) {
    for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
      const auto i = static_cast<std::size_t>(layer);
      rows_of.emplace_back(seed * 10 + i, length);
      const auto donor = static_cast<std::size_t>(PlanType::donor_of[i]);
      rows_of[i].k = rows_of[donor].k;
      rows_of[i].v = rows_of[donor].v;
      PlanType::with_kind(PlanType::kind_of[i], [&](auto of) {
        TestCache<few, T, Full> full(1, length);
        right.push_back(prefill<ByScalar, typename decltype(of)::type::Policy, 4>(
            full, 0, rows_of[i], 1, scores));
      });
    }
  }
};

/// Rows `start` ... of a text into all caches; no timeline is asked.
template <class T, Backend B>
void write(Caches<MixedPlan<T>, B>& caches, std::int64_t sequence, const Text<T>& text,
           std::int64_t start, std::int64_t rows) {
  using PlanType = MixedPlan<T>;
  for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
    if (!PlanType::owns_cache(layer)) continue;
    const auto i = static_cast<std::size_t>(layer);
    PlanType::with_kind(PlanType::kind_of[i], [&](auto of) {
      const auto view = caches.template view<typename decltype(of)::type>(layer);
      const Launch launch(
          std::vector<Piece<Prompt<few, T>>>{{sequence, &text.rows_of[i], start, rows}});
      const Append<std::remove_const_t<decltype(view)>> kernel{view, launch.batch(),
                                                               launch.k.data(), launch.v.data()};
      for (std::int64_t row = 0; row < rows; ++row) kernel(row);
    });
  }
}

/// Layers whose results of rows `start` ... are not what they must be.
template <class Kernel, class T, Backend B>
long wrong_layers(Caches<MixedPlan<T>, B>& caches, std::int64_t sequence, const Text<T>& text,
                  std::int64_t start, std::int64_t rows) {
  using PlanType = MixedPlan<T>;
  long wrong = 0;
  for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
    const auto i = static_cast<std::size_t>(layer);
    PlanType::with_kind(PlanType::kind_of[i], [&](auto of) {
      using Kind = typename decltype(of)::type;
      const Launch launch(
          std::vector<Piece<Prompt<few, T>>>{{sequence, &text.rows_of[i], start, rows}});
      std::vector<float> out(launch.q.size(), std::numeric_limits<float>::quiet_NaN());
      Kernel::template run<typename Kind::Policy, PlanType::key_tile>(
          caches.template view<Kind>(layer), launch.batch(), launch.q.data(), out.data(), scores);
      const auto begin = text.right[i].begin() + start * few.q_dim();
      wrong += bool{differing_bits(out, {begin, begin + rows * few.q_dim()})};
    });
  }
  return wrong;
}

/// The timeline is asked, rows are written, all layers attend: how many of them wrongly.
template <class Kernel, class T, Backend B>
long wrong_step(Caches<MixedPlan<T>, B>& caches, std::int64_t sequence, const Text<T>& text,
                std::int64_t rows) {
  const std::int64_t start = caches.timeline(sequence).length();
  caches.timeline(sequence).append(rows);
  write(caches, sequence, text, start, rows);
  return wrong_layers<Kernel>(caches, sequence, text, start, rows);
}

/// A sequence of `length` positions, appended in chunks.
template <class T, Backend B>
void grow(Caches<MixedPlan<T>, B>& caches, std::int64_t sequence, const Text<T>& text,
          std::int64_t length) {
  Timeline<MixedPlan<T>>& timeline = caches.timeline(sequence);
  while (timeline.length() < length) {
    const std::int64_t start = timeline.length();
    const std::int64_t rows = smaller(MixedPlan<T>::chunk, length - start);
    timeline.append(rows);
    write(caches, sequence, text, start, rows);
  }
}

}  // namespace kvring::test::traps
