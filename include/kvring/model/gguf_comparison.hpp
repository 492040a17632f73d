// GgufComparison: what the metadata of a GGUF file says of a model, compared with a model type.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/gguf.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/kernels/rope.hpp"
#include "kvring/model/differences.hpp"
#include "kvring/model/model_numbers.hpp"
#include "kvring/policy.hpp"

namespace kvring::detail {

/// Keys and tensors are llama.cpp's. Numbers that layers share stand once, or in an array of one
/// for each layer; sliding layers may have keys of their own, which end in "_swa".
class GgufComparison {
 public:
  GgufComparison(const GgufFile& file, const ModelNumbers& type)
      : file_(file), type_(type), architecture_(file.string("general.architecture")) {}

  std::string run() {
    out_.compare<std::string>("general.architecture", architecture_, {},
                              std::string(type_.architecture));
    if (!out_.text().empty()) return out_.text();  // the other keys have other names
    compare_sizes();
    compare_off();
    for (std::size_t i = 0; i < type_.layers.size(); ++i) {
      compare_layer(i);
      compare_rope(i);
    }
    compare_kinds();
    compare_frequencies();
    return out_.text();
  }

 private:
  bool gemma4() const { return architecture_ == "gemma4"; }

  std::string key(std::string_view name) const { return concat(architecture_, ".", name); }
  bool has(std::string_view name) const { return file_.has(key(name)); }

  /// A number of the whole model. `otherwise`: what a file means that lacks it; none: it must not.
  void integer(std::string_view name, std::int64_t in_type,
               std::optional<std::int64_t> otherwise = {}) {
    const bool by_default = otherwise && !has(name);
    if (by_default && *otherwise == in_type) return;
    const std::string in_file =
        by_default ? concat(*otherwise, " (by default)") : std::to_string(file_.u64(key(name)));
    if (in_file != std::to_string(in_type)) {
      out_.differ(key(name), in_file, std::to_string(in_type));
    }
  }
  void real(std::string_view name, double in_type, std::optional<double> otherwise = {}) {
    std::optional<float> in_file, by_default;
    if (otherwise) by_default = static_cast<float>(*otherwise);
    if (has(name) || !otherwise) in_file = static_cast<float>(file_.f64(key(name)));
    out_.compare<float>(key(name), in_file, by_default, static_cast<float>(in_type));
  }
  /// A number of a layer.
  void of_layer(std::size_t i, std::string_view name, std::int64_t in_type) {
    if (!file_.value(key(name)).is_array) return integer(name, in_type);
    const std::vector<std::int64_t> values = file_.i64s(key(name));
    if (one_for_each_layer(name, values.size())) {
      out_.compare<std::int64_t>(key(name), values[i], {}, in_type, i);
    }
  }
  bool one_for_each_layer(std::string_view name, std::size_t size) {
    if (size == type_.layers.size()) return true;
    out_.differ(key(concat(name, "'s length")), std::to_string(size),
                std::to_string(type_.layers.size()));
    return false;
  }
  /// The key for sliding layers, where the file has one.
  std::string sliding_name(const LayerNumbers& layer, std::string_view name) const {
    const std::string own = concat(name, "_swa");
    return layer.sliding() && has(own) ? own : std::string(name);
  }

  void compare_sizes() {
    integer("block_count", static_cast<std::int64_t>(type_.layers.size()));
    integer("embedding_length", type_.hidden);
    // A context that is shorter than the type's changes no number.
    const auto context = static_cast<std::uint64_t>(type_.max_context);
    if (file_.u64(key("context_length")) > context) integer("context_length", type_.max_context);
    integer("embedding_length_per_layer_input", type_.block.per_layer_width, 0);
    integer("vocab_size", type_.vocabulary, type_.vocabulary);
    if (file_.has("tokenizer.ggml.tokens")) {
      const std::uint64_t tokens = file_.value("tokenizer.ggml.tokens").count;
      if (tokens != static_cast<std::uint64_t>(type_.vocabulary)) {
        out_.differ("vocabulary", std::to_string(tokens), std::to_string(type_.vocabulary));
      }
    }
    real("attention.layer_norm_rms_epsilon", type_.norm_epsilon);
    real("final_logit_softcapping", type_.block.final_softcap, 0);
  }

  /// What no type here does.
  void compare_off() {
    real("attn_logit_softcapping", 0, 0);
    integer("expert_count", 0, 0);
  }

  void compare_layer(std::size_t i) {
    const LayerNumbers& layer = type_.layers[i];
    of_layer(i, "feed_forward_length", layer.ffn);
    of_layer(i, "attention.head_count", layer.heads.q);
    of_layer(i, "attention.head_count_kv", layer.heads.kv);
    if (has("attention.key_length")) {
      integer(sliding_name(layer, "attention.key_length"), layer.heads.dim);
      integer(sliding_name(layer, "attention.value_length"), layer.heads.dim);
    } else {
      const std::uint64_t hidden = file_.u64(key("embedding_length"));
      const std::uint64_t count = file_.u64(key("attention.head_count"));
      const std::uint64_t dim = count == 0 ? 0 : hidden / count;
      if (dim != static_cast<std::uint64_t>(layer.heads.dim)) {
        out_.differ("embedding_length / head_count", std::to_string(dim),
                    std::to_string(layer.heads.dim));
      }
    }
    if (layer.sliding()) integer("attention.sliding_window", layer.window);
  }

