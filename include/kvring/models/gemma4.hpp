// Gemma 4, text: what its layer kinds and its family add.
#pragma once

#include <cstdint>

#include "kvring/block.hpp"
#include "kvring/hybrid.hpp"
#include "kvring/rope.hpp"
#include "kvring/sharing.hpp"

namespace kvring::models::gemma4 {

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

}  // namespace kvring::models::gemma4
