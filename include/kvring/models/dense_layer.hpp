// What the Llama-like families share: pre-norm blocks with SiLU gates, whole heads rotated.
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

}  // namespace kvring::models
