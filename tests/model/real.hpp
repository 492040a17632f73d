// Real weights against transformers in float64: what the tests of every real model share.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "counting_host.hpp"
#include "kvring/io/gguf.hpp"
#include "kvring/kernels/attend.hpp"
#include "kvring/kernels/math.hpp"
#include "kvring/model/linear_host.hpp"
#include "kvring/model/load_gguf.hpp"
#include "kvring/model/prefill.hpp"
#include "kvring/model/sampler.hpp"
#include "oracle.hpp"
#include "prompts.hpp"

namespace kvring::test {

template <class Model, class T>
using RealPlan = Plan<Model, T, Chunk<4096>, Rewind<64>>;

/// A model, loaded once from the file that an environment variable names; none if it is unset.
template <class Model>
struct RealModel {
  GgufFile file;
  Weights<Model, CountingHost> weights;

  static RealModel* get(const char* variable) {
    static std::optional<RealModel> model = [&]() -> std::optional<RealModel> {
      const char* path = std::getenv(variable);
      if (path == nullptr) return std::nullopt;
      GgufFile file(path);
      auto weights = load_gguf<Model>(CountingHost{}, file);
      return RealModel{std::move(file), std::move(weights)};
    }();
    return model ? &*model : nullptr;
  }
};

inline double log_sum_exp(std::span<const float> logits) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (std::size_t begin = 0; begin < logits.size(); begin += 1024) {
    float part[16] = {};
    for (std::size_t i = begin; i < std::min(begin + 1024, logits.size()); i += 16) {
      for (std::size_t lane = 0; lane < 16; ++lane) {
        part[lane] += exp_f32(logits[i + lane] - highest);
      }
    }
    sum += std::accumulate(part, part + 16, 0.0);
  }
  return highest + std::log(sum);
}

template <class T, class Model>
Distance score(const RealModel<Model>& model, const Oracle& oracle,
               std::vector<std::vector<float>>* residuals = nullptr,
               std::vector<float>* finals = nullptr) {
  constexpr auto vocabulary = static_cast<std::size_t>(Model::vocabulary);
  const std::int64_t context = round_up(static_cast<std::int64_t>(oracle.ids.size()), 2048);
  Decoder<RealPlan<Model, T>, CountingHost> decoder(CountingHost{}, model.weights, context);
  std::vector<std::int64_t> probes;
  if (residuals != nullptr) probes = oracle.file.read_i64("probe_positions");
  std::int64_t done = 0;
  if (residuals != nullptr) {
    residuals->assign(static_cast<std::size_t>(Model::Layers::layers), {});
    decoder.probe = [&](std::int64_t layer, const float* residual, std::int64_t rows) {
      for (const std::int64_t position : probes) {
        if (position < done || position >= done + rows) continue;
        const float* row = residual + (position - done) * Model::hidden;
        auto& of_layer = (*residuals)[static_cast<std::size_t>(layer)];
        of_layer.insert(of_layer.end(), row, row + Model::hidden);
      }
    };
  }

  Distance distance;
  constexpr std::int64_t block = 256;  // the table of tokens is widened once for each
  std::vector<float> logits(block * vocabulary), lse(block);
  prefill(decoder, 0, oracle.ids, Wanted::all, [&](Span span) {
    for (std::int64_t row = 0; row < span.rows; row += block) {
      const std::int64_t count = smaller(block, span.rows - row);
      decoder.logits(row, count, logits.data());
      for (std::int64_t i = 0; i < count && finals != nullptr; ++i) {
        if (std::find(probes.begin(), probes.end(), span.start.value + row + i) == probes.end()) {
          continue;
        }
        const float* of_row = decoder.final_hidden() + i * Model::hidden;
        finals->insert(finals->end(), of_row, of_row + Model::hidden);
      }
      for_each(Host{}, count, [&](std::int64_t i) {
        lse[static_cast<std::size_t>(i)] = static_cast<float>(log_sum_exp(
            std::span(logits).subspan(static_cast<std::size_t>(i) * vocabulary, vocabulary)));
      });
      for (std::int64_t i = 0; i < count; ++i) {
        const auto p = static_cast<std::size_t>(span.start.value + row + i);
        const auto of_row =
            std::span(logits).subspan(static_cast<std::size_t>(i) * vocabulary, vocabulary);
        const double z = lse[static_cast<std::size_t>(i)];
        distance.logsumexp =
            Distance::larger_of(distance.logsumexp, std::abs(z - oracle.logsumexp[p]));
        distance.logsumexp_rms += std::pow(z - oracle.logsumexp[p], 2);
        for (std::size_t k = 0; k < 8; ++k) {
          const auto id = static_cast<std::size_t>(oracle.top_ids[p * 8 + k]);
          const double difference = std::abs(of_row[id] - oracle.top_logits[p * 8 + k]);
          distance.logit = Distance::larger_of(distance.logit, difference);
          distance.logit_rms += difference * difference;
        }
        if (p + 1 < oracle.ids.size()) {
          distance.mean_nll += z - of_row[static_cast<std::size_t>(oracle.ids[p + 1])];
        }
        if (argmax(of_row) != oracle.top_ids[p * 8]) {
          ++distance.top1_differs;
          distance.largest_margin = std::max(distance.largest_margin, oracle.margin(p));
        }
      }
    }
    done = span.end().value;
  });
  const auto n = static_cast<double>(oracle.ids.size());
  distance.logsumexp_rms = std::sqrt(distance.logsumexp_rms / n);
  distance.logit_rms = std::sqrt(distance.logit_rms / (8 * n));
  distance.mean_nll /= n - 1;
  MESSAGE(std::string(element_name<T>), " cache: logsumexp differs by ", distance.logsumexp,
          " at most, ", distance.logsumexp_rms, " rms; logits by ", distance.logit, " at most, ",
          distance.logit_rms, " rms; mean NLL ", distance.mean_nll, "; top-1 differs at ",
          distance.top1_differs, " positions (margins up to ", distance.largest_margin, ")");
  return distance;
}

