// Caches: to the byte what the plan says, each row of each sequence of each layer in a place of its
// own, donors read and not paid for, and nothing lost when memory ends.
#include "kvring/cache.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ledger.hpp"
#include "refusal.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

// Three kinds, no two alike in window, kv heads or head width.
struct Narrow : Layer<Swa<12>, Heads{.q = 4, .kv = 2, .dim = 8}> {};
struct Wide : Layer<Swa<100>, Heads{.q = 6, .kv = 3, .dim = 20}> {};
struct Global : Layer<Dense, Heads{.q = 4, .kv = 1, .dim = 36}> {};

struct Mixed {
  using Layers = Hybrid<8, Repeat<2, Narrow>, Wide, Global>;
};
struct Shared {
  using Layers = Hybrid<8, Repeat<2, Narrow>, Wide, Global>;
  using Sharing = SharedKv<3>;  // layers 5, 6 and 7 read 4, 2 and 3
};
struct AllRings {
  using Layers = Hybrid<3, Narrow>;
};

template <class Model, class T>
using SmallPlan = Plan<Model, T, Chunk<5>, Rewind<7>, KeyTile<8>>;

// By hand. Narrow: 12 - 1 + 7 = 18, in tiles of 8: 24 slots of 16 values. Wide: 100 - 1 + 7 = 106:
// 112 slots of 60 values. Global: a slot a position, 36 values.
std::int64_t values_by_hand(std::int64_t context, int narrow, int wide, int global) {
  return narrow * std::min<std::int64_t>(context, 24) * 16 +
         wide * std::min<std::int64_t>(context, 112) * 60 + global * context * 36;
}

// 1; around the ring and the tile of Narrow, and around the ring of Wide; no multiple of a tile.
constexpr std::int64_t contexts[] = {1,   2,   7,   8,   9,   11,  12,  13,  23,  24,   25,
                                     26,  47,  48,  49,  100, 105, 106, 107, 111, 112,  113,
                                     119, 120, 121, 223, 224, 225, 337, 500, 999, 1000, 4096};

template <class PlanType>
void takes_what_the_plan_says(int narrow, int wide, int global) {
  for (const std::int64_t context : contexts) {
    for (std::int64_t sequences = 1; sequences <= 5; ++sequences) {
      CAPTURE(context);
      CAPTURE(sequences);
      Ledger ledger;
      {
        const Caches<PlanType, Counting> caches(Counting(ledger), context, sequences);
        const std::int64_t taken = static_cast<std::int64_t>(ledger.taken);
        REQUIRE(taken == PlanType::cache_bytes(context, sequences));
        REQUIRE(taken == 2 * sequences * values_by_hand(context, narrow, wide, global) *
                             static_cast<std::int64_t>(sizeof(typename PlanType::Element)));
        REQUIRE(ledger.allocations == narrow + wide + global);
        REQUIRE(caches.context() == context);
        REQUIRE(caches.sequences() == sequences);
      }
      REQUIRE(ledger.taken == 0);
      REQUIRE(ledger.live.empty());
      REQUIRE(ledger.mistakes == 0);
    }
  }
}

TEST_CASE_TEMPLATE("caches take exactly Plan::cache_bytes", T, f32, f16, bf16) {
  takes_what_the_plan_says<SmallPlan<Mixed, T>>(4, 2, 2);
}

TEST_CASE_TEMPLATE("layers that read a donor take nothing", T, f32, f16, bf16) {
  takes_what_the_plan_says<SmallPlan<Shared, T>>(3, 1, 1);
}

TEST_CASE_TEMPLATE("a cache of one layer takes two arrays of its capacity", T, f32, f16, bf16) {
  for (const std::int64_t context : contexts) {
    for (std::int64_t sequences = 1; sequences <= 5; ++sequences) {
      Ledger ledger;
      {
        using Placed = Placement<Narrow, Chunk<5>, Rewind<7>, KeyTile<8>>;
        KvCache<Placed, T, Counting> cache(Counting(ledger), context, sequences);
        const std::size_t slots = static_cast<std::size_t>(std::min<std::int64_t>(context, 24));
        REQUIRE(ledger.taken == 2 * sequences * slots * 16 * sizeof(T));
        REQUIRE(cache.bytes() == ledger.taken);
        const auto view = cache.view();
        REQUIRE(view.slots == static_cast<std::int64_t>(slots));
        REQUIRE(view.v - view.k == static_cast<std::int64_t>(sequences * slots * 16));
      }
      REQUIRE(ledger.taken == 0);
      REQUIRE(ledger.mistakes == 0);
    }
  }
}

