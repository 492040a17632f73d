// Qwen3, dense. Numbers: config.json of Qwen/Qwen3-{0.6B,1.7B,4B,8B,14B,32B}. The -Base
// repositories differ in max_position_embeddings alone: 32,768.
#pragma once

#include <cstdint>

#include "kvring/models/dense_layer.hpp"

namespace kvring::models {

namespace qwen3 {

/// Common to the family.
struct Family {
  static constexpr const char* architecture = "qwen3";
  static constexpr const char* model_type = "qwen3";  // in config.json
  static constexpr const char* chat = "chatml";       // name of a ChatTemplate
  static constexpr Block block{.activation = Activation::silu, .qk_norm = true};
  static constexpr bool norms_store_minus_one = false;
  static constexpr double norm_epsilon = 1e-6;
};

/// Common to the published sizes.
struct Published : Family {
  static constexpr std::int64_t vocabulary = 151'936, max_context = 40'960;
};

/// All sizes have eight kv heads of 128.
template <std::int64_t QHeads>
using Global = DenseLayer<Heads{.q = QHeads, .kv = 8, .dim = 128}, 1'000'000>;

}  // namespace qwen3

struct Qwen3_0_6B : qwen3::Published {
  static constexpr const char* name = "Qwen3_0_6B";
  using Global = qwen3::Global<16>;
  using Layers = Hybrid<28, Global>;
  static constexpr std::int64_t hidden = 1024, ffn = 3072;
};

struct Qwen3_1_7B : qwen3::Published {
  static constexpr const char* name = "Qwen3_1_7B";
  using Global = qwen3::Global<16>;
  using Layers = Hybrid<28, Global>;
  static constexpr std::int64_t hidden = 2048, ffn = 6144;
};

struct Qwen3_4B : qwen3::Published {
  static constexpr const char* name = "Qwen3_4B";
  using Global = qwen3::Global<32>;
  using Layers = Hybrid<36, Global>;
  static constexpr std::int64_t hidden = 2560, ffn = 9728;
};

struct Qwen3_8B : qwen3::Published {
  static constexpr const char* name = "Qwen3_8B";
  static constexpr Block block = with_own_head(Family::block);
  using Global = qwen3::Global<32>;
  using Layers = Hybrid<36, Global>;
  static constexpr std::int64_t hidden = 4096, ffn = 12'288;
};

struct Qwen3_14B : qwen3::Published {
  static constexpr const char* name = "Qwen3_14B";
  static constexpr Block block = with_own_head(Family::block);
  using Global = qwen3::Global<40>;
  using Layers = Hybrid<40, Global>;
  static constexpr std::int64_t hidden = 5120, ffn = 17'408;
};

struct Qwen3_32B : qwen3::Published {
  static constexpr const char* name = "Qwen3_32B";
  static constexpr Block block = with_own_head(Family::block);
  using Global = qwen3::Global<64>;
  using Layers = Hybrid<64, Global>;
  static constexpr std::int64_t hidden = 5120, ffn = 25'600;
};

}  // namespace kvring::models
