// Block: what a family's layers do besides attention, as data.
#pragma once

#include "kvring/config.hpp"

namespace kvring {

enum class Activation { gelu_tanh, silu };

struct Block {
  Activation activation = Activation::silu;
  bool qk_norm = false;  // RMSNorm of each query and key head, before RoPE
  bool sandwich_norms =
      false;  // RMSNorm of what attention and feed-forward add to the residual too
  bool scaled_embedding = false;  // embeddings are multiplied by sqrt(hidden)
};

}  // namespace kvring
