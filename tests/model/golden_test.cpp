// Every logit of the tiny Gemma 3 against transformers in float64, for chunks of every kind.
#include <doctest/doctest.h>

#include <cstring>

#include "golden.hpp"
#include "tiny_gemma3.hpp"

namespace kvring::test {
namespace {

// Key tiles of 4 keep the rings tight: 12 to 172 slots for 160 positions.
template <std::int64_t ChunkRows>
using TinyPlan = Plan<TinyGemma3<>, f32, Chunk<ChunkRows>, Rewind<0>, KeyTile<4>>;

template <std::int64_t ChunkRows>
std::vector<float> run(const TinyFile& file, const Weights<TinyGemma3<>, Host>& weights) {
  const std::vector<std::int32_t> ids = to_ids(file.golden.read_i64("input_ids"));
  Decoder<TinyPlan<ChunkRows>, Host> decoder(Host{}, weights, 160);
  std::vector<std::vector<float>> hidden(4);
  decoder.probe = [&](std::int64_t layer, const float* residual, std::int64_t rows) {
    if (layer < 4) {
      auto& all = hidden[static_cast<std::size_t>(layer)];
      all.insert(all.end(), residual, residual + rows * TinyGemma3<>::hidden);
    }
  };
  const std::vector<float> logits = all_logits(decoder, 0, ids);

  const double worst = max_difference(logits, file.golden.read_f32("logits"));
  MESSAGE("chunk ", ChunkRows, ", ring of ", TinyPlan<ChunkRows>::template ring_slots<0>(),
          " slots: logits differ by ", worst, " at most");
  CHECK(worst <= logit_tolerance);
  for (std::size_t layer = 0; layer < 4; ++layer) {
    CAPTURE(layer);
    const std::string name = "hidden." + std::to_string(layer);
    CHECK(max_difference(hidden[layer], file.golden.read_f32(name)) <= logit_tolerance);
  }
  return logits;
}

}  // namespace

TEST_CASE("tiny Gemma 3: every position equals the oracle, and every chunk gives the same bits") {
  const TinyFile file;
  const auto weights = load_tiny<TinyGemma3<>>(file);
  const std::vector<float> whole = run<160>(file, weights);
  const auto same = [&](const std::vector<float>& logits) {
    return std::memcmp(logits.data(), whole.data(), whole.size() * sizeof(float)) == 0;
  };
  CHECK(same(run<5>(file, weights)));
#if !defined(__SANITIZE_ADDRESS__)  // a decoder for each chunk takes a minute to compile there
  CHECK(same(run<1>(file, weights)));
  CHECK(same(run<2>(file, weights)));
  CHECK(same(run<12>(file, weights)));
  CHECK(same(run<64>(file, weights)));
#endif
}

TEST_CASE("a window off by one in the type is seen by the oracle") {
  const TinyFile file;
  const std::vector<std::int32_t> ids = to_ids(file.golden.read_i64("input_ids"));
  const std::vector<float> expected = file.golden.read_f32("logits");
  const auto worst = [&]<std::int64_t Window>(std::integral_constant<std::int64_t, Window>) {
    using Model = TinyGemma3<Window>;
    const auto weights = load_tiny<Model>(file);
    Decoder<Plan<Model, f32, Chunk<64>>, Host> decoder(Host{}, weights, 160);
    return max_difference(all_logits(decoder, 0, ids), expected);
  };
  CHECK(worst(std::integral_constant<std::int64_t, 11>{}) > 100 * logit_tolerance);
  CHECK(worst(std::integral_constant<std::int64_t, 13>{}) > 100 * logit_tolerance);
}

}  // namespace kvring::test
