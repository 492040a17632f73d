// The tiny Gemma 3 of tests/data/gemma3, as types: 7 layers 5:1, random weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvring/io/safetensors.hpp"
#include "kvring/kernels/attend.hpp"
#include "kvring/model/linear_host.hpp"
#include "kvring/model/load_safetensors.hpp"
#include "kvring/model/prefill.hpp"
#include "kvring/models/gemma3.hpp"

namespace kvring::test {

/// `Window` is 12 in the oracle's config.json.
template <std::int64_t Window = 12>
struct TinyGemma3 : models::gemma3::Family {
  static constexpr const char* name = "TinyGemma3";
  static constexpr Heads heads{.q = 4, .kv = 1, .dim = 64};
  using Local = models::gemma3::Local<Window, heads>;
  using Global = models::gemma3::Global<heads>;
  using Layers = Hybrid<7, Repeat<5, Local>, Global, Tail<Local>>;
  static constexpr std::int64_t hidden = 64, ffn = 96, vocabulary = 128, max_context = 16'384;
};

/// A folder of tests/data: weights, and what transformers makes of them.
struct TinyFile {
  explicit TinyFile(const std::string& folder = "gemma3")
      : weights(KVRING_TEST_DATA "/" + folder + "/model.safetensors"),
        golden(KVRING_TEST_DATA "/" + folder + "/golden.safetensors") {}
  SafetensorsFile weights, golden;
};

template <class Model>
Weights<Model, Host> load_tiny(const TinyFile& file) {
  SafetensorsSource<Model> source(file.weights);
  auto weights = load_weights<Model>(Host{}, source);
  source.require_nothing_left();
  return weights;
}

inline std::vector<std::int32_t> to_ids(const std::vector<std::int64_t>& values) {
  return {values.begin(), values.end()};
}

/// Logits of every position, [ids, vocabulary].
template <class DecoderType>
std::vector<float> all_logits(DecoderType& decoder, std::int64_t sequence,
                              std::span<const std::int32_t> ids) {
  const std::int64_t start = decoder.timeline(sequence).length();
  const auto vocabulary = static_cast<std::size_t>(decoder.vocabulary());
  std::vector<float> logits(ids.size() * vocabulary);
  prefill(decoder, sequence, ids, Wanted::all, [&](Span span) {
    for (std::int64_t row = 0; row < span.rows; ++row) {
      const auto position = static_cast<std::size_t>(span.start.value - start + row);
      decoder.logits(row, logits.data() + position * vocabulary);
    }
  });
  return logits;
}

/// The token generator of the project that this one began from: BOS, then a linear congruence.
inline std::vector<std::int32_t> seed_tokens(std::int64_t count, std::int32_t vocabulary) {
  std::vector<std::int32_t> ids{2};
  std::uint32_t state = 0x9E3779B9u;
  while (static_cast<std::int64_t>(ids.size()) < count) {
    state = state * 1664525u + 1013904223u;
    ids.push_back(static_cast<std::int32_t>(state % static_cast<std::uint32_t>(vocabulary - 5)) +
                  5);
  }
  return ids;
}

}  // namespace kvring::test
