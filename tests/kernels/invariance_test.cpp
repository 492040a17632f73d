// What must not change a bit of attention: the chunk, the ring, the start, the neighbours in the
// batch, the kernel, the number of threads, the second run.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "attention.hpp"
#include "kvring/kernels/attend.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr Scores plain{.scale = 0.3f, .softcap = 0};
constexpr Scores capped{.scale = 0.9f, .softcap = 4};

/// A shape under test. Windows are such that rings wrap many times within the prompts.
template <class P, std::int64_t TileKeys, Heads H, class E>
struct Shape {
  using Policy = P;
  using T = E;
  static constexpr std::int64_t tile = TileKeys;
  static constexpr Heads heads = H;
  using Rows = Prompt<H, E>;
  using Cache = TestCache<H, E>;

  static std::int64_t slots(std::int64_t chunk, std::int64_t context) {
    return P::window == unbounded ? context : ring_slots(P::window, chunk, TileKeys);
  }
};

#define KVRING_SHAPES                                              \
  Shape<Swa<20>, 4, Heads{.q = 6, .kv = 2, .dim = 16}, f32>,       \
      Shape<Swa<20>, 4, Heads{.q = 6, .kv = 2, .dim = 16}, f16>,   \
      Shape<Swa<20>, 4, Heads{.q = 6, .kv = 2, .dim = 16}, bf16>,  \
      Shape<Swa<1>, 1, Heads{.q = 3, .kv = 3, .dim = 7}, bf16>,    \
      Shape<Swa<100>, 64, Heads{.q = 5, .kv = 1, .dim = 40}, f16>, \
      Shape<Dense, 64, Heads{.q = 4, .kv = 1, .dim = 36}, bf16>

template <class Kernel, class S>
std::vector<float> whole(const typename S::Rows& prompt, Scores scores) {
  // One chunk over a full cache: nothing wraps, nothing is cut.
  TestCache<S::heads, typename S::T, Full> cache(1, prompt.end());
  return prefill<Kernel, typename S::Policy, S::tile>(cache, 0, prompt, prompt.rows, scores);
}

TEST_CASE_TEMPLATE("chunks of 1, 7, 64, 512 and the whole, in rings and in full caches", S,
                   KVRING_SHAPES) {
  const typename S::Rows prompt(1, 600);
  for (const Scores scores : {plain, capped}) {
    const std::vector<float> right = whole<ByScalar, S>(prompt, scores);
    with_each_kernel([&](auto kernel) {
      using Kernel = decltype(kernel);
      for (const std::int64_t chunk : {1, 7, 64, 512, 600}) {
        CAPTURE(chunk);
        typename S::Cache ring(1, S::slots(chunk, 600));
        CHECK(!differing_bits(
            prefill<Kernel, typename S::Policy, S::tile>(ring, 0, prompt, chunk, scores), right));
        CHECK(ring.guards_are_intact());
      }
    });
  }
}

TEST_CASE_TEMPLATE("a chunk that begins at any slot of the ring", S, KVRING_SHAPES) {
  constexpr std::int64_t chunk = 9;
  const std::int64_t slots = S::slots(chunk, 300),
                     length = std::min<std::int64_t>(300, 2 * slots + chunk);
  const typename S::Rows prompt(2, length);
  const std::vector<float> right = whole<ByScalar, S>(prompt, plain);
  with_each_kernel([&](auto kernel) {
    for (std::int64_t start = 0; start + chunk <= length; ++start) {
      typename S::Cache cache(1, slots);
      for (std::int64_t p = 0; p < start;) {
        const std::int64_t rows = std::min(chunk, start - p);
        append(cache, std::vector<Piece<typename S::Rows>>{{0, &prompt, p, rows}});
        p += rows;
      }
      const std::vector<Piece<typename S::Rows>> piece{{0, &prompt, start, chunk}};
      append(cache, piece);
      const std::vector<float> results =
          attend<decltype(kernel), typename S::Policy, S::tile>(cache, piece, plain);
      const auto begin = right.begin() + start * S::heads.q_dim();
      REQUIRE(!differing_bits(results, {begin, begin + chunk * S::heads.q_dim()}));
    }
  });
}

TEST_CASE_TEMPLATE("any ring that is long enough", S, KVRING_SHAPES) {
  constexpr std::int64_t chunk = 5, length = 260;
  const typename S::Rows prompt(3, length);
  const std::vector<float> right = whole<ByHost, S>(prompt, plain);
  with_each_kernel([&](auto kernel) {
    for (std::int64_t more = 0; more < 6; ++more) {
      const std::int64_t slots = S::slots(chunk, length) + more * S::tile;
      typename S::Cache cache(1, slots);
      REQUIRE(!differing_bits(
          prefill<decltype(kernel), typename S::Policy, S::tile>(cache, 0, prompt, chunk, plain),
          right));
    }
  });
}

