// Snapshot, restore and fork at the level of rows: each live row once, in its place, and nothing
// besides; what a restored sequence may do is what the saved one might.
#include "kvring/snapshot.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvring/kernels/append.hpp"
#include "ledger.hpp"
#include "refusal.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

// Three kinds, no two alike; rings of 24 and 112 slots (cache_test.cpp counts them by hand).
struct Narrow : Layer<Swa<12>, Heads{.q = 4, .kv = 2, .dim = 8}> {};
struct Wide : Layer<Swa<100>, Heads{.q = 6, .kv = 3, .dim = 20}> {};
struct Global : Layer<Dense, Heads{.q = 4, .kv = 1, .dim = 36}> {};

struct Shared {
  using Layers = Hybrid<8, Repeat<2, Narrow>, Wide, Global>;
  using Sharing = SharedKv<3>;  // layers 5, 6 and 7 read 4, 2 and 3
};
template <class T>
using PlanOf = Plan<Shared, T, Chunk<5>, Rewind<7>, KeyTile<8>>;
static_assert(PlanOf<f32>::ring_slots<0>() == 24 && PlanOf<f32>::ring_slots<2>() == 112);

/// By hand: three layers of Narrow, one of Wide, one of Global, K and V.
std::int64_t live_values_by_hand(std::int64_t length, std::int64_t written) {
  const auto live = [&](std::int64_t slots) {
    return length - std::max<std::int64_t>(0, written - slots);
  };
  return 2 * (3 * live(24) * 16 + live(112) * 60 + length * 36);
}

/// What a row holds: exact in every element type.
float mark(std::int64_t layer, std::int64_t position, bool value, int version) {
  return static_cast<float>((position * 5 + layer * 3 + version + (value ? 1 : 0)) % 251);
}

template <class PlanType, class B>
struct Sequence {
  Caches<PlanType, B>& caches;
  std::int64_t sequence;

  /// f(view, layer) for each layer that owns a cache.
  template <class F>
  void for_each_owner(F f) {
    for (const std::int64_t layer : {0, 1, 4}) f(caches.template view<Narrow>(layer), layer);
    f(caches.template view<Wide>(2), 2);
    f(caches.template view<Global>(3), 3);
  }

  void append(std::int64_t rows, int version = 0) {
    Timeline<PlanType>& timeline = caches.timeline(sequence);
    for (std::int64_t left = rows; left > 0;) {
      const std::int64_t chunk = smaller(left, PlanType::chunk);
      const Segment segment{sequence, {timeline.length()}, 0, chunk};
      timeline.append(chunk);
      for_each_owner([&]<class View>(View view, std::int64_t layer) {
        const std::size_t width = static_cast<std::size_t>(View::heads.kv_dim());
        std::vector<float> k, v;
        for (std::int64_t row = 0; row < chunk; ++row) {
          const std::int64_t p = segment.start.value + row;
          k.insert(k.end(), width, mark(layer, p, false, version));
          v.insert(v.end(), width, mark(layer, p, true, version));
        }
        const Append<View> append{view, {&segment, 1, chunk}, k.data(), v.data()};
        for (std::int64_t row = 0; row < chunk; ++row) append(row);
      });
      left -= chunk;
    }
  }

  /// Rows that do not hold what `version` wrote to their position.
  std::int64_t wrong_rows(int version = 0) {
    std::int64_t wrong = 0;
    const Timeline<PlanType>& timeline = caches.timeline(sequence);
    for_each_owner([&]<class View>(View view, std::int64_t layer) {
      const LiveRange& range =
          timeline.range_of_kind(PlanType::kind_of[static_cast<std::size_t>(layer)]);
      for (Position p = range.oldest_live(); p.value < range.length(); p = p + 1) {
        for (const bool value : {false, true}) {
          const auto* row = (value ? view.v : view.k) + view.row(sequence, p);
          wrong += !std::all_of(row, row + View::heads.kv_dim(), [&](auto x) {
            return to_f32(x) == mark(layer, p.value, value, version);
          });
        }
      }
    });
    return wrong;
  }

  /// Every bit of the sequence; and NaN into all of it.
  std::vector<std::uint32_t> contents() {
    std::vector<std::uint32_t> all;
    for_each_owner([&](auto view, std::int64_t) {
      const std::int64_t count = view.slots * view.heads.kv_dim();
      for (const auto* half : {view.k, view.v}) {
        for (std::int64_t i = 0; i < count; ++i) {
          all.push_back(std::bit_cast<std::uint32_t>(to_f32(half[sequence * count + i])));
        }
      }
    });
    return all;
  }
  void poison() {
    for_each_owner([&]<class View>(View view, std::int64_t) {
      const auto nan = from_f32<typename View::Element>(std::numeric_limits<float>::quiet_NaN());
      const std::int64_t count = view.slots * View::heads.kv_dim();
      for (auto* half : {view.k, view.v}) std::fill_n(half + sequence * count, count, nan);
    });
  }
};

