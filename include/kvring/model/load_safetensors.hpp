// Loading transformers' safetensors: their names, and their way to store norms.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvring/io/safetensors.hpp"
#include "kvring/model/weights.hpp"

namespace kvring {

/// The weights of one file of safetensors under transformers' names. Gemma's norms are stored as
/// w - 1; `Model::norms_store_minus_one` says so.
template <class Model>
class SafetensorsSource {
 public:
  explicit SafetensorsSource(const SafetensorsFile& file) : file_(&file) {}

  Matrix matrix(std::int64_t layer, std::string_view name, std::int64_t out, std::int64_t in) {
    const SafetensorsTensor& tensor =
        find(layer, name, {static_cast<std::uint64_t>(out), static_cast<std::uint64_t>(in)});
    return {.type = type_of(tensor), .data = tensor.data, .out = out, .in = in};
  }

  std::vector<float> vector(std::int64_t layer, std::string_view name, std::int64_t size) {
    const SafetensorsTensor& tensor = find(layer, name, {static_cast<std::uint64_t>(size)});
    std::vector<float> values(static_cast<std::size_t>(size));
    dequantize(type_of(tensor), tensor.data, values.data(), values.size());
    if constexpr (Model::norms_store_minus_one) {
      for (float& value : values) value += 1;
    }
    return values;
  }

  void done_with_layer(std::int64_t) {}

  /// After everything was read: refuses a file that holds more.
  void require_nothing_left() const {
    for (const SafetensorsTensor& tensor : file_->tensors()) {
      bool used = false;
      for (const std::string_view name : used_) used = used || name == tensor.name;
      require(used, file_->path(), ": tensor ", tensor.name, " belongs to no part of the model");
    }
  }

 private:
  /// llama.cpp's names and transformers'.
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 21> names{{
      {"per_layer_token_embd", "embed_tokens_per_layer"},
      {"per_layer_model_proj", "per_layer_model_projection"},
      {"per_layer_proj_norm", "per_layer_projection_norm"},
      {"inp_gate", "per_layer_input_gate"},
      {"proj", "per_layer_projection"},
      {"post_norm", "post_per_layer_input_norm"},
      {"token_embd", "embed_tokens"},
      {"output_norm", "norm"},
      {"attn_norm", "input_layernorm"},
      {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"},
      {"attn_q_norm", "self_attn.q_norm"},
      {"attn_k_norm", "self_attn.k_norm"},
      {"post_attention_norm", "post_attention_layernorm"},
      {"ffn_norm",
       Model::block.sandwich_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"},
      {"post_ffw_norm", "post_feedforward_layernorm"},
  }};

  static std::string full_name(std::int64_t layer, std::string_view name) {
    if (name == "output") return "lm_head.weight";
    if (name == "layer_output_scale") return concat("model.layers.", layer, ".layer_scalar");
    for (const auto& [ours, theirs] : names) {
      if (ours != name) continue;
      return layer == whole_model ? concat("model.", theirs, ".weight")
                                  : concat("model.layers.", layer, ".", theirs, ".weight");
    }
    fail("no transformers' name for the tensor ", name);
  }

  const SafetensorsTensor& find(std::int64_t layer, std::string_view name,
                                const std::vector<std::uint64_t>& shape) {
    const SafetensorsTensor& tensor = file_->at(full_name(layer, name));
    const auto text = [](const std::vector<std::uint64_t>& dims) {
      std::string out = "[";
      for (const std::uint64_t dim : dims) out += concat(out.size() == 1 ? "" : ", ", dim);
      return out + "]";
    };
    require(tensor.shape == shape, file_->path(), ": tensor ", tensor.name, " is ",
            text(tensor.shape), ", but the model needs ", text(shape));
    used_.push_back(tensor.name);
    return tensor;
  }

  GgmlType type_of(const SafetensorsTensor& tensor) const {
    switch (tensor.type) {
      case SafetensorsType::f32:
        return GgmlType::f32;
      case SafetensorsType::f16:
        return GgmlType::f16;
      case SafetensorsType::bf16:
        return GgmlType::bf16;
      default:
        fail(file_->path(), ": tensor ", tensor.name, " is ", tensor.info().name,
             "; weights are F32, F16 or BF16");
    }
  }

  const SafetensorsFile* file_;
  std::vector<std::string_view> used_;
};

}  // namespace kvring
