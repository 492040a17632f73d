// config_differences: what transformers' config.json says, compared with a model type.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "kvring/block.hpp"
#include "kvring/error.hpp"
#include "kvring/io/json.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/model/config_defaults.hpp"
#include "kvring/model/config_rope.hpp"
#include "kvring/model/config_windows.hpp"
#include "kvring/model/differences.hpp"
#include "kvring/model/model_numbers.hpp"

namespace kvring {

namespace detail {

/// Compares one config.json with one type.
class ConfigComparison {
 public:
  ConfigComparison(const JsonDocument& config, const ModelNumbers& type)
      : type_(type), root_(config), text_(root_) {}

  std::string run() {
    compare_model_type();
    if (!out_.text().empty()) return out_.text();  // other fields mean other things
    compare_sizes();
    compare_block();
    compare_family();
    WindowComparison(text_, defaults_, type_, out_).run();
    compare_per_layer_config();
    compare_heads();
    compare_sharing();
    for (std::size_t i = 0; i < type_.layers.size(); ++i) {
      RopeComparison(text_, defaults_, type_.layers[i], i, out_).run();
    }
    compare_off();
    return out_.text();
  }

 private:
  template <class T>
  using Maybe = std::optional<T>;

  void compare(std::string_view field, const MaybeInteger& otherwise, std::int64_t in_type) {
    out_.compare(text_.name(field), text_.integer(field), otherwise, in_type);
  }

  /// Finds the text model's part of the file, and whether it is of the type's family.
  void compare_model_type() {
    std::string in_file = root_.string("model_type").value_or("");
    std::string in_type(type_.model_type);
    if (const auto text = root_.object("text_config")) {  // of a multimodal model
      nested_ = true;
      text_ = *text;
      if (in_type.ends_with("_text")) in_type.resize(in_type.size() - 5);
      const Maybe<std::string> inner(in_file + "_text");
      out_.compare(text_.name("model_type"), text_.string("model_type"), inner, *inner);
    }
    const bool unified = type_.model_type == "gemma4_text" &&
                         in_file == (nested_ ? "gemma4_unified" : "gemma4_unified_text");
    defaults_ = config_defaults_of(unified ? "gemma4_unified_text" : type_.model_type);
    if (unified) return;
    const bool named = nested_ ? in_type != type_.model_type : true;
    if (in_file != in_type || !named) {
      out_.differ("model_type", in_file.empty() ? "absent" : printable(in_file),
                  named ? in_type : concat(in_type, ", which is part of no other model,"));
    }
  }

