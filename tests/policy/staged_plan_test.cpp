// Plans with staged chunks: the ring is as long as its window and rewind need, and not a tile more;
// the stages hold what the longest chunk brings.
#include <doctest/doctest.h>

#include <concepts>
#include <cstdint>
#include <string>

#include "kvring/models/dense.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/gpt_oss.hpp"
#include "kvring/stage_plan.hpp"
#include "refusal.hpp"

using namespace kvring;
using namespace kvring::models;
using namespace kvring::test;

namespace {

template <class Model, std::int64_t B = 64>
using StagedPlan = Plan<Model, bf16, StagedChunk<4096>, Rewind<B>>;

// 511 + max(64, 1) = 575, in tiles of 64: 576. Without a rewind a token that is decoded needs the
// 512 slots of its window; the chunk is nowhere in it.
static_assert(StagedPlan<Gemma4_E4B>::ring_slots<0>() == 576);
static_assert(StagedPlan<Gemma4_E4B, 0>::ring_slots<0>() == 512);
static_assert(StagedPlan<Gemma4_E4B, 1>::ring_slots<0>() == 512);
static_assert(Plan<Gemma4_E4B, bf16, StagedChunk<4096>, Rewind<0>, KeyTile<1>>::ring_slots<0>() ==
              512);
static_assert(StagedPlan<Gemma4_E4B, 65>::ring_slots<0>() == 576);
static_assert(StagedPlan<Gemma4_E4B, 66>::ring_slots<0>() == 640);
static_assert(
    std::same_as<StagedPlan<Gemma4_E4B>, Plan<Gemma4_E4B, bf16, Chunk<4096>, Rewind<64>>::Staged>);

// A layer without a window has no stage.
using E4B = StagedPlan<Gemma4_E4B>;
static_assert(E4B::is_staged && E4B::PlacementOf<Gemma4_E4B::Local>::is_staged);
static_assert(!E4B::PlacementOf<Gemma4_E4B::Global>::is_staged);
static_assert(StagePlan<StagedPlan<Llama3_1_8B>>::bytes(131'072) == 0);

// 22 is read by the local layers from 24 on, and its rows wait for the last of them.
static_assert(StagePlan<E4B>::Order::last_reader(21) == 21 &&
              StagePlan<E4B>::Order::last_reader(22) == 40);
static_assert(StagePlan<E4B>::Order::last_reader(24) == 40 &&
              StagePlan<E4B>::Order::last_reader(40) == 40);
static_assert(StagePlan<E4B>::stages == 1);
static_assert(StagePlan<StagedPlan<Gemma4_E2B>>::stages == 1);
static_assert(StagePlan<StagedPlan<GptOss_20B>>::stages == 1);

// 4,096 rows and the start of a tile, of K and V, 2 heads of 256, bf16.
static_assert(StagePlan<E4B>::bytes(131'072) == (4096 + 64) * 2 * 512 * 2);
static_assert(StagePlan<E4B>::bytes(131'072, 3) == (4096 + 3 * 64) * 2 * 512 * 2);
static_assert(StagePlan<E4B>::bytes(1000) == (1000 + 64) * 2 * 512 * 2);
static_assert(StagePlan<E4B>::bytes(577) == (577 + 64) * 2 * 512 * 2);
static_assert(StagePlan<E4B>::bytes(576) == 0);  // nothing wraps
static_assert(StagePlan<E4B>::bytes(131'072, 1, 66) == 130 * 2 * 512 * 2);
static_assert(StagePlan<E4B>::bytes(131'072, 1, 65) == 0);  // 576 - 511: all fit in place
static_assert(StagePlan<Plan<Gemma4_E4B, bf16, Chunk<4096>>>::bytes(131'072) == 0);

}  // namespace

TEST_CASE("a staged chunk is as long as the stage allows, whatever the ring does") {
  Timeline<E4B> timeline(10'000);
  CHECK(timeline.appendable() == 4096);
  CHECK(timeline.range_of_kind(0).appendable_in_place() == 576);
  timeline.append(4096);
  timeline.append(4096);
  CHECK(timeline.range_of_kind(0).appendable_in_place() == 65);
  CHECK(timeline.appendable() == 1808);  // the context
  CHECK(timeline.rewind_floor().value == 8192 - 65);
  timeline.rewind_to({8192 - 65});
  CHECK(timeline.range_of_kind(0).appendable_in_place() == 65);
  CHECK(timeline.appendable() == 1873);

  Timeline<E4B> longer(20'000);
  longer.append(4096);
  CHECK(contains(refusal([&] { longer.append(4097); }),
                 "cannot append 4097 rows at position 4096: a ring of 576 slots takes 65 before "
                 "they attend, and its stage 4096; append at most 4096 rows at once"));
  CHECK(contains(refusal([&] { longer.rewind_to({4000}); }), "rewind to 4031 or later"));
  CHECK(longer.length() == 4096);
}
