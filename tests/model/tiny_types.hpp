// The tiny models of tests/data as types: each family with the numbers of its config.json.
#pragma once

#include <cstdint>

#include "kvring/models/dense.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"

namespace kvring::test {

/// 7 layers 5:1. `Window` is 12 in the oracle's config.json.
template <std::int64_t Window = 12>
struct TinyGemma3 : models::gemma3::Family {
  static constexpr const char* name = "TinyGemma3";
  static constexpr Heads heads{.q = 4, .kv = 1, .dim = 64};
  using Local = models::gemma3::Local<Window, heads>;
  using Global = models::gemma3::Global<heads>;
  using Layers = Hybrid<7, Repeat<5, Local>, Global, Tail<Local>>;
  static constexpr std::int64_t hidden = 64, ffn = 96, vocabulary = 128, max_context = 16'384;
};

struct TinyShape {
  static constexpr std::int64_t hidden = 64, ffn = 96, vocabulary = 128, max_context = 4096;
};

struct TinyGemma4E : models::gemma4::Family, TinyShape {
  static constexpr const char* name = "TinyGemma4E";
  static constexpr Block block = models::gemma4::with_layer_inputs<16>(Family::block);
  using Local = models::gemma4::Local<12, Heads{.q = 4, .kv = 2, .dim = 64}>;
  using Global = models::gemma4::Global<Heads{.q = 4, .kv = 2, .dim = 128}>;
  using Layers = Hybrid<8, Repeat<2, Local>, Global, Tail<Local, Global>>;
  using Sharing = SharedKv<3>;
  static constexpr std::int64_t vocabulary = TinyShape::vocabulary;
};

struct TinyGemma4KeqV : models::gemma4::Family, TinyShape {
  static constexpr const char* name = "TinyGemma4KeqV";
  using Local = models::gemma4::Local<20, Heads{.q = 4, .kv = 2, .dim = 64}>;
  using Global = models::gemma4::GlobalKeqV<Heads{.q = 4, .kv = 1, .dim = 128}>;
  using Layers = Hybrid<6, Repeat<2, Local>, Global>;
  static constexpr std::int64_t vocabulary = TinyShape::vocabulary;
};

struct TinyQwen3 : models::qwen3::Family, TinyShape {
  static constexpr const char* name = "TinyQwen3";
  static constexpr Block block = models::with_own_head(Family::block);
  using Global = models::DenseLayer<Heads{.q = 4, .kv = 2, .dim = 64}, 10'000>;
  using Layers = Hybrid<4, Global>;
};

struct TinyMistral : models::mistral::Family, TinyShape {
  static constexpr const char* name = "TinyMistral";
  static constexpr double norm_epsilon = 1e-6;
  using Local = models::mistral::Local<16, Heads{.q = 4, .kv = 2, .dim = 64}>;
  using Layers = Hybrid<4, Local>;
};

}  // namespace kvring::test