TEST_CASE("a reader's view is its donor's") {
  using PlanType = SmallPlan<Shared, f32>;
  static_assert(PlanType::donor_of[5] == 4 && PlanType::donor_of[6] == 2 &&
                PlanType::donor_of[7] == 3);
  Ledger ledger;
  for (const std::int64_t context : {1, 20, 500}) {
    Caches<PlanType, Counting> caches(Counting(ledger), context, 2);
    const auto same = [](auto reader, auto donor) {
      CHECK(reader.k == donor.k);
      CHECK(reader.v == donor.v);
      CHECK(reader.slots == donor.slots);
      CHECK(reader.k != nullptr);
    };
    same(caches.view<Narrow>(5), caches.view<Narrow>(4));
    same(caches.view<Wide>(6), caches.view<Wide>(2));
    same(caches.view<Global>(7), caches.view<Global>(3));
    CHECK(caches.view<Narrow>(4).k != caches.view<Narrow>(1).k);
  }
}

/// The bytes of every row of every owner, by the view's own arithmetic.
struct Extent {
  const void *begin, *end;
  bool operator<(const Extent& other) const { return begin < other.begin; }
};

template <class View>
void collect(const View& view, std::int64_t context, std::int64_t sequences,
             std::vector<Extent>& rows) {
  for (std::int64_t sequence = 0; sequence < sequences; ++sequence) {
    for (std::int64_t p = 0; p < std::min(context, view.slots); ++p) {
      const std::int64_t row = view.row(sequence, {p});
      rows.push_back({view.k + row, view.k + row + View::heads.kv_dim()});
      rows.push_back({view.v + row, view.v + row + View::heads.kv_dim()});
    }
  }
}

TEST_CASE_TEMPLATE("trap_24_no_two_rows_overlap_and_none_leaves_its_memory", T, f32, f16, bf16) {
  using PlanType = SmallPlan<Shared, T>;
  for (const std::int64_t context : {1, 5, 23, 24, 25, 111, 113, 300}) {
    for (const std::int64_t sequences : {1, 2, 5}) {
      CAPTURE(context);
      CAPTURE(sequences);
      Ledger ledger;
      Caches<PlanType, Counting> caches(Counting(ledger), context, sequences);
      std::vector<Extent> rows;
      for (const std::int64_t layer : {0, 1, 4}) {
        collect(caches.template view<Narrow>(layer), context, sequences, rows);
      }
      collect(caches.template view<Wide>(2), context, sequences, rows);
      collect(caches.template view<Global>(3), context, sequences, rows);
      std::sort(rows.begin(), rows.end());

      std::size_t bytes = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (i > 0) REQUIRE(rows[i - 1].end <= rows[i].begin);
        auto block = ledger.live.upper_bound(const_cast<void*>(rows[i].begin));
        REQUIRE(block != ledger.live.begin());
        --block;
        const char* const end = static_cast<const char*>(block->first) + block->second;
        REQUIRE(rows[i].end <= static_cast<const void*>(end));
        bytes += static_cast<const char*>(rows[i].end) - static_cast<const char*>(rows[i].begin);
      }
      REQUIRE(bytes == ledger.taken);  // nor is there a byte that is no row's
    }
  }
}

TEST_CASE("trap_12_a_ring_of_one_context_wraps_where_its_slots_end") {
  // One past the last slot is the first again, in every sequence; a full cache never comes back.
  Ledger ledger;
  Caches<SmallPlan<Mixed, f32>, Counting> caches(Counting(ledger), 300, 3);
  const auto ring = caches.view<Narrow>(0);
  const auto full = caches.view<Global>(3);
  for (std::int64_t sequence = 0; sequence < 3; ++sequence) {
    std::int64_t slot = 0;
    for (std::int64_t p = 0; p < 300; ++p) {
      REQUIRE(ring.row(sequence, {p}) == (sequence * 24 + slot) * 16);
      REQUIRE(full.row(sequence, {p}) == (sequence * 300 + p) * 36);
      slot = slot == 23 ? 0 : slot + 1;
    }
  }
}

TEST_CASE("trap_25_a_context_of_0_is_refused_and_so_are_no_sequences") {
  using PlanType = SmallPlan<Mixed, f32>;
  using Placed = Placement<Narrow, Chunk<5>, Rewind<7>, KeyTile<8>>;
  Ledger ledger;
  for (const std::int64_t none : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{-4096},
                                  std::numeric_limits<std::int64_t>::min()}) {
    const std::string number = std::to_string(none);
    for (const std::string& message :
         {refusal([&] { Caches<PlanType, Counting>(Counting(ledger), none, 1); }),
          refusal([&] { KvCache<Placed, f32, Counting>(Counting(ledger), none, 1); })}) {
      CHECK(contains(message, "a context of " + number + " positions"));
    }
    for (const std::string& message :
         {refusal([&] { Caches<PlanType, Counting>(Counting(ledger), 10, none); }),
          refusal([&] { KvCache<Placed, f32, Counting>(Counting(ledger), 10, none); })}) {
      CHECK(contains(message, "caches for " + number + " sequences"));
    }
  }
  CHECK(ledger.allocations == 0);
}