TEST_CASE_TEMPLATE("trap_17_a_ragged_batch_gives_each_sequence_what_it_gets_alone", S,
                   KVRING_SHAPES) {
  constexpr std::int64_t chunk = 16;
  const std::int64_t window = S::Policy::window == unbounded ? 40 : S::Policy::window;
  const std::int64_t ring = ring_slots(window, chunk, S::tile);
  const std::vector<std::int64_t> lengths{1, window, window + 1, ring, 3 * ring + 5};
  std::vector<typename S::Rows> prompts;
  std::vector<std::vector<float>> alone;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    prompts.emplace_back(10 + s, lengths[s]);
    alone.push_back(whole<ByScalar, S>(prompts[s], plain));
  }
  const std::int64_t slots = S::slots(chunk, lengths.back());

  with_each_kernel([&](auto kernel) {
    for (const bool ends_together : {false, true}) {
      typename S::Cache cache(5, slots);
      std::vector<std::int64_t> done(5, 0);
      std::vector<std::vector<float>> results(5);
      Random random(7);
      while (done != lengths) {
        std::vector<Piece<typename S::Rows>> pieces;
        for (const std::size_t s : {3, 0, 4, 2, 1}) {
          const std::int64_t left = lengths[s] - done[s];
          const bool waits = ends_together && left < lengths.back() - done.back();
          const std::int64_t rows = std::min(left, random.between(0, chunk));
          if (rows == 0 || waits) continue;
          pieces.push_back({static_cast<std::int64_t>(s), &prompts[s], done[s], rows});
        }
        if (pieces.empty()) continue;
        append(cache, pieces);
        const std::vector<float> out =
            attend<decltype(kernel), typename S::Policy, S::tile>(cache, pieces, plain);
        auto from = out.begin();
        for (const auto& piece : pieces) {
          const std::size_t s = static_cast<std::size_t>(piece.sequence);
          results[s].insert(results[s].end(), from, from + piece.rows * S::heads.q_dim());
          from += piece.rows * S::heads.q_dim();
          done[s] += piece.rows;
        }
      }
      for (std::size_t s = 0; s < 5; ++s) {
        CAPTURE(s);
        CHECK(!differing_bits(results[s], alone[s]));
      }
      CHECK(cache.guards_are_intact());
    }
  });
}

TEST_CASE_TEMPLATE("the library's attend, on all threads, twice", S, KVRING_SHAPES) {
  const typename S::Rows first(20, 150), second(21, 77);
  const std::int64_t slots = S::slots(150, 150);
  typename S::Cache cache(2, slots);
  const std::vector<Piece<typename S::Rows>> pieces{{1, &first, 0, 150}, {0, &second, 0, 77}};
  append(cache, pieces);
  const std::vector<float> right =
      attend<ByScalar, typename S::Policy, S::tile>(cache, pieces, capped);

  const Launch launch(pieces);
  for (int time = 0; time < 2; ++time) {
    std::vector<float> out(right.size());
    kvring::attend(Host{}, typename S::Policy{}, KeyTile<S::tile>{}, cache.view(), launch.batch(),
                   launch.batch(), launch.q.data(), out.data(), capped);
    CHECK(!differing_bits(out, right));
  }
}

TEST_CASE("for_each calls every index once") {
  for (const std::int64_t count : {0, 1, 2, 3, 100, 10'007}) {
    std::vector<int> calls(static_cast<std::size_t>(count), 0);
    int* const to = calls.data();
    for_each(Host{}, count, [to](std::int64_t i) { ++to[i]; });
    CHECK(std::count(calls.begin(), calls.end(), 1) == count);
    std::vector<int> ordered(static_cast<std::size_t>(count), 0);
    int* const from = ordered.data();
    const auto one = [from](std::int64_t i) { ++from[i]; };
    for_each(Host{}, count, kvring::detail::FromBothEnds<decltype(one)>{one, count});
    CHECK(std::count(ordered.begin(), ordered.end(), 1) == count);
  }
}

TEST_CASE_TEMPLATE("zeros and minus zeros among the values", T, f32, f16, bf16) {
  // A sum that begins with -0 and adds 0 must do so in both kernels.
  constexpr Heads heads{.q = 4, .kv = 2, .dim = 24};
  Prompt<heads, T> prompt(30, 90);
  Random random(31);
  for (float& x : prompt.v)
    x = random.between(0, 2) == 0 ? x : (random.between(0, 1) ? 0.0f : -0.0f);
  for (float& x : prompt.k) x = random.between(0, 2) == 0 ? x : -0.0f;
  std::fill_n(prompt.v.begin(), 60 * heads.kv_dim(), -0.0f);
  TestCache<heads, T> one(1, 48), other(1, 48);
  CHECK(!differing_bits(prefill<ByScalar, Swa<33>, 16>(one, 0, prompt, 16, plain),
                        prefill<ByHost, Swa<33>, 16>(other, 0, prompt, 16, plain)));
}

}  // namespace
