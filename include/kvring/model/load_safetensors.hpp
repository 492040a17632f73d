// Loading transformers' safetensors: config.json is compared with the type, and the tensors are
// read under transformers' names and in their way to store norms.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvring/io/printable.hpp"
#include "kvring/io/safetensors.hpp"
#include "kvring/io/safetensors_folder.hpp"
#include "kvring/model/config_json.hpp"
#include "kvring/model/model_numbers.hpp"
#include "kvring/model/weights.hpp"
#include "kvring/plan.hpp"

namespace kvring {

/// The weights of safetensors files under transformers' names, F32, F16 or BF16. Gemma's norms are
/// stored as w - 1; `Model::norms_store_minus_one` says so. Of a multimodal Gemma, the text part is
/// read.
template <class Model>
class SafetensorsSource {
 public:
  explicit SafetensorsSource(const SafetensorsFile& file)
      : SafetensorsSource({&file, 1}, file.path()) {}
  explicit SafetensorsSource(const SafetensorsFolder& folder)
      : SafetensorsSource(folder.files(), folder.path()) {}

  Matrix matrix(std::int64_t layer, std::string_view name, std::int64_t out, std::int64_t in) {
    const Found found =
        find(layer, name, {static_cast<std::uint64_t>(out), static_cast<std::uint64_t>(in)});
    return {.type = type_of(found), .data = found.tensor->data, .out = out, .in = in};
  }

  std::vector<float> vector(std::int64_t layer, std::string_view name, std::int64_t size) {
    const Found found = find(layer, name, {static_cast<std::uint64_t>(size)});
    std::vector<float> values(static_cast<std::size_t>(size));
    dequantize(type_of(found), found.tensor->data, values.data(), values.size());
    if constexpr (Model::norms_store_minus_one) {
      for (float& value : values) value += 1;
    }
    return values;
  }

  void done_with_layer(std::int64_t) {
    for (const Found& found : of_layer_) {
      found.file->file().drop_pages({found.tensor->data, found.tensor->bytes});
    }
    of_layer_.clear();
  }

  /// After everything was read: refuses files that hold more. Left alone are buffers that are no
  /// parameters, a head that is the embedding to the bit, projections that a layer with another's
  /// cache does not use, and what a multimodal model does with images and sound.
  void require_nothing_left() const {
    for (const SafetensorsFile& file : files_) {
      for (const SafetensorsTensor& tensor : file.tensors()) {
        require(used_.contains(&tensor) || may_stay({&file, &tensor}), file.path(), ": tensor ",
                printable(tensor.name), " belongs to no part of the model");
      }
    }
  }

 private:
  struct Found {
    const SafetensorsFile* file;
    const SafetensorsTensor* tensor;
  };

  static constexpr bool part_of_multimodal =
      detail::model_type_of<Model>().ends_with("_text");  // of gemma3 or gemma4
  static constexpr std::string_view text_prefix = "model.";

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

  SafetensorsSource(std::span<const SafetensorsFile> files, const std::string& path)
      : files_(files), path_(path) {
    if constexpr (part_of_multimodal) {
      const auto has_model = [&](std::string_view prefix) {
        return look_for(concat(prefix, "embed_tokens.weight")).tensor != nullptr;
      };
      bool found = has_model(text_prefix);
      for (const std::string_view prefix : {"language_model.model.", "model.language_model."}) {
        if (!has_model(prefix)) continue;
        require(!found, path_, " holds two models: tensors named ", prefix_, "embed_tokens and ",
                prefix, "embed_tokens");
        found = true;
        prefix_ = prefix;
      }
    }
  }

  std::string head_name() const {
    const bool inside = prefix_ == "language_model.model.";
    return inside ? "language_model.lm_head.weight" : "lm_head.weight";
  }
  std::string full_name(std::int64_t layer, std::string_view name) const {
    if (name == "output") return head_name();
    const std::string begin =
        layer == whole_model ? std::string(prefix_) : concat(prefix_, "layers.", layer, ".");
    if (name == "layer_output_scale") return begin + "layer_scalar";
    for (const auto& [ours, theirs] : names) {
      if (ours == name) return concat(begin, theirs, ".weight");
    }
    fail("no transformers' name for the tensor ", name);
  }

