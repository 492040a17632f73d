// Llama 3 and SmolLM2. Numbers: config.json of meta-llama/Llama-3.1-8B,
// meta-llama/Llama-3.2-{1B,3B}, meta-llama/Llama-3.3-70B-Instruct and
// HuggingFaceTB/SmolLM2-{135M,360M,1.7B}; the -Instruct repositories hold the same.
#pragma once

#include <cstdint>

#include "kvring/models/dense_layer.hpp"

namespace kvring::models {

namespace llama {

/// Common to the family.
struct Family {
  static constexpr const char* architecture = "llama";
  static constexpr const char* model_type = "llama";  // in config.json
  static constexpr Block block{.activation = Activation::silu};
  static constexpr bool norms_store_minus_one = false;
  static constexpr bool gguf_interleaves_heads = true;
  static constexpr double norm_epsilon = 1e-5;
};

/// A layer of Llama 3.1 and later: RoPE scaled by parts from a context of 8,192.
template <Heads Shape, std::int64_t Factor>
struct LayerByParts : Layer<Dense, Shape> {
  static constexpr const char* name = "dense";
  static constexpr Rope rope{.theta = 500'000,
                             .rotated = Shape.dim,
                             .parts = {.factor = Factor, .original_context = 8192}};
  static constexpr double query_scalar = Shape.dim;
};

/// Common to Llama 3.1 and later.
struct Llama3 : Family {
  static constexpr std::int64_t vocabulary = 128'256, max_context = 131'072;
};

/// Common to SmolLM2.
struct SmolLM2 : Family {
  static constexpr const char* chat = "smollm2";  // name of a ChatTemplate
  static constexpr std::int64_t vocabulary = 49'152, max_context = 8192;
};

}  // namespace llama

struct Llama3_1_8B : llama::Llama3 {
  static constexpr const char* name = "Llama3_1_8B";
  static constexpr Block block = with_own_head(Family::block);
  using Global = llama::LayerByParts<Heads{.q = 32, .kv = 8, .dim = 128}, 8>;
  using Layers = Hybrid<32, Global>;
  static constexpr std::int64_t hidden = 4096, ffn = 14'336;
};

struct Llama3_2_1B : llama::Llama3 {
  static constexpr const char* name = "Llama3_2_1B";
  using Global = llama::LayerByParts<Heads{.q = 32, .kv = 8, .dim = 64}, 32>;
  using Layers = Hybrid<16, Global>;
  static constexpr std::int64_t hidden = 2048, ffn = 8192;
};

struct Llama3_2_3B : llama::Llama3 {
  static constexpr const char* name = "Llama3_2_3B";
  using Global = llama::LayerByParts<Heads{.q = 24, .kv = 8, .dim = 128}, 32>;
  using Layers = Hybrid<28, Global>;
  static constexpr std::int64_t hidden = 3072, ffn = 8192;
};

/// Llama 3.1 70B has the same numbers.
struct Llama3_3_70B : llama::Llama3 {
  static constexpr const char* name = "Llama3_3_70B";
  static constexpr Block block = with_own_head(Family::block);
  using Global = llama::LayerByParts<Heads{.q = 64, .kv = 8, .dim = 128}, 8>;
  using Layers = Hybrid<80, Global>;
  static constexpr std::int64_t hidden = 8192, ffn = 28'672;
};

struct SmolLM2_135M : llama::SmolLM2 {
  static constexpr const char* name = "SmolLM2_135M";
  using Global = DenseLayer<Heads{.q = 9, .kv = 3, .dim = 64}, 100'000>;
  using Layers = Hybrid<30, Global>;
  static constexpr std::int64_t hidden = 576, ffn = 1536;
};

struct SmolLM2_360M : llama::SmolLM2 {
  static constexpr const char* name = "SmolLM2_360M";
  using Global = DenseLayer<Heads{.q = 15, .kv = 5, .dim = 64}, 100'000>;
  using Layers = Hybrid<32, Global>;
  static constexpr std::int64_t hidden = 960, ffn = 2560;
};

struct SmolLM2_1_7B : llama::SmolLM2 {
  static constexpr const char* name = "SmolLM2_1_7B";
  using Global = DenseLayer<Heads{.q = 32, .kv = 32, .dim = 64}, 130'000>;
  using Layers = Hybrid<24, Global>;
  static constexpr std::int64_t hidden = 2048, ffn = 8192;
};

}  // namespace kvring::models
