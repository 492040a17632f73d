// A decoder with a staged plan: the bits of one with headroom and of one with full caches, in less
// memory, and that to the byte.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include "counting_host.hpp"
#include "kvring/snapshot.hpp"
#include "kvring/testing/random_weights.hpp"
#include "refusal.hpp"
#include "tiny_gemma3.hpp"

namespace kvring::test {
namespace {

/// Layer 4 reads layer 0, and owners of rings stand between them: their rows need another stage.
struct TwoStages : TinyGemma3<12> {
  static constexpr const char* name = "TwoStages";
  using Layers = Hybrid<6, Repeat<5, Local>, Global>;
  using Sharing = Donors<Donor<4, 0>>;
};

// W - 1 + max(C, B) = 11 + 40 = 51, in tiles of 8: 56 slots. Staged 11 + 5 = 16: 16 slots. Chunks
// that are longer than the context are full caches.
template <class Model, class T>
using WithHeadroom = Plan<Model, T, Chunk<40>, Rewind<5>, KeyTile<8>>;
template <class Model, class T>
using InStages = Plan<Model, T, StagedChunk<40>, Rewind<5>, KeyTile<8>>;
template <class Model, class T>
using InFull = Plan<Model, T, Chunk<400>, Rewind<5>, KeyTile<8>>;
static_assert(WithHeadroom<TinyGemma3<12>, f32>::ring_slots<0>() == 56);
static_assert(InStages<TinyGemma3<12>, f32>::ring_slots<0>() == 16);
static_assert(InFull<TinyGemma3<12>, f32>::capacity(0, 400) == 400);

// Readers of a donor keep its stage until they have attended.
static_assert(StagePlan<InStages<TinyGemma3<12>, f32>>::stages == 1);
static_assert(StagePlan<InStages<TinyGemma4E, f32>>::stages == 1);
static_assert(StagePlan<InStages<TwoStages, f32>>::stages == 2);
static_assert(StagePlan<InStages<TwoStages, f32>>::Order::stage_of ==
              std::array<std::int64_t, 6>{0, 1, 1, 1, 0, -1});
static_assert(StagePlan<InStages<TwoStages, f32>>::Order::last_reader(0) == 4);
static_assert(StagePlan<WithHeadroom<TwoStages, f32>>::stages == 0);

constexpr std::int64_t context = 400;
constexpr std::size_t vocabulary = 128;

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

template <class M, class Element>
struct Case {
  using Model = M;
  using T = Element;
  testing::RandomWeights source;
  Weights<Model, CountingHost> weights = load_weights<Model>(CountingHost{}, source);
};
#define KVRING_CASES                                                             \
  Case<TinyGemma3<12>, f32>, Case<TinyGemma3<12>, f16>, Case<TinyGemma4E, bf16>, \
      Case<TwoStages, f32>

template <class PlanType, class Weights>
std::vector<float> logits_in_chunks(const Weights& weights, std::span<const std::int32_t> ids,
                                    std::int64_t chunk) {
  Decoder<PlanType, CountingHost> decoder(CountingHost{}, weights, context, 1, chunk);
  return all_logits(decoder, 0, ids);
}

TEST_CASE_TEMPLATE("staged, with headroom and in full caches: the same logits", C, KVRING_CASES) {
  using Model = typename C::Model;
  using T = typename C::T;
  const C random;
  const auto& weights = random.weights;
  const std::vector<std::int32_t> ids = seed_tokens(230, vocabulary);
  const std::vector<float> full = logits_in_chunks<InFull<Model, T>>(weights, ids, 400);
  CHECK(same_bits(logits_in_chunks<WithHeadroom<Model, T>>(weights, ids, 40), full));
  for (const std::int64_t chunk : {40, 39, 13, 6, 5, 1}) {  // 5 rows and fewer fit in place
    CAPTURE(chunk);
    CHECK(same_bits(logits_in_chunks<InStages<Model, T>>(weights, ids, chunk), full));
  }
}

TEST_CASE_TEMPLATE("staged: ragged batches, rewinds, a fork, and rows that nobody wants", C,
                   KVRING_CASES) {
  using Model = typename C::Model;
  using T = typename C::T;
  const C random;
  const auto& weights = random.weights;
  const std::vector<std::int32_t> ids = seed_tokens(230, vocabulary), drafts(5, 7);
  const std::vector<float> right = logits_in_chunks<InFull<Model, T>>(weights, ids, 400);
  Decoder<InStages<Model, T>, CountingHost> decoder(CountingHost{}, weights, context, 3);
  const auto tokens = [&](std::int64_t s, std::size_t rows) {
    const auto from = static_cast<std::size_t>(decoder.timeline(s).length());
    return NewTokens{s, std::span(ids).subspan(from, rows)};
  };
  const auto check = [&](std::int64_t row, std::int64_t s) {
    std::vector<float> logits(vocabulary);
    decoder.logits(row, logits.data());
    const auto last = static_cast<std::size_t>(decoder.timeline(s).length() - 1);
    CHECK(same_bits(logits, std::span(right).subspan(last * vocabulary, vocabulary)));
  };

  decoder.forward(std::array{tokens(2, 25), tokens(0, 15)}, Wanted::all);
  check(24, 2);
  check(39, 0);
  decoder.forward(std::array{tokens(0, 4), tokens(1, 17), tokens(2, 19)}, Wanted::all);
  check(3, 0);
  check(20, 1);
  check(39, 2);
  decoder.forward(std::array{tokens(1, 40)}, Wanted::none);
  decoder.forward(std::array{tokens(1, 33)}, Wanted::last);
  check(32, 1);

  // Drafts that are taken back, as many as the plan allows and no more.
  const NewTokens guess{1, drafts};
  decoder.forward({&guess, 1}, Wanted::all);
  CHECK(contains(refusal([&] { decoder.timeline(1).rewind_to({89}); }), "rewind to 90 or later"));
  decoder.timeline(1).rewind_to({90});
  decoder.forward(std::array{tokens(1, 38)}, Wanted::last);
  check(37, 1);
  fork(decoder.caches(), 1, 0);
  decoder.forward(std::array{tokens(0, 22)}, Wanted::last);
  check(21, 0);
  decoder.forward(std::array{tokens(1, 1)}, Wanted::last);
  check(0, 1);
  CHECK(contains(refusal([&] { decoder.timeline(1).append(41); }),
                 "a ring of 16 slots takes 5 before they attend, and its stage 40; append at most "
                 "40 rows at once"));
}

TEST_CASE("staged: what is allocated is what the plan said, to the byte, and nothing afterwards") {
  using PlanType = InStages<TwoStages, bf16>;
  const Case<TwoStages, bf16> random;
  const auto& weights = random.weights;
  const std::int64_t before = CountingHost::bytes;
  for (const std::int64_t length : {1, 16, 17, 100}) {
    for (const std::int64_t sequences : {1, 3}) {
      for (const std::int64_t chunk : {1, 5, 6, 40}) {
        CAPTURE(length);
        CAPTURE(sequences);
        CAPTURE(chunk);
        Decoder<PlanType, CountingHost> decoder(CountingHost{}, weights, length, sequences, chunk);
        const std::int64_t planned = PlanType::cache_bytes(length, sequences) +
                                     decoder.scratch_bytes(length, sequences, chunk);
        CHECK(CountingHost::bytes - before == planned);
        all_logits(decoder, sequences - 1, seed_tokens(length, vocabulary));
        CHECK(CountingHost::bytes - before == planned);

        // By hand: two stages of K and V of one head of 64, where a chunk may be too long.
        const bool needed = length > 16 && chunk > 5;
        const std::int64_t rows = smaller(length * sequences, chunk) + sequences * 8;
        CHECK(StagePlan<PlanType>::bytes(length, sequences, chunk) ==
              (needed ? 2 * 2 * rows * 64 * 2 : 0));
      }
    }
  }
  CHECK(CountingHost::bytes == before);
}

}  // namespace
}  // namespace kvring::test
