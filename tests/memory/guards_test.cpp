// Rows appended far past the wrap of every ring: no byte beside a layer's memory is touched, and
// within it only the row of that position.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kvring/cache.hpp"
#include "kvring/kernels/append.hpp"
#include "ledger.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

struct Narrow : Layer<Swa<12>, Heads{.q = 4, .kv = 2, .dim = 8}> {};
struct Odd : Layer<Swa<5>, Heads{.q = 3, .kv = 3, .dim = 7}> {};
struct Global : Layer<Dense, Heads{.q = 4, .kv = 1, .dim = 20}> {};
struct Model {
  using Layers = Hybrid<8, Narrow, Odd, Global, Narrow>;
  using Sharing = SharedKv<2>;  // layers 6 and 7 read 2 and 4
};
template <class T>
using SmallPlan = Plan<Model, T, Chunk<6>, Rewind<9>, KeyTile<4>>;

/// Says which sequence, layer and position a row belongs to, in small integers: exact in bf16.
float mark(std::int64_t layer, std::int64_t sequence, std::int64_t position, bool is_v) {
  return static_cast<float>((position * 31 + sequence * 7 + layer * 2 + is_v) % 251 + 1);
}

template <class Kind, class T>
void append(Caches<SmallPlan<T>, Guarded>& caches, std::int64_t layer,
            const std::vector<Segment>& segments) {
  std::vector<float> k, v;
  std::int64_t rows = 0;
  for (const Segment& segment : segments) {
    for (std::int64_t i = 0; i < segment.rows; ++i, ++rows) {
      const std::int64_t p = segment.start.value + i;
      k.insert(k.end(), Kind::heads.kv_dim(), mark(layer, segment.sequence, p, false));
      v.insert(v.end(), Kind::heads.kv_dim(), mark(layer, segment.sequence, p, true));
    }
  }
  const auto view = caches.template view<Kind>(layer);
  const Append<std::remove_const_t<decltype(view)>> kernel{
      view,
      {segments.data(), static_cast<std::int64_t>(segments.size()), rows},
      k.data(),
      v.data()};
  for (std::int64_t row = 0; row < rows; ++row) kernel(row);
}

/// Rows of a layer that are not those of the newest positions of its sequences.
template <class Kind, class T>
int wrong_rows(Caches<SmallPlan<T>, Guarded>& caches, std::int64_t layer,
               const std::vector<std::int64_t>& lengths) {
  const auto view = caches.template view<Kind>(layer);
  std::array<unsigned char, sizeof(T)> untouched;
  untouched.fill(Guarded::canary);
  int wrong = 0;
  for (std::int64_t sequence = 0; sequence < caches.sequences(); ++sequence) {
    std::vector<std::int64_t> holds(static_cast<std::size_t>(view.slots), -1);
    std::int64_t slot = 0;
    for (std::int64_t p = 0; p < lengths[static_cast<std::size_t>(sequence)]; ++p) {
      holds[static_cast<std::size_t>(slot)] = p;
      slot = slot + 1 == view.slots ? 0 : slot + 1;
    }
    for (std::int64_t s = 0; s < view.slots; ++s) {
      const std::int64_t p = holds[static_cast<std::size_t>(s)];
      for (std::int64_t i = 0; i < Kind::heads.kv_dim(); ++i) {
        const std::int64_t at = (sequence * view.slots + s) * Kind::heads.kv_dim() + i;
        if (p < 0) {
          wrong += std::memcmp(&view.k[at], untouched.data(), sizeof(T)) != 0;
          wrong += std::memcmp(&view.v[at], untouched.data(), sizeof(T)) != 0;
        } else {
          wrong += to_f32(view.k[at]) != mark(layer, sequence, p, false);
          wrong += to_f32(view.v[at]) != mark(layer, sequence, p, true);
        }
      }
    }
  }
  return wrong;
}

/// Sequences that grow in a random order by random chunks, until each has `context` positions.
template <class T>
void grow(std::int64_t context, std::int64_t sequences, unsigned seed) {
  CAPTURE(context);
  CAPTURE(sequences);
  Ledger ledger;
  const Guarded backend(ledger);
  Caches<SmallPlan<T>, Guarded> caches(backend, context, sequences);
  REQUIRE(ledger.allocations == 6);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(sequences), 0);
  std::mt19937 random(seed);

  for (int step = 0; *std::min_element(lengths.begin(), lengths.end()) < context; ++step) {
    std::vector<Segment> segments;
    std::int64_t rows = 0;
    for (std::int64_t s = sequences - 1; s >= 0; --s) {  // not in the order of the cache
      const std::int64_t left = context - lengths[static_cast<std::size_t>(s)];
      const std::int64_t n = std::min<std::int64_t>(left, random() % 7);
      if (n == 0) continue;
      segments.push_back({.sequence = s,
                          .start = {lengths[static_cast<std::size_t>(s)]},
                          .first_row = rows,
                          .rows = n});
      caches.timeline(s).append(n);
      lengths[static_cast<std::size_t>(s)] += n;
      rows += n;
    }
    if (segments.empty()) continue;
    for (const std::int64_t layer : {0, 3, 4}) append<Narrow>(caches, layer, segments);
    for (const std::int64_t layer : {1, 5}) append<Odd>(caches, layer, segments);
    append<Global>(caches, 2, segments);

    REQUIRE(backend.damage() == 0);
    if (step % 16 != 0) continue;
    for (const std::int64_t layer : {0, 3, 4}) {
      REQUIRE(wrong_rows<Narrow>(caches, layer, lengths) == 0);
    }
    for (const std::int64_t layer : {1, 5}) REQUIRE(wrong_rows<Odd>(caches, layer, lengths) == 0);
    REQUIRE(wrong_rows<Global>(caches, 2, lengths) == 0);
  }
  for (const std::int64_t layer : {0, 3, 4}) {
    CHECK(wrong_rows<Narrow>(caches, layer, lengths) == 0);
  }
  for (const std::int64_t layer : {1, 5}) CHECK(wrong_rows<Odd>(caches, layer, lengths) == 0);
  CHECK(wrong_rows<Global>(caches, 2, lengths) == 0);
}

TEST_CASE_TEMPLATE("trap_01_rings_wrap_within_their_memory", T, f32, f16, bf16) {
  for (const std::int64_t context : {1, 3, 4, 5, 12, 20, 21, 150}) grow<T>(context, 1, 1);
}

TEST_CASE_TEMPLATE("trap_30_many_sequences_in_one_allocation_keep_to_their_rows", T, f32, f16,
                   bf16) {
  for (unsigned seed = 0; seed < 6; ++seed) grow<T>(80 + seed, 2 + seed % 4, seed);
}

TEST_CASE("the bands notice a byte too many") {
  Ledger ledger;
  const Guarded backend(ledger);
  Caches<SmallPlan<f32>, Guarded> caches(backend, 150, 2);
  const auto view = caches.view<Narrow>(0);
  // One past the last row, and one before the first.
  const std::int64_t past = 2 * view.slots * Narrow::heads.kv_dim();
  view.v[past] = 1;
  CHECK(backend.damage() >= 3);  // a byte of 1.0f may be the canary's
  std::fill_n(reinterpret_cast<unsigned char*>(view.v + past), sizeof(float), Guarded::canary);
  CHECK(backend.damage() == 0);
  view.k[-1] = 1;
  CHECK(backend.damage() >= 3);
  std::fill_n(reinterpret_cast<unsigned char*>(view.k - 1), sizeof(float), Guarded::canary);
}

}  // namespace
