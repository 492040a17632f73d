// Gemma 4, text, dense. Numbers: config.json of google/gemma-4-{E2B,E4B,12B,31B}, as transformers'
// convert_gemma4_weights.py and convert_gemma4_unified_weights.py (12B) write it.
#pragma once

#include <cstdint>

#include "kvring/block.hpp"
#include "kvring/hybrid.hpp"
#include "kvring/rope.hpp"
#include "kvring/sharing.hpp"

namespace kvring::models {

namespace gemma4 {

template <std::int64_t Window, Heads Shape>
struct Local : Layer<Swa<Window>, Shape> {
  static constexpr const char* name = "local";
  static constexpr Rope rope{.theta = 10'000, .rotated = Shape.dim};
  static constexpr double query_scalar = 1;  // queries are normed: scores are not scaled
};

/// A quarter of the pairs turn ("proportional" rotary, partial_rotary_factor 0.25).
template <Heads Shape>
struct Global : Layer<Dense, Shape> {
  static constexpr const char* name = "global";
  static constexpr Rope rope{.theta = 1'000'000, .rotated = Shape.dim, .turning = Shape.dim / 8};
  static constexpr double query_scalar = 1;
};

/// A global layer whose values are its raw keys, before norm and RoPE (`attention_k_eq_v`).
template <Heads Shape>
struct GlobalKeqV : Global<Shape> {
  static constexpr bool value_from_key = true;
};

/// Common to the family.
struct Family {
  static constexpr const char* architecture = "gemma4";
  static constexpr const char* model_type = "gemma4_text";  // in config.json
  static constexpr Block block{.activation = Activation::gelu_tanh,
                               .qk_norm = true,
                               .sandwich_norms = true,
                               .v_norm = true,
                               .scaled_embedding = true,
                               .layer_scalar = true,
                               .final_softcap = 30};
  static constexpr bool norms_store_minus_one = false;
  static constexpr double norm_epsilon = 1e-6;
  static constexpr std::int64_t vocabulary = 262'144;
};

/// The E models add per-layer embeddings.
template <std::int64_t Width>
constexpr Block with_layer_inputs(Block block) {
  block.per_layer_width = Width;
  return block;
}

}  // namespace gemma4

/// Layers from 15 on read the caches of 13 (local) and 14 (global), and their feed-forward blocks
/// are twice as wide (`use_double_wide_mlp`).
struct Gemma4_E2B : gemma4::Family {
  static constexpr const char* name = "Gemma4_E2B";
  static constexpr Block block = gemma4::with_layer_inputs<256>(Family::block);
  using Local = gemma4::Local<512, Heads{.q = 8, .kv = 1, .dim = 256}>;
  using Global = gemma4::Global<Heads{.q = 8, .kv = 1, .dim = 512}>;
  using Layers = Hybrid<35, Repeat<4, Local>, Global>;
  using Sharing = SharedKv<20>;
  static constexpr std::int64_t hidden = 1536, max_context = 131'072;
  static constexpr std::int64_t ffn_of(std::int64_t layer) { return layer < 15 ? 6144 : 12'288; }
};

/// Layers from 24 on read the caches of 22 (local) and 23 (global).
struct Gemma4_E4B : gemma4::Family {
  static constexpr const char* name = "Gemma4_E4B";
  static constexpr Block block = gemma4::with_layer_inputs<256>(Family::block);
  using Local = gemma4::Local<512, Heads{.q = 8, .kv = 2, .dim = 256}>;
  using Global = gemma4::Global<Heads{.q = 8, .kv = 2, .dim = 512}>;
  using Layers = Hybrid<42, Repeat<5, Local>, Global>;
  using Sharing = SharedKv<18>;
  static constexpr std::int64_t hidden = 2560, ffn = 10'240, max_context = 131'072;
};

struct Gemma4_12B : gemma4::Family {
  static constexpr const char* name = "Gemma4_12B";
  using Local = gemma4::Local<1024, Heads{.q = 16, .kv = 8, .dim = 256}>;
  using Global = gemma4::GlobalKeqV<Heads{.q = 16, .kv = 1, .dim = 512}>;
  using Layers = Hybrid<48, Repeat<5, Local>, Global>;
  static constexpr std::int64_t hidden = 3840, ffn = 15'360, max_context = 262'144;
};

struct Gemma4_31B : gemma4::Family {
  static constexpr const char* name = "Gemma4_31B";
  using Local = gemma4::Local<1024, Heads{.q = 32, .kv = 16, .dim = 256}>;
  using Global = gemma4::GlobalKeqV<Heads{.q = 32, .kv = 4, .dim = 512}>;
  using Layers = Hybrid<60, Repeat<5, Local>, Global>;
  static constexpr std::int64_t hidden = 5376, ffn = 21'504, max_context = 262'144;
};

}  // namespace kvring::models
