// Weights of a model on a back end, and how they are read from whatever holds them.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvring/block.hpp"
#include "kvring/buffer.hpp"
#include "kvring/feed_forward.hpp"
#include "kvring/heads.hpp"
#include "kvring/model/linear.hpp"
#include "kvring/model/matrix.hpp"
#include "kvring/plan.hpp"

namespace kvring {

template <Backend B>
struct LayerWeights {
  Buffer<float, B> attention_norm;       // [hidden]
  Buffer<float, B> q_norm, k_norm;       // [head_dim], with qk_norm
  Buffer<float, B> post_attention_norm;  // [hidden], with sandwich_norms
  Buffer<float, B> ffn_norm;             // [hidden]
  Buffer<float, B> post_ffn_norm;        // [hidden], with sandwich_norms
  Linear<B> q, k, v, out;                // hidden to heads, and back; k and v if it owns a cache
  Linear<B> gate, up, down;              // hidden to ffn_width, and back
  Linear<B> input_gate, input_out;       // hidden to per_layer_width, and back
  Buffer<float, B> post_input_norm;      // [hidden], with per_layer_width
  float scalar = 1;                      // with layer_scalar
};

template <class Model, Backend B>
struct Weights {
  Table<B> embedding;  // [vocabulary, hidden]
  Table<B> head;       // [vocabulary, hidden], unless it is tied to the embedding
  std::vector<LayerWeights<B>> layers;
  Buffer<float, B> final_norm;  // [hidden]

  Table<B> layer_inputs;                // [vocabulary, layers * per_layer_width]
  Linear<B> layer_inputs_of_embedding;  // hidden to layers * per_layer_width
  Buffer<float, B> layer_input_norm;    // [per_layer_width]
};

/// Layer number of a tensor that belongs to the whole model.
inline constexpr std::int64_t whole_model = -1;

/// A place that weights come from. Names are llama.cpp's, without "blk.N." and ".weight".
/// Both throw Error if the tensor is missing or of another shape.
template <class S>
concept WeightSource = requires(S source, std::int64_t layer, std::string_view name,
                                std::int64_t n) {
  { source.matrix(layer, name, n, n) } -> std::same_as<Matrix>;           // [out, in]
  { source.vector(layer, name, n) } -> std::same_as<std::vector<float>>;  // [n]
  source.done_with_layer(layer);  // its matrices are not read again
};

/// Whether a kind of layer takes its values from the raw key projection (Gemma 4 12B and 31B).
template <class Kind>
inline constexpr bool value_from_key = false;
template <class Kind>
requires(Kind::value_from_key) inline constexpr bool value_from_key<Kind> = true;

/// Reads a whole model. `source` must outlive the weights: the embedding stays where it is.
template <class Model, Backend B, WeightSource Source>
Weights<Model, B> load_weights(B backend, Source& source) {
  using Layers = typename Model::Layers;
  constexpr auto donors = detail::SharingOf<Model>::type::template donors<Layers>();
  const auto vector = [&](std::int64_t layer, std::string_view name, std::int64_t size) {
    const std::vector<float> values = source.vector(layer, name, size);
    Buffer<float, B> buffer(backend, size);
    buffer.from_host(values.data(), size);
    return buffer;
  };
  const auto linear = [&](std::int64_t layer, std::string_view name, std::int64_t out,
                          std::int64_t in) {
    return Linear<B>(backend, source.matrix(layer, name, out, in));
  };

  Weights<Model, B> weights;
  weights.embedding =
      Table<B>(backend, source.matrix(whole_model, "token_embd", Model::vocabulary, Model::hidden));
  weights.final_norm = vector(whole_model, "output_norm", Model::hidden);
  if constexpr (!Model::block.tied_head) {
    weights.head =
        Table<B>(backend, source.matrix(whole_model, "output", Model::vocabulary, Model::hidden));
  }
  constexpr std::int64_t input_width = Model::block.per_layer_width;
  if constexpr (input_width > 0) {
    weights.layer_inputs =
        Table<B>(backend, source.matrix(whole_model, "per_layer_token_embd", Model::vocabulary,
                                        Layers::layers * input_width));
    weights.layer_inputs_of_embedding =
        linear(whole_model, "per_layer_model_proj", Layers::layers * input_width, Model::hidden);
    weights.layer_input_norm = vector(whole_model, "per_layer_proj_norm", input_width);
  }
  weights.layers.resize(static_cast<std::size_t>(Layers::layers));
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    const auto load_layer = [&]<class Kind>(std::type_identity<Kind>, std::int64_t i) {
      constexpr Heads heads = Kind::heads;
      LayerWeights<B>& layer = weights.layers[static_cast<std::size_t>(i)];
      layer.attention_norm = vector(i, "attn_norm", Model::hidden);
      layer.q = linear(i, "attn_q", heads.q_dim(), Model::hidden);
      const bool owns_cache = donors[static_cast<std::size_t>(i)] == i;
      if (owns_cache) {
        layer.k = linear(i, "attn_k", heads.kv_dim(), Model::hidden);
        if constexpr (!value_from_key<Kind>) {
          layer.v = linear(i, "attn_v", heads.kv_dim(), Model::hidden);
        }
      }
      layer.out = linear(i, "attn_output", Model::hidden, heads.q_dim());
      if constexpr (Model::block.qk_norm) {
        layer.q_norm = vector(i, "attn_q_norm", heads.dim);
        if (owns_cache) layer.k_norm = vector(i, "attn_k_norm", heads.dim);
      }
      layer.ffn_norm = vector(i, "ffn_norm", Model::hidden);
      const std::int64_t ffn = ffn_width<Model>(i);
      layer.gate = linear(i, "ffn_gate", ffn, Model::hidden);
      layer.up = linear(i, "ffn_up", ffn, Model::hidden);
      layer.down = linear(i, "ffn_down", Model::hidden, ffn);
      if constexpr (Model::block.sandwich_norms) {
        layer.post_attention_norm = vector(i, "post_attention_norm", Model::hidden);
        layer.post_ffn_norm = vector(i, "post_ffw_norm", Model::hidden);
      }
      if constexpr (input_width > 0) {
        layer.input_gate = linear(i, "inp_gate", input_width, Model::hidden);
        layer.input_out = linear(i, "proj", Model::hidden, input_width);
        layer.post_input_norm = vector(i, "post_norm", Model::hidden);
      }
      if constexpr (Model::block.layer_scalar) {
        layer.scalar = source.vector(i, "layer_output_scale", 1)[0];
      }
      source.done_with_layer(i);
    };
    (load_layer(std::type_identity<typename Layers::template Kind<I>>{}, I), ...);
  }
  (std::make_index_sequence<static_cast<std::size_t>(Layers::layers)>{});
  return weights;
}

}  // namespace kvring