TEST_CASE("more bytes than 64 bits count are refused, not wrapped") {
  using PlanType = SmallPlan<Mixed, f32>;
  Ledger ledger;
  const auto refuses = [&](std::int64_t context, std::int64_t sequences) {
    const int before = ledger.allocations;
    const std::string message =
        refusal([&] { Caches<PlanType, Counting>(Counting(ledger), context, sequences); });
    CHECK(contains(message, "out of memory"));
    CHECK(ledger.taken == 0);
    return ledger.allocations - before;
  };
  ledger.limit = std::size_t{1} << 20;
  for (int bit = 40; bit < 63; ++bit) {
    CAPTURE(bit);
    refuses(std::int64_t{1} << bit, 1);
    refuses((std::int64_t{1} << bit) - 1, 3);
    CHECK(refuses(10, std::int64_t{1} << bit) == 0);
  }
  refuses(std::numeric_limits<std::int64_t>::max(), 1);
  CHECK(refuses(std::numeric_limits<std::int64_t>::max(),
                std::numeric_limits<std::int64_t>::max()) == 0);
}

TEST_CASE("rings alone serve a context without end") {
  Ledger ledger;
  const Caches<SmallPlan<AllRings, f32>, Counting> caches(
      Counting(ledger), std::numeric_limits<std::int64_t>::max(), 1);
  CHECK(ledger.taken == 3 * 24 * 16 * 2 * sizeof(float));
}

TEST_CASE("out of memory at any layer is an Error with its bytes, and all is given back") {
  using PlanType = SmallPlan<Shared, bf16>;
  constexpr std::int64_t context = 200, sequences = 3;
  const std::size_t enough = static_cast<std::size_t>(PlanType::cache_bytes(context, sequences));

  std::size_t needed = 0;  // by the owners up to this one
  for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
    const std::int64_t bytes = PlanType::layer_bytes(layer, context, sequences);
    if (bytes == 0) continue;
    needed += static_cast<std::size_t>(bytes);
    Ledger ledger{.live = {}, .limit = needed - 1};
    const std::string message =
        refusal([&] { Caches<PlanType, Counting>(Counting(ledger), context, sequences); });
    CHECK(contains(message, "out of memory"));
    CHECK(contains(message, std::to_string(bytes) + " bytes"));
    CHECK(ledger.taken == 0);
    CHECK(ledger.live.empty());
    CHECK(ledger.mistakes == 0);
  }
  CHECK(needed == enough);

  Ledger exactly{.live = {}, .limit = enough};
  CHECK(refusal([&] { Caches<PlanType, Counting>(Counting(exactly), context, sequences); }) == "");
  CHECK(exactly.taken == 0);
}

TEST_CASE("moving caches moves the memory, and a view stays good") {
  using PlanType = SmallPlan<Mixed, f32>;
  Ledger ledger;
  {
    Caches<PlanType, Counting> first(Counting(ledger), 30, 2);
    first.timeline(1).append(4);
    const auto view = first.view<Wide>(2);
    Caches<PlanType, Counting> second = std::move(first);
    CHECK(second.view<Wide>(2).k == view.k);
    CHECK(second.timeline(1).length() == 4);
    second = Caches<PlanType, Counting>(Counting(ledger), 10, 1);
    CHECK(second.context() == 10);
    CHECK(static_cast<std::int64_t>(ledger.taken) == PlanType::cache_bytes(10, 1));
  }
  CHECK(ledger.taken == 0);
  CHECK(ledger.mistakes == 0);
}

TEST_CASE("each sequence has a timeline of its own; one that does not exist is refused") {
  Ledger ledger;
  Caches<SmallPlan<Mixed, f32>, Counting> caches(Counting(ledger), 30, 3);
  caches.timeline(0).append(5);
  caches.timeline(2).append(2);
  CHECK(caches.timeline(0).length() == 5);
  CHECK(caches.timeline(1).length() == 0);
  CHECK(caches.timeline(2).length() == 2);
  CHECK(contains(refusal([&] { caches.timeline(3); }), "sequence 3 of 3"));
  CHECK(contains(refusal([&] { caches.timeline(-1); }), "sequence -1 of 3"));
  // The first row of a chunk of 5 must see 11 older ones, and the ring has 24: 13 at once at most,
  // though the type promises no more than 5.
  caches.timeline(0).append(7);
  CHECK(caches.timeline(0).appendable() == 13);
  CHECK(contains(refusal([&] { caches.timeline(0).append(14); }), "14 rows at position 12"));
  CHECK(caches.timeline(0).length() == 12);
}

TEST_CASE("views are what kernels may take") {
  using View = Caches<SmallPlan<Mixed, bf16>, Host>::View<Narrow>;
  static_assert(std::is_trivially_copyable_v<View> && std::is_aggregate_v<View>);
  static_assert(std::is_same_v<View::Storage, Ring<24>> && std::is_same_v<View::Element, bf16>);
  static_assert(std::is_same_v<Caches<SmallPlan<Mixed, bf16>, Host>::View<Global>::Storage, Full>);
  CHECK(sizeof(View) == 2 * sizeof(void*) + sizeof(std::int64_t));
}

}  // namespace
