// RopeComparison: the rotary embedding of a layer in a config.json, new or old, and in a model
// type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvring/io/json.hpp"
#include "kvring/model/config_defaults.hpp"
#include "kvring/model/differences.hpp"
#include "kvring/model/model_numbers.hpp"

namespace kvring::detail {

/// New files have rope_parameters, either of all layers or by layer type. Old ones have rope_theta,
/// rope_scaling and, of Gemma 3's sliding layers, rope_local_base_freq. All that is stated must
/// agree with the type, whichever of it transformers would prefer.
class RopeComparison {
 public:
  RopeComparison(const JsonObject& text, const ConfigDefaults& defaults, const LayerNumbers& layer,
                 std::size_t number, Differences& out)
      : text_(text), defaults_(defaults), layer_(layer), number_(number), out_(out) {}

  void run() {
    const bool gemma3 = defaults_.is("gemma3_text");
    const bool gemma4 = defaults_.gemma4();
    const bool old_local = gemma3 && layer_.sliding();
    find_parameters(gemma3, gemma4);
    if (const auto scaling = text_.object("rope_scaling"); scaling && !old_local) {
      places_.push_back(*scaling);
    }

    MaybeReal theta = layer_.sliding() ? defaults_.local_theta : defaults_.rope_theta;
    if (gemma4 && stated_) theta.reset();
    compare("rope_theta", old_local ? "rope_local_base_freq" : "rope_theta", theta,
            layer_.rope.theta);

    const bool global4 = gemma4 && !stated_ && !layer_.sliding();
    const Rope& rope = layer_.rope;
    const bool some_turn = rope.turning != 0 && 2 * rope.turning != rope.rotated;
    compare_type(global4 ? "proportional" : "default", some_turn           ? "proportional"
                                                       : rope.by_parts()   ? "llama3"
                                                       : rope.scaling != 1 ? "linear"
                                                                           : "default");
    if (rope.by_parts()) {
      compare("factor", nullptr, {}, rope.parts.factor);
      compare("low_freq_factor", nullptr, {}, rope.parts.low);
      compare("high_freq_factor", nullptr, {}, rope.parts.high);
      compare("original_max_position_embeddings", nullptr, {},
              static_cast<double>(rope.parts.original_context));
    } else {
      compare("factor", nullptr, 1, rope.scaling);
    }
    const std::int64_t rotated = some_turn ? 2 * rope.turning : rope.rotated;
    compare("partial_rotary_factor", "partial_rotary_factor", global4 ? 0.25 : 1,
            static_cast<double>(rotated) / static_cast<double>(layer_.heads.dim));
  }

 private:
  void find_parameters(bool gemma3, bool gemma4) {
    const auto parameters = text_.object("rope_parameters");
    if (!parameters) return;
    stated_ = true;
    places_.push_back(*parameters);
    const bool by_type = gemma3 || gemma4 || parameters->find("full_attention") != nullptr ||
                         parameters->find("sliding_attention") != nullptr;
    if (!by_type) return;
    if (const auto own = parameters->object(layer_.type())) {
      places_.push_back(*own);
    } else if (!gemma3) {
      out_.differ(parameters->name(layer_.type()), "absent", "needed", number_);
    }
  }

  /// Compares a number in every place that states it, or else its default.
  void compare(const char* field, const char* outer_field, const MaybeReal& otherwise,
               double in_type) {
    bool stated = false;
    const auto compare_in = [&](const JsonObject& place, const char* name) {
      const MaybeReal value = place.number(name);
      if (!value) return;
      out_.compare(place.name(name), value, {}, in_type, number_);
      stated = true;
    };
    for (const JsonObject& place : places_) compare_in(place, field);
    if (outer_field != nullptr) compare_in(text_, outer_field);
    if (!stated) out_.compare(field, {}, otherwise, in_type, number_);
  }

  void compare_type(const std::string& otherwise, const std::string& in_type) {
    bool stated = false;
    for (const JsonObject& place : places_) {
      const char* field =
          place.find("rope_type") != nullptr ? "rope_type" : "type";  // the old name
      const auto value = place.string(field);
      if (!value) continue;
      out_.compare(place.name(field), value, {}, in_type, number_);
      stated = true;
    }
    if (!stated) out_.compare("rope_type", {}, std::optional(otherwise), in_type, number_);
  }

  const JsonObject& text_;
  const ConfigDefaults& defaults_;
  const LayerNumbers& layer_;
  std::size_t number_;
  Differences& out_;
  bool stated_ = false;             // rope_parameters
  std::vector<JsonObject> places_;  // that may hold fields of this layer
};

}  // namespace kvring::detail
