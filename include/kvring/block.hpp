// Block: what a family's layers do besides attention, as data.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

enum class Activation { gelu_tanh, silu };

struct Block {
  Activation activation = Activation::silu;
  bool qk_norm = false;  // RMSNorm of each query and key head, before RoPE
  bool sandwich_norms =
      false;            // RMSNorm of what attention and feed-forward add to the residual too
  bool v_norm = false;  // RMSNorm without weights of each value head (Gemma 4)
  bool scaled_embedding = false;  // embeddings are multiplied by sqrt(hidden)
  bool tied_head = true;          // the head is the embedding table
  bool layer_scalar = false;  // each layer's output is multiplied by a number of its own (Gemma 4)
  double final_softcap = 0;   // logits become softcap * tanh(logits / softcap); 0: they don't
  // Per-layer embeddings (Gemma 3n, Gemma 4 E): each layer adds a projection of its own slice, this
  // wide, of a second table. 0: none.
  std::int64_t per_layer_width = 0;
};

}  // namespace kvring
