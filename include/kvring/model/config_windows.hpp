// WindowComparison: which layers slide, and how far they see, in a config.json and in a model type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kvring/error.hpp"
#include "kvring/io/json.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/model/config_defaults.hpp"
#include "kvring/model/differences.hpp"
#include "kvring/model/model_numbers.hpp"
#include "kvring/policy.hpp"

namespace kvring::detail {

struct LayerField {
  std::string name;
  MaybeInteger value;
  bool of_layer = false;
};
/// A number that per_layer_config states for a layer, or else the file for all.
inline LayerField layer_field(const JsonObject& text, std::size_t i, std::string_view field) {
  if (const auto all = text.object("per_layer_config")) {
    if (const auto layer = all->object(std::to_string(i))) {
      if (layer->find(field) != nullptr) return {layer->name(field), layer->integer(field), true};
    }
  }
  return {text.name(field), text.integer(field)};
}

class WindowComparison {
 public:
  WindowComparison(const JsonObject& text, const ConfigDefaults& defaults, const ModelNumbers& type,
                   Differences& out)
      : text_(text), defaults_(defaults), type_(type), out_(out) {}

  void run() {
    compare_types();
    compare_windows();
  }

 private:
  void compare_types() {
    const std::size_t layers = type_.layers.size();
    const auto stated = text_.strings("layer_types");
    if (stated) {
      out_.compare<std::int64_t>(text_.name("layer_types' length"),
                                 static_cast<std::int64_t>(stated->size()), {},
                                 static_cast<std::int64_t>(layers));
      for (std::size_t i = 0; i < layers && i < stated->size(); ++i) {
        out_.compare<std::string>(text_.name(concat("layer_types[", i, "]")), (*stated)[i], {},
                                  type_.layers[i].type());
      }
      if (defaults_.gemma4() && !stated->empty() && stated->back() != "full_attention") {
        out_.differ(text_.name("layer_types"), concat(printable(stated->back()), " at the end"),
                    "full_attention there, which transformers makes of it");
      }
    }
    compare_pattern(stated ? MaybeInteger() : MaybeInteger(6));
    if (defaults_.is("qwen3")) {
      out_.compare(text_.name("use_sliding_window"), text_.boolean("use_sliding_window"),
                   std::optional<bool>(false), slides_anywhere());
    }
    if (defaults_.gemma() || (defaults_.is("qwen3") && stated)) return;

    // Elsewhere the window says which layers slide: all, or, of Qwen3, those from a number on.
    const bool slides = window_in_file() != unbounded;
    const auto first = static_cast<std::size_t>(
        defaults_.is("qwen3") ? text_.integer("max_window_layers").value_or(28) : 0);
    for (std::size_t i = 0; i < layers; ++i) {
      const bool sliding = slides && i >= first;
      if (sliding == type_.layers[i].sliding()) continue;
      out_.differ("layer_types by sliding_window", sliding ? "sliding_attention" : "full_attention",
                  type_.layers[i].type(), i);
    }
  }

  /// Gemma: every so many layers one is global; old files state the number.
  void compare_pattern(const MaybeInteger& otherwise) {
    const std::size_t layers = type_.layers.size();
    const auto fits = [&](std::int64_t pattern) {
      for (std::size_t i = 0; i < layers; ++i) {
        const bool forced =
            defaults_.gemma4() && i + 1 == layers;  // the last layer is always global
        const bool global = forced || static_cast<std::int64_t>(i + 1) % pattern == 0;
        if (global == type_.layers[i].sliding()) return false;
      }
      return true;
    };
    const auto in_type = [&] {
      for (std::size_t i = 1; i <= layers + 1; ++i) {
        const auto pattern = static_cast<std::int64_t>(i);
        if (fits(pattern)) return std::to_string(pattern);
      }
      return std::string("none");
    };
    bool stated = false;
    for (const char* field : {"sliding_window_pattern", "_sliding_window_pattern"}) {
      const MaybeInteger pattern = text_.integer(field);
      if (!pattern) continue;
      stated = true;
      if (*pattern == 0 || !fits(*pattern)) {
        out_.differ(text_.name(field), std::to_string(*pattern), in_type());
      }
    }
    if (defaults_.gemma() && otherwise && !stated && !fits(*otherwise)) {
      out_.differ("sliding_window_pattern", concat(*otherwise, " (by default)"), in_type());
    }
  }

  bool slides_anywhere() const {
    for (const LayerNumbers& layer : type_.layers) {
      if (layer.sliding()) return true;
    }
    return false;
  }

  /// `unbounded`: there is none.
  std::int64_t window_in_file() const {
    const bool off = defaults_.is("qwen3") && !text_.boolean("use_sliding_window").value_or(false);
    if (off) return unbounded;
    if (text_.find_even_null("sliding_window") == nullptr) {
      return defaults_.sliding_window.value_or(unbounded);
    }
    return text_.integer("sliding_window").value_or(unbounded);
  }

  void compare_windows() {
    const bool stated = text_.find_even_null("sliding_window") != nullptr;
    const std::int64_t window = window_in_file();
    const std::optional<std::string> for_all(window == unbounded ? "null" : std::to_string(window));
    for (std::size_t i = 0; i < type_.layers.size(); ++i) {
      const LayerNumbers& layer = type_.layers[i];
      if (!layer.sliding()) continue;
      const LayerField own = layer_field(text_, i, "sliding_window");
      if (own.of_layer) {
        out_.compare(own.name, own.value, {}, layer.window, i);
      } else {
        out_.compare(own.name, stated ? for_all : std::nullopt, for_all,
                     std::to_string(layer.window), i);
      }
    }
  }

  const JsonObject& text_;
  const ConfigDefaults& defaults_;
  const ModelNumbers& type_;
  Differences& out_;
};

}  // namespace kvring::detail