/// Greedy tokens after every cut of the oracle, compared up to the first margin below 1e-3: one
/// sequence, taken back to the cut after each. Returns all of them. The memory of the decoder is
/// that of the plan, to the byte.
template <class PlanType, class Model>
std::vector<std::int32_t> check_greedy(const RealModel<Model>& model, const Oracle& oracle,
                                       std::int64_t chunk = PlanType::chunk) {
  const std::vector<std::int64_t> cuts = oracle.file.read_i64("greedy_cuts");
  const std::vector<std::int64_t> expected = oracle.file.read_i64("greedy_ids");  // [cuts, 32]
  const std::vector<float> margins = oracle.file.read_f32("greedy_margin");       // [cuts, 32]
  const auto ids = std::span(oracle.ids);
  const std::int64_t before = CountingHost::bytes, context = std::ssize(ids) + 64;
  Decoder<PlanType, CountingHost> decoder(CountingHost{}, model.weights, context, 1, chunk);
  const std::int64_t caches = PlanType::cache_bytes(context);
  CHECK(CountingHost::bytes - before == caches + decoder.scratch_bytes(context, 1, chunk));
  MESSAGE("allocated as planned: ", caches, " bytes of caches, ",
          CountingHost::bytes - before - caches, " of scratch, a stage of ",
          StagePlan<PlanType>::bytes(context, 1, chunk), " bytes within; full caches take ",
          PlanType::full_cache_bytes(context));
  std::vector<std::int32_t> text;
  std::vector<float> logits(static_cast<std::size_t>(Model::vocabulary));
  for (std::size_t cut = 0; cut < cuts.size(); ++cut) {
    CAPTURE(cuts[cut]);
    const auto begin = static_cast<std::size_t>(decoder.timeline(0).length());
    std::int64_t row = 0;
    prefill(decoder, 0, ids.subspan(begin, static_cast<std::size_t>(cuts[cut]) - begin),
            Wanted::last, [&](Span span) { row = span.rows - 1; });
    std::size_t compared = 0;
    for (; compared < 32 && margins[cut * 32 + compared] >= 1e-3f; ++compared) {
      decoder.logits(row, logits.data());
      const std::int32_t id = argmax(logits);
      REQUIRE(id == expected[cut * 32 + compared]);
      text.push_back(id);
      const NewTokens next{0, {&id, 1}};
      decoder.forward({&next, 1}, Wanted::last);
      row = 0;
    }
    MESSAGE("after ", cuts[cut], " tokens: ", compared, " greedy tokens equal");
    CHECK(compared >= 8);  // or the comparison says little
    // At most 32 positions of the 64 that the plan allows to take back.
    decoder.timeline(0).rewind_to({cuts[cut]});
  }
  CHECK(CountingHost::bytes - before == caches + decoder.scratch_bytes(context, 1, chunk));
  return text;
}

}  // namespace kvring::test