  /// Which layers slide, and whose caches they read.
  void compare_kinds() {
    bool slides = false;
    for (const LayerNumbers& layer : type_.layers) slides = slides || layer.sliding();
    if (!slides) integer("attention.sliding_window", 0, 0);

    const std::string_view pattern = "attention.sliding_window_pattern";
    if (has(pattern) || gemma4()) compare_pattern(pattern);

    const std::string_view shared = "attention.shared_kv_layers";
    const std::int64_t readers = readers_of(type_);
    integer(shared, readers, 0);
    if (readers == 0) return;
    for (std::size_t i = 0; i < type_.layers.size(); ++i) {
      out_.compare<std::int64_t>(concat("donor by ", key(shared)),
                                 donor_by_count(type_, readers, i), {}, type_.layers[i].donor, i);
    }
  }

  /// A bool for each layer, or a number n: every n-th layer sees everything.
  void compare_pattern(std::string_view name) {
    const bool stated = file_.value(key(name)).is_array;
    std::vector<bool> sliding(type_.layers.size());
    if (stated) {
      sliding = file_.booleans(key(name));
      if (!one_for_each_layer(name, sliding.size())) return;
    } else {
      const std::uint64_t every = file_.u64(key(name));
      for (std::size_t i = 0; i < sliding.size(); ++i) {
        sliding[i] = every == 0 || (i + 1) % every != 0;
      }
    }
    for (std::size_t i = 0; i < sliding.size(); ++i) {
      out_.compare<bool>(key(name), bool{sliding[i]}, {}, type_.layers[i].sliding(), i);
    }
  }

  void compare_rope(std::size_t i) {
    const LayerNumbers& layer = type_.layers[i];
    const std::string rotated = sliding_name(layer, "rope.dimension_count");
    integer(rotated, layer.rope.rotated, layer.rope.rotated);
    const std::string base = sliding_name(layer, "rope.freq_base");
    if (!beside_global(layer)) {
      real(base, layer.rope.theta);
      compare_scaling(layer);
    } else if (base.ends_with("_swa") || gemma4()) {
      real(base, layer.rope.theta);
    } else {  // of Gemma 3 it need not be stated
      real("rope.freq_base_swa", layer.rope.theta, 10'000);
    }
  }

  /// Of a hybrid, bases, scaling and `rope_freqs` are those of the layers that see everything.
  bool beside_global(const LayerNumbers& layer) const {
    if (!layer.sliding()) return false;
    for (const LayerNumbers& other : type_.layers) {
      if (!other.sliding()) return true;
    }
    return false;
  }

  void compare_scaling(const LayerNumbers& layer) {
    const std::string_view name = "rope.scaling.type";
    const std::string kind = has(name) ? std::string(file_.string(key(name))) : "linear";
    if (kind != "linear" && kind != "none") {
      out_.differ(key(name), printable(kind), layer.rope.scaling == 1 ? "none" : "linear");
    } else if (kind == "none") {
      out_.compare<float>(key(name), 1.0f, {}, static_cast<float>(layer.rope.scaling));
    } else {
      real("rope.scaling.factor", layer.rope.scaling, 1);
    }
  }

  /// rope_freqs.weight has a divisor of each pair's frequency: what metadata can't say.
  void compare_frequencies() {
    const GgufTensor* tensor = file_.find("rope_freqs.weight");
    std::vector<float> stated;
    for (std::size_t i = 0; i < type_.layers.size(); ++i) {
      const LayerNumbers& layer = type_.layers[i];
      if (beside_global(layer)) continue;
      const std::vector<float> wanted = divisors(layer.rope);
      if (tensor == nullptr) {
        for (const float divisor : wanted) {
          if (divisor == 1) continue;
          out_.differ("rope_freqs.weight", "absent", "needed", i);
          break;
        }
        continue;
      }
      if (tensor->rank != 1 || tensor->dims[0] != wanted.size()) {
        out_.differ("rope_freqs.weight", tensor->shape(), concat("[", wanted.size(), "]"), i);
        continue;
      }
      if (stated.empty()) {
        stated.resize(wanted.size());
        dequantize(tensor->type, tensor->data, stated.data(), stated.size());
      }
      for (std::size_t pair = 0; pair < wanted.size(); ++pair) {
        if (close(stated[pair], wanted[pair])) continue;
        out_.differ(concat("rope_freqs.weight[", pair, "]"), Differences::show(stated[pair]),
                    Differences::show(wanted[pair]), i);
        break;  // the others differ for the same reason
      }
    }
  }

  static constexpr float stopped = 1e30f;  // llama.cpp's divisor of a pair that does not turn

  static std::vector<float> divisors(const Rope& rope) {
    Rope plain = rope;
    plain.parts = {};
    plain.turning = 0;
    Rope scaled = rope;
    scaled.scaling = plain.scaling = 1;  // stated by metadata
    std::vector<float> out;
    for (std::int64_t pair = 0; pair < rope.rotated / 2; ++pair) {
      const float frequency = rope_frequency(scaled, pair);
      out.push_back(rope.turns(pair) ? rope_frequency(plain, pair) / frequency : stopped);
    }
    return out;
  }

  /// A quotient of roundings of two programs.
  static bool close(float a, float b) {
    if (b == stopped) return a >= 1e20f;  // no position turns by as much as a rounding
    return std::abs(a - b) <= 1e-5f * b;
  }

  const GgufFile& file_;
  const ModelNumbers& type_;
  std::string architecture_;
  Differences out_;
};

}  // namespace kvring::detail
