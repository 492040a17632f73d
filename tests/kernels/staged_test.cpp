// Staged chunks give the bits of chunks that are appended first: in rings of W - 1 + max(B, 1)
// slots, for any schedule of chunks and rewinds.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kvring/live_range.hpp"
#include "test_stage.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr Scores plain{.scale = 0.3f, .softcap = 0};
constexpr Scores capped{.scale = 0.9f, .softcap = 4};

template <std::int64_t W, std::int64_t B, std::int64_t TileKeys, Heads H, class E>
struct Shape {
  using Policy = Swa<W>;
  using T = E;
  static constexpr std::int64_t window = W, rewind = B, tile = TileKeys;
  static constexpr Heads heads = H;
  using Rows = Prompt<H, E>;
  using Ring = TestCache<H, E>;
  using Stage = TestStage<H, E, TileKeys>;
  static constexpr std::int64_t slots = round_up(detail::ring_slots_needed(W, 1, B), TileKeys);
};

#define KVRING_STAGED_SHAPES                                    \
  Shape<20, 5, 4, Heads{.q = 6, .kv = 2, .dim = 16}, f32>,      \
      Shape<20, 5, 4, Heads{.q = 6, .kv = 2, .dim = 16}, f16>,  \
      Shape<20, 5, 4, Heads{.q = 6, .kv = 2, .dim = 16}, bf16>, \
      Shape<1, 0, 1, Heads{.q = 3, .kv = 3, .dim = 7}, bf16>,   \
      Shape<3, 2, 16, Heads{.q = 2, .kv = 2, .dim = 5}, f32>,   \
      Shape<100, 30, 64, Heads{.q = 5, .kv = 1, .dim = 40}, f16>

template <class S>
std::vector<float> whole(const typename S::Rows& prompt, Scores scores) {
  TestCache<S::heads, typename S::T, Full> cache(1, prompt.end());
  return prefill<ByScalar, typename S::Policy, S::tile>(cache, 0, prompt, prompt.rows, scores);
}

/// Whatever is not live becomes NaN.
template <class S>
void poison(typename S::Ring& ring, std::int64_t sequence, const LiveRange& range) {
  ring.fill_all_but(sequence, range.oldest_live().value, range.length() - 1, ring.not_a_number());
}

TEST_CASE_TEMPLATE("staged, with headroom and full: chunks of 1, 7, 64, 512 and the whole", S,
                   KVRING_STAGED_SHAPES) {
  constexpr std::int64_t length = 600;
  const typename S::Rows prompt(1, length);
  for (const Scores scores : {plain, capped}) {
    const std::vector<float> right = whole<S>(prompt, scores);
    with_each_kernel([&](auto kernel) {
      using Kernel = decltype(kernel);
      for (const std::int64_t chunk : {1, 7, 64, 512, 600}) {
        CAPTURE(chunk);
        typename S::Ring headroom(1, ring_slots(S::window, chunk, S::tile)), ring(1, S::slots);
        CHECK(!differing_bits(
            prefill<Kernel, typename S::Policy, S::tile>(headroom, 0, prompt, chunk, scores),
            right));

        typename S::Stage stage(chunk, 1);
        std::vector<float> staged;
        for (std::int64_t p = 0; p < length; p += chunk) {
          ring.fill_all_but(0, std::max<std::int64_t>(0, p - (S::window - 1)), p - 1,
                            ring.not_a_number());  // nothing but the window is read
          const std::vector<Piece<typename S::Rows>> piece{
              {0, &prompt, p, std::min(chunk, length - p)}};
          const std::vector<float> out =
              stage.template attend<Kernel, typename S::Policy>(ring, piece, scores);
          staged.insert(staged.end(), out.begin(), out.end());
        }
        CHECK(!differing_bits(staged, right));
        CHECK(ring.guards_are_intact());
        CHECK(stage.guards_are_intact());
      }
    });
  }
}

