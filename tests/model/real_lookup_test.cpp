// Gemma 3 270M writes on the GNU GPL 3 with drafts by lookup: the tokens of plain greedy decoding,
// in fewer passes, while its rings wrap; and from forks and snapshots of one prompt.
#include <doctest/doctest.h>

#include <chrono>
#include <cstring>

#include "kvring/model/lookup.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/snapshot.hpp"
#include "real.hpp"
#include "skip.hpp"

namespace kvring::test {
namespace {

using Model = models::Gemma3_270M;
// A ring of 576 slots, which 300 tokens from position 450 go around.
using ShortPlan = Plan<Model, f32, Chunk<64>, Rewind<64>>;
static_assert(ShortPlan::ring_slots<0>() == 576);

/// Counts passes of which rows were taken back that lay beyond the end of the ring.
struct Watched : Decoder<ShortPlan, CountingHost> {
  using Decoder::Decoder;
  Span pass{};
  std::int64_t across = 0;

  void forward(std::span<const NewTokens> batch, Wanted wanted) {
    const std::int64_t now = timeline(batch[0].sequence).length();
    constexpr std::int64_t slots = ShortPlan::ring_slots<0>();
    across += pass.rows > 0 && now < pass.end().value &&
              pass.start.value / slots != (pass.end().value - 1) / slots;
    pass = {{now}, std::ssize(batch[0].ids)};
    Decoder::forward(batch, wanted);
  }
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

TEST_CASE("Gemma 3 270M: 300 tokens by lookup are those of plain greedy decoding") {
  const auto* model = RealModel<Model>::get("KVRING_GEMMA3");
  if (model == nullptr) return skip("Gemma 3 270M, lookup", "KVRING_GEMMA3 is unset");
  const Oracle oracle("gemma3-270m-gpl3");
  constexpr std::int64_t count = 300;
  std::vector<std::int32_t> text(oracle.ids.begin(), oracle.ids.begin() + 450);
  Watched decoder(CountingHost{}, model->weights, 1024, 2);
  prefill(decoder, 0, std::span(text).first(449), Wanted::none, [](Span) {});
  // Each way gets a fork of the same prompt; the original stays for the next.
  const auto timed = [&](auto f) {
    fork(decoder.caches(), 0, 1);
    decoder.pass = {};
    const double start = seconds();
    f();
    return seconds() - start;
  };

  std::vector<std::int32_t> plain;
  const double plain_seconds = timed([&] {
    std::vector<float> logits(static_cast<std::size_t>(Model::vocabulary));
    std::int32_t id = text.back();
    for (std::int64_t i = 0; i < count; ++i) {
      const NewTokens token{1, {&id, 1}};
      decoder.forward({&token, 1}, Wanted::last);
      decoder.logits(0, logits.data());
      plain.push_back(id = argmax(logits));
    }
  });
  std::int64_t across = 0;
  for (const std::int64_t drafts : {8, 16}) {
    std::vector<std::int32_t> ids;
    LookupReport report;
    const double lookup_seconds = timed([&] {
      report =
          generate_by_lookup(decoder, 1, text, count, {.drafts = drafts}, [&](std::int32_t id) {
            ids.push_back(id);
            return true;
          });
    });
    CHECK(ids == plain);
    CHECK(report.passes < count);
    across += decoder.across;
    MESSAGE("up to ", drafts, " drafts: ", report.passes, " passes, ", report.accepted, " of ",
            report.drafted, " drafts accepted, ", decoder.across,
            " passes taken back across the wrap; ", lookup_seconds, " s, plain ", plain_seconds,
            " s, speed-up ", plain_seconds / lookup_seconds);
    decoder.across = 0;
  }
  CHECK(across > 0);
}

TEST_CASE(
    "Gemma 3 270M: a snapshot and a fork of a prompt that has wrapped go on to the same bits") {
  const auto* model = RealModel<Model>::get("KVRING_GEMMA3");
  if (model == nullptr) return skip("Gemma 3 270M, snapshots", "KVRING_GEMMA3 is unset");
  const Oracle oracle("gemma3-270m-gpl3");
  const auto ids = std::span(oracle.ids);
  Decoder<ShortPlan, CountingHost> decoder(CountingHost{}, model->weights, 1024, 2);
  prefill(decoder, 0, ids.first(700), Wanted::none, [](Span) {});
  const Snapshot<ShortPlan> snapshot(decoder.caches(), 0);
  // 576 live rows of 15 rings, 700 of 3 full caches; K and V of 256 floats.
  CHECK(snapshot.bytes() == 2 * 256 * sizeof(float) * (15 * 576 + 3 * 700));
  fork(decoder.caches(), 0, 1);
  Decoder<ShortPlan, CountingHost> elsewhere(CountingHost{}, model->weights, 800);
  snapshot.restore(elsewhere.caches(), 0);
  const auto last_logits = [&](auto& which, std::int64_t sequence) {
    std::int64_t row = 0;
    prefill(which, sequence, ids.subspan(700, 30), Wanted::last,
            [&](Span span) { row = span.rows - 1; });
    std::vector<float> logits(static_cast<std::size_t>(Model::vocabulary));
    which.logits(row, logits.data());
    return logits;
  };
  const std::vector<float> original = last_logits(decoder, 0);
  for (const std::vector<float>& other : {last_logits(decoder, 1), last_logits(elsewhere, 0)}) {
    CHECK(std::memcmp(other.data(), original.data(), original.size() * sizeof(float)) == 0);
  }
}

}  // namespace kvring::test
