// Plan: bytes against a recount from the numbers of the model, and their inverse; Timeline.
#include "kvring/plan.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>

using namespace kvring;

namespace {

constexpr std::int64_t mib = 1 << 20;

// Gemma 4, by their published numbers: E4B has 2 kv heads of 256 (local) and 512 (global), 12B has
// 8 kv heads of 256 (local) and one of 512 (global).
struct E4B {
  using Local = Layer<Swa<512>, Heads{.q = 8, .kv = 2, .dim = 256}>;
  using Global = Layer<Dense, Heads{.q = 8, .kv = 2, .dim = 512}>;
  using Layers = Hybrid<42, Repeat<5, Local>, Global>;
  using Sharing = SharedKv<18>;
};
struct Gemma4_12B {
  using Local = Layer<Swa<1024>, Heads{.q = 16, .kv = 8, .dim = 256}>;
  using Global = Layer<Dense, Heads{.q = 16, .kv = 1, .dim = 512}>;
  using Layers = Hybrid<48, Repeat<5, Local>, Global>;
};

template <class Model, class T>
using SeedPlan = Plan<Model, T, Chunk<4096>, Rewind<64>>;
using E4BPlan = SeedPlan<E4B, bf16>;

static_assert(E4BPlan::layers == 42 && E4BPlan::kinds == 2 && E4BPlan::chunk == 4096);
static_assert(E4BPlan::rewind == 64 && E4BPlan::key_tile == 64);
static_assert(E4BPlan::ring_slots<0>() == 4608 && E4BPlan::ring_slots<40>() == 4608);
static_assert(SeedPlan<Gemma4_12B, f32>::ring_slots<0>() == 5120);
static_assert(E4BPlan::cache_bytes(131'072) < 3'000'000'000);
static_assert(E4BPlan::owns_cache(23) && !E4BPlan::owns_cache(24));
static_assert(E4BPlan::donor_of[24] == 22 && E4BPlan::donor_of[29] == 23);
static_assert(E4BPlan::row_bytes(0) == 2 * 2 * 256 * 2 && E4BPlan::row_bytes(5) == 2 * 2 * 512 * 2);
static_assert(E4BPlan::layer_bytes(0, 10'000) == 4608 * 2048);
static_assert(E4BPlan::layer_bytes(5, 10'000) == 10'000 * 4096);
static_assert(E4BPlan::layer_bytes(24, 10'000) == 0 && E4BPlan::layer_bytes(41, 10'000) == 0);
static_assert(std::same_as<E4BPlan::PlacementOf<E4B::Local>::Storage, Ring<4608>>);
static_assert(std::same_as<E4BPlan::PlacementOf<E4B::Global>::Storage, Full>);

// 20 locals of 512 values and 4 globals of 1,024 own a cache, K and V.
constexpr std::int64_t e4b_by_hand(std::int64_t context, std::int64_t bytes) {
  const std::int64_t local = context < 4608 ? context : 4608;
  return (20 * local * 512 + 4 * context * 1024) * 2 * bytes;
}
// 40 locals of 2,048 values, 8 globals of 512.
constexpr std::int64_t gemma4_12b_by_hand(std::int64_t context, std::int64_t bytes) {
  const std::int64_t local = context < 5120 ? context : 5120;
  return (40 * local * 2048 + 8 * context * 512) * 2 * bytes;
}

template <class Model, class T>
constexpr std::int64_t in_mib(std::int64_t context) {
  return SeedPlan<Model, T>::cache_bytes(context) / mib;
}
static_assert(in_mib<E4B, f32>(4'096) == 448 && in_mib<E4B, bf16>(4'096) == 224);
static_assert(in_mib<E4B, f32>(6'144) == 552 && in_mib<E4B, bf16>(6'144) == 276);
static_assert(in_mib<E4B, f32>(9'216) == 648 && in_mib<E4B, bf16>(9'216) == 324);
static_assert(in_mib<E4B, f32>(32'768) == 1384 && in_mib<E4B, bf16>(32'768) == 692);
static_assert(in_mib<E4B, f32>(131'072) == 4456 && in_mib<E4B, bf16>(131'072) == 2228);
static_assert(in_mib<Gemma4_12B, f32>(8'192) == 3456 && in_mib<Gemma4_12B, bf16>(8'192) == 1728);
static_assert(in_mib<Gemma4_12B, f32>(32'768) == 4224 && in_mib<Gemma4_12B, bf16>(32'768) == 2112);
static_assert(in_mib<Gemma4_12B, f32>(262'144) == 11'392);
static_assert(in_mib<Gemma4_12B, f16>(262'144) == 5'696);

// Without rings.
static_assert(SeedPlan<E4B, f32>::full_cache_bytes(4'096) == 448 * mib);
static_assert(SeedPlan<E4B, f32>::full_cache_bytes(6'144) == 672 * mib);
static_assert(SeedPlan<E4B, f32>::full_cache_bytes(131'072) == 14'336 * mib);
static_assert(SeedPlan<Gemma4_12B, f32>::full_cache_bytes(262'144) == 172'032 * mib);

// Small models, so that every number of bytes can be tried.
struct Small {
  using Local = Layer<Swa<4>, Heads{.q = 2, .kv = 1, .dim = 2}>;
  using Wide = Layer<Swa<7>, Heads{.q = 2, .kv = 2, .dim = 1}>;
  using Global = Layer<Dense, Heads{.q = 2, .kv = 1, .dim = 3}>;
  using Layers = Hybrid<5, Local, Wide, Global, Tail<Local, Local>>;
  using Sharing = SharedKv<1>;
};
struct WideFirst {
  using Layers = Hybrid<2, Small::Wide, Small::Local>;
};
struct AllRings {
  using Local = Layer<Swa<4>, Heads{.q = 1, .kv = 1, .dim = 1}>;
  using Layers = Hybrid<3, Local>;
};
struct AllDense {
  using Global = Layer<Dense, Heads{.q = 1, .kv = 1, .dim = 1}>;
  using Layers = Hybrid<2, Global>;
};
using SmallPlan = Plan<Small, f16, Chunk<3>, Rewind<5>, KeyTile<4>>;
static_assert(SmallPlan::ring_slots<0>() == 8 && SmallPlan::ring_slots<1>() == 12);

std::int64_t small_by_hand(std::int64_t context) {
  const std::int64_t local = context < 8 ? context : 8, wide = context < 12 ? context : 12;
  return 2 * 2 * (2 * local * 2 + wide * 2 + context * 3);  // two locals own, the third shares
}

template <class PlanType>
void check_max_context_inverts(std::int64_t most_bytes, std::int64_t sequences) {
  std::int64_t fits = 0;  // counted up along with the bytes
  std::int64_t wrong = 0;
  for (std::int64_t bytes = 0; bytes <= most_bytes; ++bytes) {
    while (PlanType::cache_bytes(fits + 1, sequences) <= bytes) ++fits;
    wrong += PlanType::max_context(bytes, sequences) != fits;
  }
  CHECK(fits > 20);
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("bytes are rows times slots times what owns them") {
  for (std::int64_t context = 1; context <= 300'000; context += context < 6'000 ? 1 : 997) {
    REQUIRE(SeedPlan<E4B, f32>::cache_bytes(context) == e4b_by_hand(context, 4));
    REQUIRE(E4BPlan::cache_bytes(context) == e4b_by_hand(context, 2));
    REQUIRE(SeedPlan<Gemma4_12B, f32>::cache_bytes(context) == gemma4_12b_by_hand(context, 4));
    REQUIRE(SeedPlan<Gemma4_12B, f16>::cache_bytes(context, 3) ==
            3 * gemma4_12b_by_hand(context, 2));
  }
  for (std::int64_t context = 0; context <= 40; ++context) {
    for (std::int64_t sequences = 1; sequences <= 5; ++sequences) {
      CHECK(SmallPlan::cache_bytes(context, sequences) == sequences * small_by_hand(context));
      std::int64_t layers = 0;
      for (std::int64_t i = 0; i < 5; ++i) layers += SmallPlan::layer_bytes(i, context, sequences);
      CHECK(layers == SmallPlan::cache_bytes(context, sequences));
    }
  }
}

TEST_CASE("max_context inverts cache_bytes for every number of bytes") {
  for (const std::int64_t sequences : {1, 2, 3, 7}) {
    check_max_context_inverts<SmallPlan>(1'000 * sequences, sequences);
    check_max_context_inverts<Plan<AllDense, f32, Chunk<2>>>(1'000 * sequences, sequences);
  }
}

TEST_CASE("max_context is exact at the sizes of real models") {
  using RealPlan = SeedPlan<E4B, bf16>;
  for (const std::int64_t sequences : {1, 3, 16}) {
    for (const std::int64_t context : {1, 2, 700, 4'607, 4'608, 4'609, 9'216, 131'072, 1'000'003}) {
      const std::int64_t bytes = RealPlan::cache_bytes(context, sequences);
      CHECK(RealPlan::max_context(bytes, sequences) == context);
      CHECK(RealPlan::max_context(bytes - 1, sequences) == context - 1);
      CHECK(RealPlan::max_context(bytes + 1, sequences) == context);
    }
  }
}

TEST_CASE("max_context holds for thousands of sequences and for more bytes than exist") {
  using RealPlan = SeedPlan<Gemma4_12B, f32>;
  const std::int64_t bytes = RealPlan::cache_bytes(10'000, 4'096);
  CHECK(RealPlan::max_context(bytes, 4'096) == 10'000);
  CHECK(RealPlan::max_context(bytes - 1, 4'096) == 9'999);
  CHECK(RealPlan::max_context(unbounded) > 1'000'000'000);
  CHECK(RealPlan::max_context(0) == 0);
  CHECK(RealPlan::max_context(-1) == 0);
}

TEST_CASE("a model of rings alone has no longest context, once its rings fit") {
  using RingPlan = Plan<AllRings, f32, Chunk<2>, Rewind<0>, KeyTile<1>>;
  const std::int64_t rings = 3 * 5 * 2 * 4;  // layers, slots, K and V, bytes
  CHECK(RingPlan::cache_bytes(5) == rings);
  CHECK(RingPlan::cache_bytes(1'000'000) == rings);
  CHECK(RingPlan::max_context(rings) == unbounded);
  CHECK(RingPlan::max_context(rings - 1) == 4);
  CHECK(RingPlan::max_context(2 * rings, 2) == unbounded);
  CHECK(RingPlan::max_context(2 * rings - 1, 2) == 4);
}

TEST_CASE("a plan's live ranges have the numbers of its caches") {
  const auto ranges = E4BPlan::live_ranges(10'000);
  CHECK(ranges.size() == 2);
  CHECK(ranges[0].slots() == 4608);
  CHECK(ranges[1].slots() == 10'000);
  const auto cut = E4BPlan::live_ranges(700);
  CHECK(cut[0].slots() == 700);
  CHECK(cut[1].slots() == 700);
}

TEST_CASE("with_kind visits the kind of that index") {
  CHECK(SmallPlan::with_kind(0, [](auto kind) { return decltype(kind)::type::heads.dim; }) == 2);
  CHECK(SmallPlan::with_kind(1, [](auto kind) { return decltype(kind)::type::heads.dim; }) == 1);
  CHECK(SmallPlan::with_kind(2, [](auto kind) { return decltype(kind)::type::heads.dim; }) == 3);
}

TEST_CASE("a timeline allows what every kind of layer allows") {
  // Headroom of the locals 8 - 3 = 5, of the wide ones 12 - 6 = 6; the context holds 30.
  Timeline<SmallPlan> timeline(30);
  CHECK(timeline.appendable() == 8);
  timeline.append(8);
  CHECK(timeline.appendable() == 5);
  for (int i = 0; i < 12; ++i) timeline.append(1);
  CHECK(timeline.length() == 20);
  CHECK(timeline.rewind_floor() == Position{15});

  // A layer alone would allow it; what refuses is another, and nothing has moved anywhere.
  CHECK(timeline.range_of_kind(1).may_append(6));
  CHECK_THROWS_AS(timeline.append(6), Error);
  CHECK(timeline.range_of_kind(1).may_rewind_to({14}));
  CHECK_THROWS_AS(timeline.rewind_to({14}), Error);
  for (int kind = 0; kind < 3; ++kind) {
    CHECK(timeline.range_of_kind(kind).length() == 20);
    CHECK(timeline.range_of_kind(kind).written() == 20);
  }

  Timeline<Plan<WideFirst, f16, Chunk<3>, Rewind<5>, KeyTile<4>>> wide_first(30);
  for (int i = 0; i < 20; ++i) wide_first.append(1);
  CHECK_THROWS_AS(wide_first.append(6), Error);  // the first kind would allow it
  CHECK(wide_first.range_of_kind(0).length() == 20);
  CHECK_THROWS_AS(wide_first.rewind_to({14}), Error);
  CHECK(wide_first.range_of_kind(0).length() == 20);
  wide_first.rewind_to({0});
  CHECK(wide_first.range_of_kind(0).may_resume(14, 20));
  CHECK_THROWS_AS(wide_first.resume(14, 20), Error);
  CHECK(wide_first.range_of_kind(0).length() == 0);
  wide_first.resume(15, 20);
  CHECK(wide_first.length() == 15);
  CHECK(wide_first.written() == 20);

  timeline.rewind_to({15});
  for (int kind = 0; kind < 3; ++kind) CHECK(timeline.range_of_kind(kind).length() == 15);
  for (int i = 0; i < 3; ++i) timeline.append(5);
  CHECK(timeline.length() == 30);
  CHECK(timeline.appendable() == 0);
  CHECK_THROWS_AS(timeline.append(1), Error);
  timeline.rewind_to({0});
  CHECK(timeline.appendable() == 8);
}