template <class PlanType, class B>
Sequence<PlanType, B> sequence_of(Caches<PlanType, B>& caches, std::int64_t sequence) {
  return {caches, sequence};
}

template <class PlanType>
bool same_rights(const Timeline<PlanType>& a, const Timeline<PlanType>& b) {
  return a.length() == b.length() && a.written() == b.written() &&
         a.appendable() == b.appendable() && a.rewind_floor() == b.rewind_floor();
}

// Around 0, chunk, tile, both windows and both rings, and far past them.
constexpr std::int64_t lengths[] = {0,  1,  5,   8,   12,  23,  24,  25,  36,  47,  48, 49,
                                    90, 99, 100, 111, 112, 113, 136, 150, 223, 224, 225};

}  // namespace

TEST_CASE_TEMPLATE("a snapshot takes what is live, by position, and restores it anywhere", T, f32,
                   f16, bf16) {
  using PlanType = PlanOf<T>;
  const auto widen = [](T x) { return to_f32(x); };
  long snapshots = 0;
  for (const std::int64_t written : lengths) {
    for (const std::int64_t back : {0, 1, 3, 7}) {
      if (back > 0 && back >= written) continue;
      CAPTURE(written);
      CAPTURE(back);
      Caches<PlanType, Host> caches(Host{}, 300, 3);
      auto saved = sequence_of(caches, 1), other = sequence_of(caches, 2);
      saved.append(written);
      caches.timeline(1).rewind_to({written - back});
      const Snapshot<PlanType> snapshot(caches, 1);
      const std::int64_t values = live_values_by_hand(written - back, written);
      REQUIRE(snapshot.length() == written - back);
      REQUIRE(snapshot.written() == written);
      REQUIRE(std::ssize(snapshot.rows()) == values);
      REQUIRE(snapshot.bytes() == static_cast<std::size_t>(values) * sizeof(T));
      ++snapshots;

      // Into a neighbour that held something else, while the third sequence keeps its bytes.
      other.append(20, 9);
      other.poison();
      sequence_of(caches, 0).append(17, 4);
      const auto neighbour = sequence_of(caches, 0).contents();
      snapshot.restore(caches, 2);
      REQUIRE(other.wrong_rows() == 0);
      REQUIRE(same_rights(caches.timeline(1), caches.timeline(2)));
      REQUIRE(sequence_of(caches, 0).contents() == neighbour);
      REQUIRE(saved.wrong_rows() == 0);

      // A context that is just long enough, and a longer one.
      for (const std::int64_t context : {std::max<std::int64_t>(1, written), std::int64_t{999}}) {
        Caches<PlanType, Host> elsewhere(Host{}, context, 1);
        sequence_of(elsewhere, 0).poison();
        snapshot.restore(elsewhere, 0);
        REQUIRE(sequence_of(elsewhere, 0).wrong_rows() == 0);
        REQUIRE(elsewhere.timeline(0).written() == written);
        REQUIRE(elsewhere.timeline(0).rewind_floor() == caches.timeline(1).rewind_floor());
        // What was taken from there is the same again.
        const Snapshot<PlanType> again(elsewhere, 0);
        REQUIRE(std::ranges::equal(again.rows(), snapshot.rows(), {}, widen, widen));
      }
    }
  }
  CHECK(snapshots > 60);
}

TEST_CASE_TEMPLATE("a fork has the rows of the original, and each goes on by itself", T, f32, f16,
                   bf16) {
  using PlanType = PlanOf<T>;
  for (const std::int64_t written : lengths) {
    for (const std::int64_t back : {0, 1, 7}) {
      if (back > 0 && back >= written) continue;
      CAPTURE(written);
      CAPTURE(back);
      Caches<PlanType, Host> caches(Host{}, 300, 3);
      auto original = sequence_of(caches, 2), copy = sequence_of(caches, 0);
      original.append(written);
      caches.timeline(2).rewind_to({written - back});
      copy.append(30, 9);
      copy.poison();
      sequence_of(caches, 1).append(17, 4);
      const auto neighbour = sequence_of(caches, 1).contents();
      fork(caches, 2, 0);
      REQUIRE(copy.wrong_rows() == 0);
      REQUIRE(same_rights(caches.timeline(0), caches.timeline(2)));
      const auto before = original.contents();
      copy.append(6, 0);
      REQUIRE(copy.wrong_rows() == 0);
      REQUIRE(original.contents() == before);
      REQUIRE(sequence_of(caches, 1).contents() == neighbour);
      original.append(9, 0);
      REQUIRE(original.wrong_rows() == 0);
      REQUIRE(copy.wrong_rows() == 0);
      fork(caches, 2, 2);
      REQUIRE(original.wrong_rows() == 0);
      REQUIRE(caches.timeline(2).length() == written - back + 9);
    }
  }
}