TEST_CASE_TEMPLATE("any schedule of chunks in place, staged chunks and rewinds, ragged", S,
                   KVRING_STAGED_SHAPES) {
  constexpr std::int64_t length = 500, longest = 150, sequences = 3;
  const typename S::Rows prompt(2, length);
  const std::vector<float> right = whole<S>(prompt, plain);
  with_each_kernel([&](auto kernel) {
    Random random(3);
    typename S::Ring ring(sequences, S::slots);
    typename S::Stage stage(sequences * longest, sequences);
    std::vector<LiveRange> ranges(sequences, LiveRange(S::slots, S::window, length, longest));
    long in_place = 0, staged = 0, rewinds = 0;
    for (int step = 0; step < 120; ++step) {
      std::vector<Piece<typename S::Rows>> pieces;
      const std::int64_t most =
          random.between(0, 1) == 0 ? longest : random.log_between(1, longest);
      bool fits = true;
      for (std::int64_t s = sequences - 1; s >= 0; --s) {  // in another order than the cache's
        LiveRange& range = ranges[static_cast<std::size_t>(s)];
        if (random.between(0, 3) == 0) {
          const std::int64_t floor = range.rewind_floor().value;
          const std::int64_t back = random.between(0, range.length() - floor);
          range.rewind_to({range.length() == length ? 0 : range.length() - back});
          ++rewinds;
        }
        if (random.between(0, 4) == 0) continue;
        poison<S>(ring, s, range);
        const std::int64_t rows = random.between(0, std::min(most, range.appendable()));
        if (rows == 0) continue;
        pieces.push_back({s, &prompt, range.length(), rows});
        fits = fits && rows <= range.appendable_in_place();
        range.append(rows);
      }
      if (pieces.empty()) continue;
      std::vector<float> out;
      if (fits) {
        append(ring, pieces);
        out = attend<decltype(kernel), typename S::Policy, S::tile>(ring, pieces, plain);
      } else {
        out = stage.template attend<decltype(kernel), typename S::Policy>(ring, pieces, plain);
      }
      (fits ? in_place : staged) += 1;
      std::vector<float> expected;
      for (const auto& piece : pieces) {
        const auto from = right.begin() + piece.start * S::heads.q_dim();
        expected.insert(expected.end(), from, from + piece.rows * S::heads.q_dim());
      }
      REQUIRE(!differing_bits(out, expected));
    }
    CHECK(in_place > 10);
    CHECK(staged > 10);
    CHECK(rewinds > 50);
    CHECK(ring.guards_are_intact());
    CHECK(stage.guards_are_intact());
  });
}

TEST_CASE("a part of the staged rows attends") {
  using S = Shape<20, 5, 4, Heads{.q = 6, .kv = 2, .dim = 16}, f32>;
  const S::Rows prompt(4, 70);
  const std::vector<float> right = whole<S>(prompt, plain);
  S::Ring ring(1, S::slots);
  S::Stage stage(41, 1);
  const std::vector<Piece<S::Rows>> before{{0, &prompt, 0, 29}}, chunk{{0, &prompt, 29, 41}};
  stage.attend<ByHost, S::Policy>(ring, before, plain);
  const Launch launch(chunk);
  const auto staged = stage.view(ring, launch.batch());
  open_stage(Host{}, staged);
  append_rows(Host{}, staged, launch.batch(), launch.k.data(), launch.v.data());
  with_each_kernel([&](auto kernel) {
    for (std::int64_t first = 0; first < 41; ++first) {
      const Segment rest{.sequence = 0, .start = {29 + first}, .first_row = 0, .rows = 41 - first};
      std::vector<float> out(static_cast<std::size_t>(rest.rows * S::heads.q_dim()));
      decltype(kernel)::template run<S::Policy, S::tile>(staged, {&rest, 1, rest.rows},
                                                         launch.q.data() + first * S::heads.q_dim(),
                                                         out.data(), plain);
      const auto from = right.begin() + rest.start.value * S::heads.q_dim();
      CHECK(!differing_bits(out, {from, right.end()}));
    }
  });
}

}  // namespace