  Found look_for(std::string_view name) const {
    for (const SafetensorsFile& file : files_) {
      if (const SafetensorsTensor* tensor = file.find(name)) return {&file, tensor};
    }
    return {nullptr, nullptr};
  }

  Found find(std::int64_t layer, std::string_view name, const std::vector<std::uint64_t>& shape) {
    const std::string wanted = full_name(layer, name);
    const Found found = look_for(wanted);
    require(found.tensor != nullptr, path_, " has no tensor ", wanted);
    const auto text = [](const std::vector<std::uint64_t>& dims) {
      std::string out = "[";
      for (const std::uint64_t dim : dims) out += concat(out.size() == 1 ? "" : ", ", dim);
      return out + "]";
    };
    require(found.tensor->shape == shape, found.file->path(), ": tensor ", wanted, " is ",
            text(found.tensor->shape), ", but the model needs ", text(shape));
    used_.insert(found.tensor);
    if (layer != whole_model) of_layer_.push_back(found);
    return found;
  }

  static GgmlType type_of(const Found& found) {
    switch (found.tensor->type) {
      case SafetensorsType::f32:
        return GgmlType::f32;
      case SafetensorsType::f16:
        return GgmlType::f16;
      case SafetensorsType::bf16:
        return GgmlType::bf16;
      default:
        fail(found.file->path(), ": tensor ", found.tensor->name, " is ", found.tensor->info().name,
             "; weights are F32, F16 or BF16");
    }
  }

  bool may_stay(const Found& left) const {
    const std::string_view name = left.tensor->name;
    if (name.ends_with(".rotary_emb.inv_freq")) return true;
    if (name == head_name()) return is_embedding(left);
    return is_unread_projection(name) || (prefix_ != text_prefix && is_of_images_or_sound(name));
  }

  /// Of a model with a tied head, files may hold the embedding twice.
  bool is_embedding(const Found& head) const {
    const SafetensorsTensor& a = *head.tensor;
    const SafetensorsTensor& b = *look_for(full_name(whole_model, "token_embd")).tensor;
    require(a.type == b.type && a.shape == b.shape && std::memcmp(a.data, b.data, a.bytes) == 0,
            head.file->path(), ": tensor ", a.name, " is not ", b.name,
            ", but the model's head is tied to its embedding");
    return true;
  }

  /// A layer that reads another's cache has no use for what would fill its own.
  bool is_unread_projection(std::string_view name) const {
    using Layers = typename Model::Layers;
    constexpr auto donors = detail::SharingOf<Model>::type::template donors<Layers>();
    for (std::int64_t i = 0; i < Layers::layers; ++i) {
      if (donors[static_cast<std::size_t>(i)] == i) continue;
      for (const char* part : {"k_proj", "v_proj", "k_norm", "v_norm"}) {
        if (name == concat(prefix_, "layers.", i, ".self_attn.", part, ".weight")) return true;
      }
    }
    return false;
  }

  static bool is_of_images_or_sound(std::string_view name) {
    if (name.starts_with("model.")) name.remove_prefix(6);
    constexpr std::array<std::string_view, 6> parts{"vision_tower.", "multi_modal_projector.",
                                                    "embed_vision.", "vision_embedder.",
                                                    "audio_tower.",  "embed_audio."};
    return std::any_of(parts.begin(), parts.end(),
                       [&](std::string_view part) { return name.starts_with(part); });
  }

  std::span<const SafetensorsFile> files_;
  std::string path_;
  std::string_view prefix_ = text_prefix;
  std::set<const SafetensorsTensor*> used_;
  std::vector<Found> of_layer_;  // since done_with_layer
};

/// Compares config.json with Model, then reads the weights. `folder` must outlive them.
template <class Model, Backend B>
Weights<Model, B> load_safetensors(B backend, const SafetensorsFolder& folder) {
  const std::string differences = config_differences<Model>(folder.config());
  require(differences.empty(), folder.path(), " is no ", Model::name, ": ", differences);
  SafetensorsSource<Model> source(folder);
  Weights<Model, B> weights = load_weights<Model>(backend, source);
  source.require_nothing_left();
  return weights;
}

}  // namespace kvring