TEST_CASE("trap_33_a_restored_sequence_remembers_its_high_water_mark") {
  using PlanType = PlanOf<f32>;
  Caches<PlanType, Host> caches(Host{}, 300, 2);
  auto saved = sequence_of(caches, 0);
  saved.append(100);
  caches.timeline(0).rewind_to({94});
  const Snapshot<PlanType> snapshot(caches, 0);
  snapshot.restore(caches, 1);
  // 100 written, 24 slots, 11 older keys: the floor is 87, 13 below 100 and 7 below 94.
  CHECK(caches.timeline(1).rewind_floor() == Position{87});
  CHECK(contains(refusal([&] { caches.timeline(1).rewind_to({86}); }), "rewind to 87 or later"));
  caches.timeline(1).rewind_to({87});
  CHECK(sequence_of(caches, 1).wrong_rows() == 0);
  fork(caches, 1, 0);
  CHECK(contains(refusal([&] { caches.timeline(0).rewind_to({86}); }), "rewind to 87 or later"));
  CHECK(caches.timeline(0).written() == 100);
}

TEST_CASE("what cannot be restored is refused, and nothing has changed") {
  using PlanType = PlanOf<f32>;
  Caches<PlanType, Host> caches(Host{}, 300, 2), small(Host{}, 49, 1);
  sequence_of(caches, 0).append(50);
  caches.timeline(0).rewind_to({48});
  const Snapshot<PlanType> snapshot(caches, 0);
  sequence_of(small, 0).append(9, 2);
  const auto before = sequence_of(small, 0).contents();
  const std::string too_short = refusal([&] { snapshot.restore(small, 0); });
  CHECK(contains(too_short, "written up to position 49"));
  CHECK(contains(too_short, "the context holds 49 positions; plan for 50 or more"));
  CHECK(contains(refusal([&] { snapshot.restore(small, 1); }), "sequence 1 of 1"));
  CHECK(contains(refusal([&] { fork(small, 0, 1); }), "sequence 1 of 1"));
  CHECK(contains(refusal([&] { fork(small, -1, 0); }), "sequence -1 of 1"));
  CHECK(contains(refusal([&] { Snapshot<PlanType>(small, 7); }), "sequence 7 of 1"));
  CHECK(sequence_of(small, 0).contents() == before);
  CHECK(small.timeline(0).length() == 9);

  // Numbers that no sequence has, as a damaged file might hold them.
  const auto made = [](std::int64_t length, std::int64_t written, std::size_t values) {
    return refusal([&] { Snapshot<PlanType>(length, written, std::vector<float>(values)); });
  };
  const auto right = static_cast<std::size_t>(live_values_by_hand(48, 50));
  CHECK(made(48, 50, right) == "");
  CHECK(contains(made(48, 50, right - 1), "takes " + std::to_string(right) + " values"));
  CHECK(contains(made(48, 50, right + 1), std::to_string(right + 1) + " were given"));
  CHECK(contains(made(51, 50, right), "no sequence holds 51 positions of 50 written"));
  CHECK(contains(made(-1, 50, right), "no sequence holds -1"));
  CHECK(contains(made(1, std::int64_t{1} << 60, right), "no sequence holds 1"));
  CHECK(contains(made(36, 50, 0), "no appends and rewinds lead there on 24 slots"));
  CHECK(contains(made(0, 50, 0), "no appends and rewinds lead there"));
  CHECK(made(0, 0, 0) == "");
}

TEST_CASE("snapshots and forks take nothing of the back end's memory") {
  using PlanType = PlanOf<f32>;
  Ledger ledger;
  Caches<PlanType, Counting> caches(Counting(ledger), 100, 2);
  const int allocations = ledger.allocations;
  auto saved = sequence_of(caches, 0);
  saved.append(60);
  const Snapshot<PlanType> snapshot(caches, 0);
  snapshot.restore(caches, 1);
  fork(caches, 1, 0);
  CHECK(ledger.allocations == allocations);  // nothing of the back end's memory
  CHECK(saved.wrong_rows() == 0);
  CHECK(ledger.mistakes == 0);
}

namespace {

/// A back end whose memory must be copied by way of the host, as any may be.
struct Distant : Host {
  static inline long copies = 0;
  void copy(void*, const void*, std::size_t) const = delete;
  void to_host(void* to, const void* from, std::size_t bytes) const {
    ++copies;
    Host::to_host(to, from, bytes);
  }
};
static_assert(Backend<Distant>);

}  // namespace

TEST_CASE("a fork goes by way of the host where a back end has no copy of its own") {
  using PlanType = PlanOf<bf16>;
  Caches<PlanType, Distant> caches(Distant{}, 300, 2);
  auto original = sequence_of(caches, 0), copy = sequence_of(caches, 1);
  original.append(130);
  copy.poison();
  Distant::copies = 0;
  fork(caches, 0, 1);
  CHECK(copy.wrong_rows() == 0);
  // Two runs of each ring that has wrapped, one of the full cache; K and V.
  CHECK(Distant::copies == 2 * (3 * 2 + 2 + 1));
}
