// The tiny Gemma 3 of tests/data/gemma3, as types: 7 layers 5:1, random weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvring/io/safetensors.hpp"
#include "kvring/kernels/attend.hpp"
#include "kvring/model/linear_host.hpp"
#include "kvring/model/load_safetensors.hpp"
#include "kvring/models/gemma3.hpp"
#include "prompts.hpp"

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

}  // namespace kvring::test
