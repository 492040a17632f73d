// Loading a GGUF file as a model type: what the file holds is compared with the type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvring/io/gguf.hpp"
#include "kvring/model/gguf_comparison.hpp"
#include "kvring/model/model_numbers.hpp"
#include "kvring/model/weights.hpp"
#include "kvring/plan.hpp"

namespace kvring {

/// In what a file differs from Model, before its weights are read: empty, or every field with both
/// values. Throws Error if a key that every file has is missing or of another type.
template <class Model>
std::string gguf_differences(const GgufFile& file) {
  const detail::ModelNumbers numbers = detail::numbers_of<Model>();
  return detail::GgufComparison(file, numbers).run();
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

  /// After everything was read: refuses a file that holds more. Left alone are frequencies, which
  /// gguf_differences has compared, and projections that a layer with another's cache does not use.
  void require_nothing_left() const {
    for (const GgufTensor& tensor : file_->tensors()) {
      bool used = tensor.name == "rope_freqs.weight" || is_unread_projection(tensor.name);
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

  static bool is_unread_projection(std::string_view name) {
    using Layers = typename Model::Layers;
    constexpr auto donors = detail::SharingOf<Model>::type::template donors<Layers>();
    for (std::int64_t layer = 0; layer < Layers::layers; ++layer) {
      if (donors[static_cast<std::size_t>(layer)] == layer) continue;
      for (const char* each : {"attn_k", "attn_v", "attn_k_norm"}) {
        if (name == concat("blk.", layer, ".", each, ".weight")) return true;
      }
    }
    return false;
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
