// Gemma 3 270M, real weights and real text, against transformers in float64 at 5,400 positions.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>

#include "kvring/models/gemma3.hpp"
#include "real.hpp"
#include "skip.hpp"

namespace kvring::test {
namespace {

using Model = models::Gemma3_270M;
using Real = RealModel<Model>;
constexpr const char* variable = "KVRING_GEMMA3";
constexpr std::int64_t context = 6144;
constexpr auto vocabulary = static_cast<std::size_t>(Model::vocabulary);

Oracle gpl3() { return Oracle("gemma3-270m-gpl3"); }

}  // namespace

TEST_CASE("Gemma 3 270M, f32 cache: every position, and the residual stream after every layer") {
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("Gemma 3 270M, f32 cache", "KVRING_GEMMA3 is unset");
  const Oracle oracle = gpl3();
  std::vector<std::vector<float>> residuals;
  std::vector<float> finals;
  const Distance distance = score<f32>(*model, oracle, &residuals, &finals);
  // transformers' own float32 run differs from its float64 run by 4e-5; ten times that leaves room
  // for another order of sums, and is a hundredth of what one wrong key in a window makes.
  CHECK(distance.logsumexp <= 5e-4);
  CHECK(distance.logit <= 5e-4);
  CHECK(std::abs(distance.mean_nll - oracle.mean_nll()) <= 1e-5);
  CHECK(distance.largest_margin <= 1e-3);

  // Each row against its largest value. That reaches 66,000 in the residual stream, where the last
  // bit is worth 6e-8 of it, and 18 layers add rounding of their own.
  const auto worst_row = [](std::span<const float> rows, std::span<const float> expected) {
    REQUIRE(rows.size() == expected.size());
    double worst = 0;
    for (std::size_t begin = 0; begin < rows.size(); begin += Model::hidden) {
      double difference = 0, scale = 0;
      for (std::size_t i = begin; i < begin + Model::hidden; ++i) {
        difference = Distance::larger_of(difference, std::abs(rows[i] - expected[i]));
        scale = std::max<double>(scale, std::abs(expected[i]));
      }
      worst = Distance::larger_of(worst, difference / scale);
    }
    return worst;
  };
  std::vector<float> all;
  for (const std::vector<float>& layer : residuals) {
    all.insert(all.end(), layer.begin(), layer.end());
  }
  const double in_stream = worst_row(all, oracle.file.read_f32("probe_residual"));
  const double at_end = worst_row(finals, oracle.file.read_f32("probe_final"));
  MESSAGE("of a row's largest value, the residual stream differs by ", in_stream,
          " at most, and by ", at_end, " after the final norm");
  CHECK(in_stream <= 1e-5);
  CHECK(at_end <= 1e-5);
}

TEST_CASE("Gemma 3 270M, f16 cache: within the rounding of the cache") {
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("Gemma 3 270M, f16 cache", "KVRING_GEMMA3 is unset");
  const Oracle oracle = gpl3();
  check_narrow(score<f16>(*model, oracle), oracle, 1.0 / 8);
}

TEST_CASE("Gemma 3 270M, bf16 cache: within the rounding of the cache") {
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("Gemma 3 270M, bf16 cache", "KVRING_GEMMA3 is unset");
  const Oracle oracle = gpl3();
  check_narrow(score<bf16>(*model, oracle), oracle, 1);
}

TEST_CASE("Gemma 3 270M: greedy tokens after every cut, by rewinding one sequence") {
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("Gemma 3 270M, greedy tokens", "KVRING_GEMMA3 is unset");
  using Headroom = RealPlan<Model, f32>;
  const std::vector<std::int32_t> text = check_greedy<Headroom::Staged>(*model, gpl3());
  CHECK(text.size() > 100);
  if (std::getenv("KVRING_LONG") == nullptr) return;
  CHECK(check_greedy<Headroom>(*model, gpl3()) == text);
  // Rings that are longer than the context are full caches.
  using InFull = Plan<Model, f32, Chunk<8192>, Rewind<64>>;
  static_assert(InFull::cache_bytes(context) == InFull::full_cache_bytes(context));
  CHECK(check_greedy<InFull>(*model, gpl3(), 4096) == text);
}

TEST_CASE("Gemma 3 270M: chunks of 1, 7, 512 and 4096 rows give the same bits") {
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("Gemma 3 270M, chunks", "KVRING_GEMMA3 is unset");
  const Oracle oracle = gpl3();
  // Past the window of 512, so that every layer has forgotten something.
  const auto ids = std::span(oracle.ids).first(600);
  const auto run = [&](std::int64_t chunk) {
    Decoder<RealPlan<Model, f32>, CountingHost> decoder(CountingHost{}, model->weights, 1024, 1,
                                                        chunk);
    std::vector<float> residual;
    decoder.probe = [&](std::int64_t layer, const float* rows, std::int64_t count) {
      if (layer == Model::Layers::layers - 1) {
        residual.insert(residual.end(), rows, rows + count * Model::hidden);
      }
    };
    std::vector<float> logits(vocabulary);
    std::int64_t row = 0;
    prefill(decoder, 0, ids, Wanted::all, [&](Span span) { row = span.rows - 1; });
    decoder.logits(row, logits.data());
    residual.insert(residual.end(), logits.begin(), logits.end());
    return residual;
  };
  const std::vector<float> whole = run(4096);
  for (const std::int64_t chunk : {1, 7, 512}) {
    CAPTURE(chunk);
    const std::vector<float> chunked = run(chunk);
    REQUIRE(chunked.size() == whole.size());
    CHECK(std::memcmp(chunked.data(), whole.data(), whole.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("Gemma 3 270M, long: prompts of 700, 4,296 and 5,040 tokens, chunked and per token") {
  if (std::getenv("KVRING_LONG") == nullptr) {
    return skip("Gemma 3 270M, long prompts", "it takes minutes; tests/run.sh --long runs it");
  }
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("Gemma 3 270M, long prompts", "KVRING_GEMMA3 is unset");
  const Oracle oracle = gpl3();
  const std::vector<std::int64_t> lengths{700, 4296, 5040};
  const auto ids = std::span(oracle.ids).first(5040);

  // One pass, a token at a time, serves all three lengths.
  std::vector<std::vector<float>> per_token;
  Decoder<RealPlan<Model, f32>, CountingHost> single(CountingHost{}, model->weights, context);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const NewTokens token{0, ids.subspan(i, 1)};
    single.forward({&token, 1}, Wanted::last);
    if (static_cast<std::int64_t>(i) + 1 == lengths[per_token.size()]) {
      per_token.emplace_back(vocabulary);
      single.logits(0, per_token.back().data());
    }
  }
  REQUIRE(per_token.size() == lengths.size());

  for (std::size_t i = 0; i < lengths.size(); ++i) {
    CAPTURE(lengths[i]);
    Decoder<RealPlan<Model, f32>, CountingHost> chunked(CountingHost{}, model->weights, context);
    std::int64_t row = 0;
    prefill(chunked, 0, ids.first(static_cast<std::size_t>(lengths[i])), Wanted::last,
            [&](Span span) { row = span.rows - 1; });
    std::vector<float> logits(vocabulary);
    chunked.logits(row, logits.data());
    CHECK(std::memcmp(logits.data(), per_token[i].data(), vocabulary * sizeof(float)) == 0);
    MESSAGE(lengths[i], " tokens: chunked and per-token logits have the same bits");
  }
}

}  // namespace kvring::test