  void compare_sizes() {
    compare("hidden_size", defaults_.hidden_size, type_.hidden);
    compare("num_hidden_layers", defaults_.num_hidden_layers,
            static_cast<std::int64_t>(type_.layers.size()));
    compare("vocab_size", defaults_.vocab_size, type_.vocabulary);
    // A context that is shorter than the type's, as Qwen3-Base has it, changes no number.
    const char* context = "max_position_embeddings";
    const MaybeInteger stated = text_.integer(context);
    const MaybeInteger positions = stated ? stated : defaults_.max_position_embeddings;
    if (positions.value_or(INT64_MAX) > type_.max_context) {
      compare(context, defaults_.max_position_embeddings, type_.max_context);
    }
    compare("hidden_size_per_layer_input", defaults_.hidden_size_per_layer_input,
            type_.block.per_layer_width);
    if (type_.block.per_layer_width > 0) {
      compare("vocab_size_per_layer_input", 262'144, type_.vocabulary);
    }
  }

  void compare_block() {
    const Block& block = type_.block;
    out_.compare(text_.name("rms_norm_eps"), text_.number("rms_norm_eps"), defaults_.rms_norm_eps,
                 type_.norm_epsilon);

    const std::string activation =
        block.activation == Activation::silu ? "silu" : "gelu_pytorch_tanh";
    bool stated = false;
    for (const char* field : {"hidden_activation", "hidden_act"}) {
      const auto value = text_.string(field);
      if (value) out_.compare(text_.name(field), value, {}, activation);
      stated = stated || value;
    }
    if (!stated) {
      const bool known = !defaults_.activation.empty();
      out_.compare("hidden_activation", {},
                   known ? Maybe<std::string>(defaults_.activation) : std::nullopt, activation);
    }

    const char* tie = "tie_word_embeddings";
    const auto tied = text_.boolean(tie);
    if (tied || !nested_) {
      out_.compare(text_.name(tie), tied, defaults_.tie_word_embeddings, block.tied_head);
    }
    if (nested_) {  // the head belongs to the whole
      out_.compare(tie, root_.boolean(tie), Maybe<bool>(true), block.tied_head);
    }

    const char* cap = "final_logit_softcapping";
    const MaybeReal softcap = text_.number(cap);
    if (softcap.value_or(0) != block.final_softcap || softcap == 0.0) {
      const auto show = [](double value) { return value == 0 ? "null" : Differences::show(value); };
      out_.differ(text_.name(cap), softcap ? Differences::show(*softcap) : "null",
                  show(block.final_softcap));
    }
  }

  /// What a family always does is stated by no field.
  void compare_family() {
    if (!defaults_.hidden_size) return;  // a family of the user's own
    const auto same = [&](std::string_view what, bool in_family, bool in_type) {
      out_.compare<bool>(concat(what, " of ", defaults_.model_type), in_family, {}, in_type);
    };
    same("qk_norm", defaults_.qk_norm, type_.block.qk_norm);
    same("sandwich_norms", defaults_.sandwich_norms, type_.block.sandwich_norms);
    same("v_norm", defaults_.v_norm, type_.block.v_norm);
    same("scaled_embedding", defaults_.scaled_embedding, type_.block.scaled_embedding);
    same("layer_scalar", defaults_.layer_scalar, type_.block.layer_scalar);
    same("norms_store_minus_one", defaults_.norms_store_minus_one, type_.norms_store_minus_one);
  }

  /// Holds nothing that is not compared.
  void compare_per_layer_config() {
    const auto all = text_.object("per_layer_config");
    if (!all) return;
    for (const std::string& layer : all->fields()) {
      std::size_t number = type_.layers.size();
      std::from_chars(layer.data(), layer.data() + layer.size(), number);
      if (number >= type_.layers.size() || std::to_string(number) != layer) {
        out_.differ(all->name(printable(layer)), "stated", concat(type_.layers.size(), " layers"));
        continue;
      }
      const auto fields = all->object(layer);
      if (!fields) continue;
      for (const std::string& field : fields->fields()) {
        const bool compared = field == "head_dim" || field == "num_key_value_heads" ||
                              field == "num_attention_heads" || field == "intermediate_size" ||
                              field == "sliding_window";
        const Json& value = *fields->find_even_null(field);
        if (compared && !value.is_null()) continue;
        out_.differ(fields->name(printable(field)), json_text(value), "the same in all layers");
      }
    }
  }

  void compare_heads() {
    const MaybeInteger own_hidden = text_.integer("hidden_size");
    const MaybeInteger hidden = own_hidden ? own_hidden : defaults_.hidden_size;
    const auto k_eq_v = text_.boolean("attention_k_eq_v");
    // Gemma 4 without per_layer_config has fields of their own for global layers.
    const bool global_fields = defaults_.gemma4() && text_.find("per_layer_config") == nullptr;
    const bool null_kv = text_.find_even_null("num_key_value_heads") != nullptr;
    for (std::size_t i = 0; i < type_.layers.size(); ++i) {
      const LayerNumbers& layer = type_.layers[i];
      const bool global = global_fields && !layer.sliding();
      // Compares a number of the layer, and returns what the file says.
      const auto number = [&](std::string_view field, const MaybeInteger& otherwise,
                              std::int64_t in_type) {
        const LayerField found = layer_field(text_, i, field);
        out_.compare(found.name, found.value, otherwise, in_type, i);
        return found.value ? found.value : otherwise;
      };

      compare_ffn(i);
      const MaybeInteger q =
          number("num_attention_heads", defaults_.num_attention_heads, layer.heads.q);
      const MaybeInteger kv =
          null_kv || !defaults_.num_key_value_heads ? q : defaults_.num_key_value_heads;
      const char* global_kv = "num_global_key_value_heads";
      const bool own_kv = global && k_eq_v.value_or(false) && text_.find(global_kv) != nullptr;
      number(own_kv ? global_kv : "num_key_value_heads", kv, layer.heads.kv);

      MaybeInteger dim = global ? MaybeInteger(512) : defaults_.head_dim;
      if (!dim && hidden && q.value_or(0) > 0) dim = *hidden / *q;
      number(global ? "global_head_dim" : "head_dim", dim, layer.heads.dim);

      out_.compare(
          text_.name("query_pre_attn_scalar"), text_.number("query_pre_attn_scalar"),
          MaybeReal(defaults_.query_pre_attn_scalar.value_or(static_cast<double>(layer.heads.dim))),
          layer.query_scalar, i);
      Maybe<bool> from_key = k_eq_v;
      if (from_key) *from_key = *from_key && !layer.sliding();
      out_.compare(text_.name("attention_k_eq_v"), from_key, Maybe<bool>(false),
                   layer.value_from_key, i);
    }
  }

  /// Of Gemma 4, layers that read another's cache may be twice as wide as the file says.
  void compare_ffn(std::size_t i) {
    const LayerField found = layer_field(text_, i, "intermediate_size");
    const MaybeInteger width = found.value ? found.value : defaults_.intermediate_size;
    const auto layers = static_cast<std::int64_t>(type_.layers.size());
    const std::int64_t first = layers - text_.integer("num_kv_shared_layers").value_or(0);
    const bool reader = first > 0 && static_cast<std::int64_t>(i) >= first;
    const bool twice = defaults_.gemma4() && reader &&
                       text_.boolean("use_double_wide_mlp").value_or(false) && width;
    if (twice && *width <= INT64_MAX / 2) {
      out_.compare<std::int64_t>(concat(found.name, ", doubled by use_double_wide_mlp,"),
                                 2 * *width, {}, type_.layers[i].ffn, i);
    } else {
      out_.compare(found.name, found.value, defaults_.intermediate_size, type_.layers[i].ffn, i);
    }
  }

  void compare_sharing() {
    const char* field = "num_kv_shared_layers";
    const std::int64_t readers = readers_of(type_);
    compare(field, 0, readers);
    if (text_.integer(field).value_or(0) != readers) return;
    for (std::size_t i = 0; i < type_.layers.size(); ++i) {
      out_.compare<std::int64_t>("donor by num_kv_shared_layers", donor_by_count(type_, readers, i),
                                 {}, type_.layers[i].donor, i);
    }
  }

  /// What no type here does.
  void compare_off() {
    const auto off = [&](const JsonObject& object, const char* field, bool zero_is_off) {
      const Json* value = object.find(field);
      if (value == nullptr || *value == false) return;
      if (zero_is_off && value->is_number() && *value == 0) return;
      out_.differ(object.name(field), json_text(*value), "off");
    };
    for (const char* field : {"attention_bias", "mlp_bias", "enable_moe_block", "num_experts",
                              "num_local_experts", "rope_interleaved"}) {
      off(text_, field, true);
    }
    if (!defaults_.gemma4()) off(text_, "use_double_wide_mlp", true);
    off(text_, "attn_logit_softcapping", false);
    off(root_, "quantization_config", false);
    if (nested_) off(text_, "quantization_config", false);
    const Json* both_ways = text_.find("use_bidirectional_attention");
    const bool images_only = defaults_.gemma4() && both_ways != nullptr && *both_ways == "vision";
    if (!images_only) off(text_, "use_bidirectional_attention", true);
  }

  const ModelNumbers& type_;
  JsonObject root_, text_;  // text_: text_config of a multimodal model, or all
  bool nested_ = false;
  ConfigDefaults defaults_;
  Differences out_;
};

}  // namespace detail

/// In what a config.json differs from Model: empty, or every field with both values. A field that
/// is absent counts as what transformers takes for it; one that changes no number is not read.
/// Throws Error for a value of the wrong kind.
template <class Model>
std::string config_differences(const JsonDocument& config) {
  const detail::ModelNumbers numbers = detail::numbers_of<Model>();
  return detail::ConfigComparison(config, numbers).run();
}

}  // namespace kvring
