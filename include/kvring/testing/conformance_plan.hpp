// Conformance of a whole plan: bytes, places of layers, donors, and that layers do not meet.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvring/cache.hpp"
#include "kvring/plan.hpp"
#include "kvring/testing/conformance_attention.hpp"

namespace kvring::testing::conformance {

namespace detail {

/// Hands out addresses without memory behind them, and counts: plans of any size on any machine.
struct Books {
  static constexpr const char* name = "books";
  struct State {
    std::uintptr_t next = std::uintptr_t{1} << 40;
    std::map<std::uintptr_t, std::size_t> blocks;  // bytes by address
    std::int64_t bytes = 0;
  };
  State* state = nullptr;

  void* allocate(std::size_t bytes) const {
    const std::uintptr_t at = state->next;
    state->next += bytes + 4096;
    state->blocks[at] = bytes;
    state->bytes += static_cast<std::int64_t>(bytes);
    return reinterpret_cast<void*>(at);
  }
  void deallocate(void* memory, std::size_t bytes) const noexcept {
    state->bytes -= static_cast<std::int64_t>(bytes);
    state->blocks.erase(reinterpret_cast<std::uintptr_t>(memory));
  }
  void from_host(void*, const void*, std::size_t) const {}
  void to_host(void*, const void*, std::size_t) const {}
};

/// A back end that counts what it takes.
template <Backend B>
struct Counted : B {
  std::int64_t* taken = nullptr;

