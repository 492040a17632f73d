// The tiny models of tests/data as GGUF files, with the keys and tensors that llama.cpp's converter
// would write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "families.hpp"
#include "io/gguf_writer.hpp"

namespace kvring::test {

/// A source that writes what is read from another into a GGUF file, as f32.
template <class Source>
class Copying {
 public:
  Copying(Source source, io_test::GgufWriter& file) : source_(std::move(source)), file_(&file) {}

  Matrix matrix(std::int64_t layer, std::string_view name, std::int64_t out, std::int64_t in) {
    const Matrix matrix = source_.matrix(layer, name, out, in);
    std::vector<float> values(static_cast<std::size_t>(out * in));
    for (std::int64_t row = 0; row < out; ++row) matrix.read_row(row, values.data() + row * in);
    write(layer, name, {static_cast<std::uint64_t>(in), static_cast<std::uint64_t>(out)}, values);
    return matrix;
  }
  std::vector<float> vector(std::int64_t layer, std::string_view name, std::int64_t size) {
    const std::vector<float> values = source_.vector(layer, name, size);
    write(layer, name, {static_cast<std::uint64_t>(size)}, values);
    return values;
  }
  void done_with_layer(std::int64_t layer) { source_.done_with_layer(layer); }

 private:
  void write(std::int64_t layer, std::string_view name, std::vector<std::uint64_t> dims,
             const std::vector<float>& values) {
    std::string data(values.size() * sizeof(float), '\0');
    std::memcpy(data.data(), values.data(), data.size());
    const std::string full = layer == whole_model ? concat(name, ".weight")
                                                  : concat("blk.", layer, ".", name, ".weight");
    file_->tensors.push_back({full, 0, std::move(dims), std::move(data)});
  }

  Source source_;
  io_test::GgufWriter* file_;
};

/// A source whose layers from `first` on have feed-forward blocks twice as wide as another's, and
/// the same results: each of its units stands twice, and its output is split between the two.
template <class Source>
class DoubledFfn {
 public:
  /// Of unit `i`'s output. Not the same for all, or a norm after the block would take it out again.
  static float first_share(std::int64_t i) { return i % 2 == 0 ? 0.25f : 1.5f; }

  DoubledFfn(Source source, std::int64_t first) : source_(std::move(source)), first_(first) {}

  Matrix matrix(std::int64_t layer, std::string_view name, std::int64_t out, std::int64_t in) {
    const bool down = name == "ffn_down";
    const bool doubled = layer >= first_ && (down || name == "ffn_gate" || name == "ffn_up");
    if (!doubled) return source_.matrix(layer, name, out, in);
    const std::int64_t rows = down ? out : out / 2, columns = down ? in / 2 : in;
    const Matrix matrix = source_.matrix(layer, name, rows, columns);
    std::vector<float> values(static_cast<std::size_t>(out * in));
    for (std::int64_t row = 0; row < rows; ++row) {
      float* first = values.data() + row * in;
      matrix.read_row(row, first);
      float* second = down ? first + columns : first + rows * in;
      for (std::int64_t i = 0; i < columns; ++i) {
        second[i] = down ? first[i] * (1 - first_share(i)) : first[i];
        if (down) first[i] *= first_share(i);
      }
    }
    kept_->push_back(std::move(values));
    return {.type = GgmlType::f32,
            .data = reinterpret_cast<const std::byte*>(kept_->back().data()),
            .out = out,
            .in = in};
  }
  std::vector<float> vector(std::int64_t layer, std::string_view name, std::int64_t size) {
    return source_.vector(layer, name, size);
  }
  void done_with_layer(std::int64_t layer) { source_.done_with_layer(layer); }

 private:
  Source source_;
  std::int64_t first_;
  std::shared_ptr<std::vector<std::vector<float>>> kept_ =
      std::make_shared<std::vector<std::vector<float>>>();
};

/// Writes all tensors that `Model` reads from `source`.
template <class Model, class Source>
void write_tensors(io_test::GgufWriter& file, Source source) {
  Copying<Source> copying(std::move(source), file);
  load_weights<Model>(Host{}, copying);
}

/// Frequencies of the global layers: a quarter of the pairs turn.
inline void write_gemma4_frequencies(io_test::GgufWriter& file, std::size_t head_dim) {
  std::string data;
  for (std::size_t pair = 0; pair < head_dim / 2; ++pair) {
    data += io_test::raw(pair < head_dim / 8 ? 1.0f : 1e30f);
  }
  file.tensors.push_back({"rope_freqs.weight", 0, {head_dim / 2}, data});
}

/// The keys of the golden gemma4-e.
inline io_test::GgufWriter gemma4_e_keys() {
  io_test::GgufWriter file;
  file.add("general.architecture", "gemma4");
  file.add("gemma4.block_count", std::uint32_t{8});
  file.add("gemma4.context_length", std::uint32_t{4096});
  file.add("gemma4.embedding_length", std::uint32_t{64});
  file.add("gemma4.feed_forward_length", std::uint32_t{96});
  file.add("gemma4.attention.head_count", std::uint32_t{4});
  file.add("gemma4.attention.head_count_kv", std::uint32_t{2});
  file.add("gemma4.rope.freq_base", 1e6f);
  file.add("gemma4.rope.freq_base_swa", 1e4f);
  file.add("gemma4.attention.layer_norm_rms_epsilon", 1e-6f);
  file.add("gemma4.attention.key_length", std::uint32_t{128});
  file.add("gemma4.attention.value_length", std::uint32_t{128});
  file.add("gemma4.attention.key_length_swa", std::uint32_t{64});
  file.add("gemma4.attention.value_length_swa", std::uint32_t{64});
  file.add("gemma4.final_logit_softcapping", 30.0f);
  file.add("gemma4.attention.sliding_window", std::uint32_t{12});
  file.add("gemma4.attention.shared_kv_layers", std::uint32_t{3});
  file.add("gemma4.embedding_length_per_layer_input", std::uint32_t{16});
  file.add_array<bool>("gemma4.attention.sliding_window_pattern",
                       {true, true, false, true, true, false, true, false});
  file.add("gemma4.rope.dimension_count", std::uint32_t{128});
  file.add("gemma4.rope.dimension_count_swa", std::uint32_t{64});
  return file;
}

/// The keys of the golden gemma4-k-eq-v.
inline io_test::GgufWriter gemma4_k_eq_v_keys() {
  io_test::GgufWriter file = gemma4_e_keys();
  for (const char* key : {"block_count", "attention.head_count_kv", "attention.sliding_window",
                          "attention.shared_kv_layers", "embedding_length_per_layer_input",
                          "attention.sliding_window_pattern"}) {
    file.without(concat("gemma4.", key));
  }
  file.add("gemma4.block_count", std::uint32_t{6});
  file.add_array<std::int32_t>("gemma4.attention.head_count_kv", {2, 2, 1, 2, 2, 1});
  file.add("gemma4.attention.sliding_window", std::uint32_t{20});
  file.add("gemma4.attention.shared_kv_layers", std::uint32_t{0});
  file.add("gemma4.embedding_length_per_layer_input", std::uint32_t{0});
  file.add_array<bool>("gemma4.attention.sliding_window_pattern",
                       {true, true, false, true, true, false});
  return file;
}

}  // namespace kvring::test
