// Loading a GGUF file as a model type: what the file holds is compared with the type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kvring/hybrid.hpp"
#include "kvring/io/gguf.hpp"
#include "kvring/model/weights.hpp"
#include "kvring/policy.hpp"

namespace kvring {

namespace detail {

/// Collects the fields in which a file and a type differ.
class Differences {
 public:
  template <class A, class B>
  void compare(std::string_view field, const A& in_file, const B& in_type) {
    if (in_file == in_type) return;
    text_ += concat(text_.empty() ? "" : "; ", field, " is ", in_file, " in the file and ", in_type,
                    " in the type");
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace detail

/// In what a file's metadata differs from Model: empty, or every field with both values.
template <class Model>
std::string gguf_differences(const GgufFile& file) {
  const std::string architecture(file.string("general.architecture"));
  detail::Differences differences;
  differences.compare("general.architecture", std::string_view(architecture),
                      std::string_view(Model::architecture));
  if (!differences.text().empty()) return differences.text();  // the other keys have other names

  const auto integer = [&](std::string_view name, std::int64_t in_type) {
    const std::string key = concat(architecture, ".", name);
    differences.compare(key, file.u64(key), static_cast<std::uint64_t>(in_type));
  };
  const auto if_held = [&](std::string_view name, std::int64_t in_type) {
    if (file.has(concat(architecture, ".", name))) integer(name, in_type);
  };
  const auto real = [&](std::string_view name, double in_type) {
    const std::string key = concat(architecture, ".", name);
    differences.compare(key, static_cast<float>(file.f64(key)), static_cast<float>(in_type));
  };
  const auto real_if_held = [&](std::string_view name, double in_type) {
    if (file.has(concat(architecture, ".", name))) real(name, in_type);
  };
  integer("block_count", Model::Layers::layers);
  integer("embedding_length", Model::hidden);
  integer("feed_forward_length", Model::ffn);
  integer("context_length", Model::max_context);
  real("attention.layer_norm_rms_epsilon", Model::norm_epsilon);
  [&]<class... Kinds>(TypeList<Kinds...>) {
    const auto compare_kind = [&]<class Kind>(std::type_identity<Kind>) {
      integer("attention.head_count", Kind::heads.q);
      integer("attention.head_count_kv", Kind::heads.kv);
      if (file.has(concat(architecture, ".attention.key_length"))) {
        integer("attention.key_length", Kind::heads.dim);
        integer("attention.value_length", Kind::heads.dim);
      } else {
        const std::uint64_t hidden = file.u64(concat(architecture, ".embedding_length"));
        const std::uint64_t count = file.u64(concat(architecture, ".attention.head_count"));
        differences.compare("embedding_length / head_count", count == 0 ? 0 : hidden / count,
                            static_cast<std::uint64_t>(Kind::heads.dim));
      }
      if_held("rope.dimension_count", Kind::rope.rotated);
      if constexpr (Kind::Policy::window != unbounded) {
        integer("attention.sliding_window", Kind::Policy::window);
      }
      // Of a hybrid, the file holds the base of the layers that see everything.
      if constexpr (Kind::Policy::window == unbounded || sizeof...(Kinds) == 1) {
        real("rope.freq_base", Kind::rope.theta);
        real_if_held("rope.scaling.factor", Kind::rope.scaling);
      }
    };
    (compare_kind(std::type_identity<Kinds>{}), ...);
  }(typename Model::Layers::Kinds{});
  real_if_held("final_logit_softcapping", Model::block.final_softcap);
  real_if_held("attn_logit_softcapping", 0);  // no family here has one
  if_held("vocab_size", Model::vocabulary);
  if (file.has("tokenizer.ggml.tokens")) {
    differences.compare("vocabulary", file.value("tokenizer.ggml.tokens").count,
                        static_cast<std::uint64_t>(Model::vocabulary));
  }
  return differences.text();
}

namespace detail {

template <class Model>
concept GgufInterleavesHeads = requires {
  requires Model::gguf_interleaves_heads;
};

}  // namespace detail

/// The weights of a GGUF file. Every tensor that the model needs must be there, of its shape, and
/// no other may be.
template <class Model>
class GgufSource {
 public:
  explicit GgufSource(const GgufFile& file) : file_(&file) {}

  Matrix matrix(std::int64_t layer, std::string_view name, std::int64_t out, std::int64_t in) {
    const GgufTensor& tensor =
        find(layer, name, 2, static_cast<std::uint64_t>(in), static_cast<std::uint64_t>(out));
    Matrix matrix{.type = tensor.type, .data = tensor.data, .out = out, .in = in};
    if constexpr (detail::GgufInterleavesHeads<Model>) {
      using Kind = typename Model::Layers::template Kind<0>;  // all heads of Llama are of one width
      if (name == "attn_q" || name == "attn_k") matrix.interleaved_head = Kind::heads.dim;
    }
    return matrix;
  }

  std::vector<float> vector(std::int64_t layer, std::string_view name, std::int64_t size) {
    const auto count = static_cast<std::size_t>(size);
    const GgufTensor& tensor = find(layer, name, 1, count, 1);
    std::vector<float> values(count);
    dequantize(tensor.type, tensor.data, values.data(), count);
    return values;
  }

  void done_with_layer(std::int64_t layer) {
    const std::string prefix = concat("blk.", layer, ".");
    for (const GgufTensor& tensor : file_->tensors()) {
      if (tensor.name.starts_with(prefix)) file_->drop_pages(tensor);
    }
  }

  /// After everything was read: refuses a file that holds more.
  void require_nothing_left() const {
    for (const GgufTensor& tensor : file_->tensors()) {
      bool used = false;
      for (const std::string_view name : used_) used = used || name == tensor.name;
      require(used, file_->path(), ": tensor ", tensor.name, " ", tensor.shape(),
              " belongs to no part of the model");
    }
  }

 private:
  const GgufTensor& find(std::int64_t layer, std::string_view name, int rank, std::uint64_t in,
                         std::uint64_t out) {
    const std::string full = layer == whole_model ? concat(name, ".weight")
                                                  : concat("blk.", layer, ".", name, ".weight");
    const GgufTensor& tensor = file_->at(full);
    require(tensor.rank == rank && tensor.dims[0] == in && tensor.dims[1] == out, file_->path(),
            ": tensor ", full, " is ", tensor.shape(), ", but the model needs [", in,
            rank == 1 ? std::string() : concat(", ", out), "]");
    used_.push_back(tensor.name);
    return tensor;
  }

  const GgufFile* file_;
  std::vector<std::string_view> used_;
};

/// Checks the metadata against Model, then reads the weights. `file` must outlive them.
template <class Model, Backend B>
Weights<Model, B> load_gguf(B backend, const GgufFile& file) {
  const std::string differences = gguf_differences<Model>(file);
  require(differences.empty(), file.path(), " is no ", Model::name, ": ", differences);
  GgufSource<Model> source(file);
  Weights<Model, B> weights = load_weights<Model>(backend, source);
  source.require_nothing_left();
  return weights;
}

}  // namespace kvring