  void* allocate(std::size_t bytes) const {
    *taken += static_cast<std::int64_t>(bytes);
    return B::allocate(bytes);
  }
};

/// A cache of some sequences, as if nobody had written it yet.
template <Backend B, class View>
void fill_with_nan(const B& backend, View view, std::int64_t sequences) {
  using T = typename View::Element;
  const std::vector<T> nan(
      static_cast<std::size_t>(2 * sequences * view.slots * View::heads.kv_dim()),
      not_a_number<T>());
  backend.from_host(view.k, nan.data(), nan.size() * sizeof(T));
}

/// f(view, layer, std::type_identity<Kind>) for every layer of caches.
template <class Plan, class CachesType, class F>
void for_each_layer(CachesType& caches, F f) {
  for (std::int64_t layer = 0; layer < Plan::layers; ++layer) {
    Plan::with_kind(Plan::kind_of[layer], [&](auto kind) {
      f(caches.template view<typename decltype(kind)::type>(layer), layer, kind);
    });
  }
}

}  // namespace detail

/// Slots of a kind of layer in a context, counted here: R is the first multiple of the key tile
/// that holds W - 1 positions and what comes before the first of them attends, or what is taken
/// back; and no more than there are positions.
template <class Plan, class Kind>
std::int64_t slots_by_hand(std::int64_t context) {
  std::int64_t ring = unbounded;
  if constexpr (requires { Kind::Storage::slots; }) {
    ring = Kind::Storage::slots;
  } else if constexpr (std::is_same_v<typename Kind::Storage, Deduced> &&
                       Kind::Policy::window != unbounded) {
    const std::int64_t before = Plan::is_staged ? 1 : Plan::chunk;
    ring = Kind::Policy::window - 1 + (before > Plan::rewind ? before : Plan::rewind);
    while (ring % Plan::key_tile != 0) ++ring;
  }
  return context < ring ? context : ring;
}

/// Contexts at which a plan's capacities change.
template <class Plan>
std::vector<std::int64_t> contexts() {
  std::vector<std::int64_t> all{1, Plan::key_tile, Plan::chunk, Plan::chunk + 1};
  for (int kind = 0; kind < Plan::kinds; ++kind) {
    Plan::with_kind(kind, [&](auto of) {
      using Kind = typename decltype(of)::type;
      if (Kind::Policy::window == unbounded) return;
      const std::int64_t ring = slots_by_hand<Plan, Kind>(std::int64_t{1} << 40);
      for (const std::int64_t b : {Kind::Policy::window, ring}) {
        all.insert(all.end(), {b - 1, b, b + 1});
      }
      all.push_back(2 * ring + 1);
    });
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  all.erase(all.begin(), std::lower_bound(all.begin(), all.end(), 1));
  return all;
}

/// Caches take what the plan says, to the byte; each layer's rows lie in a block of its own, or in
/// its donor's; and max_context inverts cache_bytes.
template <class Plan, Backend B>
void plan_is_allocator(const B& backend) {
  using T = typename Plan::Element;
  for (const std::int64_t context : contexts<Plan>()) {
    for (const std::int64_t sequences : {1, 3}) {
      ++covering()->plans;
      CAPTURE(context);
      CAPTURE(sequences);
      detail::Books::State books;
      {
        Caches<Plan, detail::Books> caches(detail::Books{&books}, context, sequences);
        CHECK(books.bytes == Plan::cache_bytes(context, sequences));
        std::int64_t owners = 0, by_hand = 0;
        detail::for_each_layer<Plan>(caches, [&](auto view, std::int64_t layer, auto kind) {
          using Kind = typename decltype(kind)::type;
          const std::int64_t slots = slots_by_hand<Plan, Kind>(context);
          CHECK(view.slots == slots);
          const std::int64_t bytes =
              sequences * slots * Kind::heads.kv_dim() * std::int64_t{sizeof(T)};
          const auto k = reinterpret_cast<std::uintptr_t>(view.k);
          const auto v = reinterpret_cast<std::uintptr_t>(view.v);
          const auto block = books.blocks.find(k);
          const bool found = block != books.blocks.end();
          CHECK(found);
          if (!found) return;
          CHECK(v == k + static_cast<std::uintptr_t>(bytes));
          CHECK(static_cast<std::int64_t>(block->second) == 2 * bytes);
          owners += Plan::owns_cache(layer);
          by_hand += Plan::owns_cache(layer) ? 2 * bytes : 0;
          if (!Plan::owns_cache(layer)) {
            const auto donor = caches.template view<Kind>(Plan::donor_of[layer]);
            CHECK(donor.k == view.k);
          }
        });
        CHECK(std::ssize(books.blocks) == owners);
        CHECK(by_hand == Plan::cache_bytes(context, sequences));
      }
      CHECK(books.bytes == 0);
      const std::int64_t bytes = Plan::cache_bytes(context, sequences);
      const std::int64_t fits = Plan::max_context(bytes, sequences);
      CHECK(fits >= context);
      CHECK((fits == unbounded || Plan::cache_bytes(fits, sequences) <= bytes));
      CHECK((fits == unbounded || Plan::cache_bytes(fits + 1, sequences) > bytes));
    }
  }
  // And with memory behind it, as much as one tile of positions takes.
  std::int64_t taken = 0;
  Caches<Plan, detail::Counted<B>> caches(detail::Counted<B>{backend, &taken}, Plan::key_tile, 2);
  CHECK(taken == Plan::cache_bytes(Plan::key_tile, 2));
}

/// The plan's true layers with a short context: each that owns a cache appends rows of its own.
/// Then every layer attends, to its own rows or to its donor's; and no byte of any cache changes.
template <class Plan, class Kernels, Backend B>
void layers_and_donors(const B& backend) {
  using T = typename Plan::Element;
  constexpr std::int64_t context = Plan::key_tile + 3, sequences = 2;
  Caches<Plan, B> caches(backend, context, sequences);
  const auto contents = [&](auto view) {
    std::vector<T> all(static_cast<std::size_t>(2 * sequences * view.slots * view.heads.kv_dim()));
    backend.to_host(all.data(), view.k, all.size() * sizeof(T));
    return all;
  };
  // f(Subject, view, layer, the prompts of its cache's two sequences)
  const auto for_each = [&](auto f) {
    detail::for_each_layer<Plan>(caches, [&](auto view, std::int64_t layer, auto kind) {
      using S = Subject<Plan, typename decltype(kind)::type, Kernels, B>;
      const auto seed = static_cast<std::uint64_t>(Plan::donor_of[layer]);
      f(S{}, view, layer, typename S::Prompt{.seed = 100 + 2 * seed},
        typename S::Prompt{.seed = 101 + 2 * seed});
    });
  };
  for_each([&]<class S>(S, auto view, std::int64_t layer, const auto& one, const auto& two) {
    if (!Plan::owns_cache(layer)) return;
    detail::fill_with_nan(backend, view, sequences);
    for (const Span& span : in_chunks(context, smaller(S::chunk, S::in_place))) {
      const std::int64_t begin = span.start.value;
      append<S>(backend, view, {{0, &one, begin, span.rows}, {1, &two, begin, span.rows}});
    }
  });
  std::vector<std::vector<T>> bytes;  // of each layer's cache
  for_each([&](auto, auto view, auto...) { bytes.push_back(contents(view)); });
  for_each([&]<class S>(S, auto view, std::int64_t layer, const auto& one, const auto& two) {
    CAPTURE(layer);
    constexpr std::int64_t last = context - 1;
    const auto rows = attend<S>(backend, view, {{1, &two, last, 1}, {0, &one, last, 1}});
    const auto middle = rows.begin() + S::heads.q_dim();
    check_with_reference<S>(two, {{last, {rows.begin(), middle}}});
    check_with_reference<S>(one, {{last, {middle, rows.end()}}});
  });
  for_each([&](auto, auto view, std::int64_t layer, auto...) {
    CAPTURE(layer);
    CHECK(differing_bytes(contents(view), bytes[static_cast<std::size_t>(layer)]) == 0);
  });
  ++covering()->schedules;
}

}  // namespace kvring::testing::conformance
