// Mistral 7B v0.1, whose every layer has a window. Numbers: config.json of
// mistralai/Mistral-7B-v0.1. Versions 0.2 and 0.3 have none: they are Llama-like and dense.
#pragma once

#include <cstdint>

#include "kvring/models/llama.hpp"

namespace kvring::models {

namespace mistral {

template <std::int64_t Window, Heads Shape, std::int64_t Theta = 10'000>
struct Local : Layer<Swa<Window>, Shape> {
  static constexpr const char* name = "local";
  static constexpr Rope rope{.theta = Theta, .rotated = Shape.dim};
  static constexpr double query_scalar = Shape.dim;
};

struct Family : llama::Family {
  static constexpr const char* model_type = "mistral";  // in config.json
  static constexpr Block block = with_own_head(llama::Family::block);
};

}  // namespace mistral

struct Mistral_7B_v0_1 : mistral::Family {
  static constexpr const char* name = "Mistral_7B_v0_1";
  using Local = mistral::Local<4096, Heads{.q = 32, .kv = 8, .dim = 128}>;
  using Layers = Hybrid<32, Local>;
  static constexpr std::int64_t hidden = 4096, ffn = 14'336;
  static constexpr std::int64_t vocabulary = 32'000, max_context = 32'768;
};

}  // namespace kvring::models
