// ConfigDefaults: what a config.json means without saying it, for each family of transformers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kvring/config.hpp"

namespace kvring::detail {

using MaybeInteger = std::optional<std::int64_t>;
using MaybeReal = std::optional<double>;

/// What transformers takes for a field that is absent; nothing, if it has no value either.
struct ConfigDefaults {
  std::string_view model_type{};
  MaybeInteger hidden_size{}, intermediate_size{}, num_hidden_layers{};
  MaybeInteger num_attention_heads{};
  MaybeInteger num_key_value_heads{};  // nothing: as many as num_attention_heads
  MaybeInteger head_dim{};             // nothing: hidden_size / num_attention_heads
  MaybeInteger vocab_size{}, max_position_embeddings{}, sliding_window{};
  std::int64_t hidden_size_per_layer_input = 0;
  MaybeReal rms_norm_eps{};
  MaybeReal rope_theta{}, local_theta{};  // of layers that see everything, and of sliding ones
  MaybeReal query_pre_attn_scalar{};      // nothing: head_dim
  std::string_view activation{};
  std::optional<bool> tie_word_embeddings{};

  // What the family does, whatever its config.json says.
  bool qk_norm = false, sandwich_norms = false, v_norm = false, scaled_embedding = false;
  bool layer_scalar = false, norms_store_minus_one = false;

  bool is(std::string_view type) const { return model_type == type; }
  bool gemma4() const { return model_type.starts_with("gemma4"); }
  bool gemma() const { return is("gemma3_text") || gemma4(); }
};

/// Source: configuration_*.py of transformers 5.23.
inline constexpr std::array<ConfigDefaults, 6> config_defaults{{
    {.model_type = "gemma3_text",
     .hidden_size = 2304,
     .intermediate_size = 9216,
     .num_hidden_layers = 26,
     .num_attention_heads = 8,
     .num_key_value_heads = 4,
     .head_dim = 256,
     .vocab_size = 262'208,
     .max_position_embeddings = 131'072,
     .sliding_window = 4096,
     .rms_norm_eps = 1e-6,
     .rope_theta = 1'000'000,
     .local_theta = 10'000,
     .query_pre_attn_scalar = 256,
     .activation = "gelu_pytorch_tanh",
     .tie_word_embeddings = true,
     .qk_norm = true,
     .sandwich_norms = true,
     .scaled_embedding = true,
     .norms_store_minus_one = true},
    {.model_type = "gemma4_text",
     .hidden_size = 2304,
     .intermediate_size = 9216,
     .num_hidden_layers = 30,
     .num_attention_heads = 8,
     .num_key_value_heads = 4,
     .head_dim = 256,
     .vocab_size = 262'144,
     .max_position_embeddings = 131'072,
     .sliding_window = 512,
     .hidden_size_per_layer_input = 256,
     .rms_norm_eps = 1e-6,
     .rope_theta = 1'000'000,
     .local_theta = 10'000,
     .query_pre_attn_scalar = 1,
     .activation = "gelu_pytorch_tanh",
     .tie_word_embeddings = true,
     .qk_norm = true,
     .sandwich_norms = true,
     .v_norm = true,
     .scaled_embedding = true,
     .layer_scalar = true},
    {.model_type = "gemma4_unified_text",  // Gemma 4 12B
     .hidden_size = 2304,
     .intermediate_size = 9216,
     .num_hidden_layers = 30,
     .num_attention_heads = 8,
     .num_key_value_heads = 4,
     .head_dim = 256,
     .vocab_size = 262'144,
     .max_position_embeddings = 262'144,
     .sliding_window = 1024,
     .rms_norm_eps = 1e-6,
     .rope_theta = 1'000'000,
     .local_theta = 10'000,
     .query_pre_attn_scalar = 1,
     .activation = "gelu_pytorch_tanh",
     .tie_word_embeddings = true,
     .qk_norm = true,
     .sandwich_norms = true,
     .v_norm = true,
     .scaled_embedding = true,
     .layer_scalar = true},
    {.model_type = "llama",
     .hidden_size = 4096,
     .intermediate_size = 11'008,
     .num_hidden_layers = 32,
     .num_attention_heads = 32,
     .vocab_size = 32'000,
     .max_position_embeddings = 2048,
     .rms_norm_eps = 1e-6,
     .rope_theta = 10'000,
     .local_theta = 10'000,
     .activation = "silu",
     .tie_word_embeddings = false},
    {.model_type = "mistral",
     .hidden_size = 4096,
     .intermediate_size = 14'336,
     .num_hidden_layers = 32,
     .num_attention_heads = 32,
     .num_key_value_heads = 8,
     .vocab_size = 32'000,
     .max_position_embeddings = 131'072,
     .sliding_window = 4096,
     .rms_norm_eps = 1e-6,
     .rope_theta = 10'000,
     .local_theta = 10'000,
     .activation = "silu",
     .tie_word_embeddings = false},
    {.model_type = "qwen3",
     .hidden_size = 4096,
     .intermediate_size = 22'016,
     .num_hidden_layers = 32,
     .num_attention_heads = 32,
     .num_key_value_heads = 32,
     .head_dim = 128,
     .vocab_size = 151'936,
     .max_position_embeddings = 32'768,
     .sliding_window = 4096,
     .rms_norm_eps = 1e-6,
     .rope_theta = 10'000,
     .local_theta = 10'000,
     .activation = "silu",
     .tie_word_embeddings = false,
     .qk_norm = true},
}};

/// A family that is none of these has no defaults: its config.json must state what is compared.
constexpr ConfigDefaults config_defaults_of(std::string_view model_type) {
  for (const ConfigDefaults& each : config_defaults) {
    if (each.model_type == model_type) return each;
  }
  return {.model_type = model_type};
}

}  // namespace kvring::detail
