// The Llama-like families: pre-norm blocks with SiLU gates. Llama and SmolLM2, Qwen3, Mistral.
#pragma once

#include <cstdint>

#include "kvring/block.hpp"
#include "kvring/hybrid.hpp"
#include "kvring/rope.hpp"

namespace kvring::models {

/// A dense layer kind with RoPE of the base `Theta` over whole heads.
template <Heads Shape, std::int64_t Theta>
struct DenseLayer : Layer<Dense, Shape> {
  static constexpr const char* name = "dense";
  static constexpr Rope rope{.theta = Theta, .rotated = Shape.dim};
  static constexpr double query_scalar = Shape.dim;
};

/// A block whose head is a matrix of its own.
constexpr Block with_own_head(Block block) {
  block.tied_head = false;
  return block;
}

namespace llama {

struct Family {
  static constexpr const char* architecture = "llama";
  static constexpr Block block{.activation = Activation::silu};
  static constexpr bool norms_store_minus_one = false;
  static constexpr double norm_epsilon = 1e-5;
};

}  // namespace llama

namespace qwen3 {

struct Family {
  static constexpr const char* architecture = "qwen3";
  static constexpr Block block{.activation = Activation::silu, .qk_norm = true};
  static constexpr bool norms_store_minus_one = false;
  static constexpr double norm_epsilon = 1e-6;
};

}  // namespace qwen3

namespace mistral {

template <std::int64_t Window, Heads Shape, std::int64_t Theta = 10'000>
struct Local : Layer<Swa<Window>, Shape> {
  static constexpr const char* name = "local";
  static constexpr Rope rope{.theta = Theta, .rotated = Shape.dim};
  static constexpr double query_scalar = Shape.dim;
};

struct Family : llama::Family {
  static constexpr Block block = with_own_head(llama::Family::block);
};

}  // namespace mistral

}  // namespace kvring::models
