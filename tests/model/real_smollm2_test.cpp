// SmolLM2 135M, real weights and real text, against transformers in float64 at 2,200 positions.
#include <doctest/doctest.h>

#include "kvring/models/dense.hpp"
#include "real.hpp"
#include "skip.hpp"

namespace kvring::test {
namespace {

using Model = models::SmolLM2_135M;
using Real = RealModel<Model>;
constexpr const char* variable = "KVRING_SMOLLM2";

Oracle apache() { return Oracle("smollm2-135m-apache"); }

}  // namespace

TEST_CASE("SmolLM2 135M, f32 cache: every position") {
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("SmolLM2 135M, f32 cache", "KVRING_SMOLLM2 is unset");
  const Oracle oracle = apache();
  const Distance distance = score<f32>(*model, oracle);
  // As for Gemma 3: ten times what transformers' own float32 run differs by.
  CHECK(distance.logsumexp <= 5e-4);
  CHECK(distance.logit <= 5e-4);
  CHECK(std::abs(distance.mean_nll - oracle.mean_nll()) <= 1e-5);
  CHECK(distance.largest_margin <= 1e-3);
}

TEST_CASE("SmolLM2 135M: greedy tokens after every cut") {
  const Real* model = Real::get(variable);
  if (model == nullptr) return skip("SmolLM2 135M, greedy tokens", "KVRING_SMOLLM2 is unset");
  check_greedy(*model, apache());
}

}  // namespace kvring::test
