// What a GGUF file says of a model against the type: every key that differs is named, with both
// values.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "io/gguf_writer.hpp"
#include "io/io_test.hpp"
#include "kvring/model/load_gguf.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/llama.hpp"

namespace kvring::test {
using io_test::GgufWriter;
using io_test::TempFile;

namespace {

/// The metadata that llama.cpp writes for Gemma 3 270M.
GgufWriter gemma3_270m() {
  GgufWriter file;
  file.add("general.architecture", "gemma3");
  file.add("gemma3.block_count", std::uint32_t{18});
  file.add("gemma3.embedding_length", std::uint32_t{640});
  file.add("gemma3.feed_forward_length", std::uint32_t{2048});
  file.add("gemma3.context_length", std::uint32_t{32'768});
  file.add("gemma3.attention.head_count", std::uint32_t{4});
  file.add("gemma3.attention.head_count_kv", std::uint32_t{1});
  file.add("gemma3.attention.key_length", std::uint32_t{256});
  file.add("gemma3.attention.value_length", std::uint32_t{256});
  file.add("gemma3.attention.sliding_window", std::uint32_t{512});
  file.add("gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
  file.add("gemma3.rope.freq_base", 1e6f);
  return file;
}

/// SmolLM2 135M's: no key_length, which then is embedding_length / head_count.
GgufWriter smollm2_135m() {
  GgufWriter file;
  file.add("general.architecture", "llama");
  file.add("llama.block_count", std::uint32_t{30});
  file.add("llama.embedding_length", std::uint32_t{576});
  file.add("llama.feed_forward_length", std::uint32_t{1536});
  file.add("llama.context_length", std::uint32_t{8192});
  file.add("llama.attention.head_count", std::uint32_t{9});
  file.add("llama.attention.head_count_kv", std::uint32_t{3});
  file.add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.add("llama.rope.freq_base", 1e5f);
  file.add("llama.rope.dimension_count", std::uint32_t{64});
  file.add("llama.vocab_size", std::uint32_t{49'152});
  return file;
}

template <class Model>
std::string differences(GgufWriter writer) {
  const TempFile file(writer.bytes());
  return gguf_differences<Model>(GgufFile(file.path()));
}

/// The differences when `key` is `value`.
template <class Model, class T>
std::string flipped(GgufWriter writer, const std::string& key, T value) {
  writer.without(key);
  writer.add(key, value);
  return differences<Model>(writer);
}

bool names(const std::string& text, const std::string& key) {
  return text.find(key + " is ") != std::string::npos;
}

}  // namespace

TEST_CASE("a GGUF file that says what the type says differs in nothing") {
  CHECK(differences<models::Gemma3_270M>(gemma3_270m()) == "");
  CHECK(differences<models::SmolLM2_135M>(smollm2_135m()) == "");
}

TEST_CASE("every number that a GGUF file holds is compared") {
  using Gemma = models::Gemma3_270M;
  for (const std::string key :
       {"gemma3.block_count", "gemma3.embedding_length", "gemma3.feed_forward_length",
        "gemma3.attention.head_count", "gemma3.attention.head_count_kv",
        "gemma3.attention.key_length", "gemma3.attention.value_length",
        "gemma3.attention.sliding_window", "gemma3.rope.dimension_count", "gemma3.vocab_size"}) {
    CAPTURE(key);
    CHECK(names(flipped<Gemma>(gemma3_270m(), key, std::uint32_t{7}), key));
  }
  CHECK(names(flipped<Gemma>(gemma3_270m(), "gemma3.context_length", std::uint32_t{32'769}),
              "gemma3.context_length"));
  CHECK(flipped<Gemma>(gemma3_270m(), "gemma3.context_length", std::uint32_t{8192}) == "");
  for (const std::string key : {"gemma3.attention.layer_norm_rms_epsilon", "gemma3.rope.freq_base",
                                "gemma3.rope.scaling.factor", "gemma3.final_logit_softcapping",
                                "gemma3.attn_logit_softcapping"}) {
    CAPTURE(key);
    CHECK(names(flipped<Gemma>(gemma3_270m(), key, 7.0f), key));
  }
  CHECK(names(flipped<models::SmolLM2_135M>(smollm2_135m(), "llama.rope.freq_base", 1e4f),
              "llama.rope.freq_base"));
  CHECK(names(flipped<models::SmolLM2_135M>(smollm2_135m(), "llama.attention.head_count",
                                            std::uint32_t{18}),
              "embedding_length / head_count"));
}

TEST_CASE("RoPE scaling in a GGUF file") {
  using Gemma = models::Gemma3_4B;
  GgufWriter file;
  file.add("general.architecture", "gemma3");
  file.add("gemma3.block_count", std::uint32_t{34});
  file.add("gemma3.embedding_length", std::uint32_t{2560});
  file.add("gemma3.feed_forward_length", std::uint32_t{10'240});
  file.add("gemma3.context_length", std::uint32_t{131'072});
  file.add("gemma3.attention.head_count", std::uint32_t{8});
  file.add("gemma3.attention.head_count_kv", std::uint32_t{4});
  file.add("gemma3.attention.key_length", std::uint32_t{256});
  file.add("gemma3.attention.value_length", std::uint32_t{256});
  file.add("gemma3.attention.sliding_window", std::uint32_t{1024});
  file.add("gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
  file.add("gemma3.rope.freq_base", 1e6f);
  CHECK(differences<Gemma>(file) ==
        "gemma3.rope.scaling.factor is 1 (by default) in the file and 8 in the type");
  file.add("gemma3.rope.scaling.factor", 8.0f);
  CHECK(differences<Gemma>(file) == "");
  CHECK(flipped<Gemma>(file, "gemma3.rope.scaling.type", "linear") == "");
  CHECK(flipped<Gemma>(file, "gemma3.rope.scaling.type", "none") ==
        "gemma3.rope.scaling.type is 1 in the file and 8 in the type");
  CHECK(flipped<Gemma>(file, "gemma3.rope.scaling.type", "yarn") ==
        "gemma3.rope.scaling.type is yarn in the file and linear in the type");
  CHECK(flipped<Gemma>(file, "gemma3.rope.freq_base_swa", 1e4f) == "");
  CHECK(flipped<Gemma>(file, "gemma3.rope.freq_base_swa", 1e6f) ==
        "gemma3.rope.freq_base_swa is 1e+06 in the file and 10000 in the type");
  CHECK(flipped<Gemma>(file, "gemma3.attention.sliding_window_pattern", std::uint32_t{6}) == "");
  CHECK(names(flipped<Gemma>(file, "gemma3.attention.sliding_window_pattern", std::uint32_t{5}),
              "gemma3.attention.sliding_window_pattern (layer 4)"));
}

namespace {

/// Llama 3.2 1B's metadata, and its divisors of frequencies as published: by the turns that a pair
/// makes in 8,192 positions.
GgufWriter llama3_2_1b(double factor) {
  GgufWriter file;
  file.add("general.architecture", "llama");
  file.add("llama.block_count", std::uint32_t{16});
  file.add("llama.embedding_length", std::uint32_t{2048});
  file.add("llama.feed_forward_length", std::uint32_t{8192});
  file.add("llama.context_length", std::uint32_t{131'072});
  file.add("llama.attention.head_count", std::uint32_t{32});
  file.add("llama.attention.head_count_kv", std::uint32_t{8});
  file.add("llama.attention.key_length", std::uint32_t{64});
  file.add("llama.attention.value_length", std::uint32_t{64});
  file.add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.add("llama.rope.freq_base", 5e5f);
  file.add("llama.rope.dimension_count", std::uint32_t{64});
  file.add("llama.vocab_size", std::uint32_t{128'256});
  std::string divisors;
  for (int pair = 0; pair < 32; ++pair) {
    const double turns = 8192 / (2 * std::acos(-1.0) * std::pow(5e5, pair / 32.0));
    const double mixed = std::clamp((turns - 1) / 3, 0.0, 1.0);
    divisors += io_test::raw(static_cast<float>(1 / ((1 - mixed) / factor + mixed)));
  }
  file.tensors.push_back({"rope_freqs.weight", 0, {32}, divisors});
  return file;
}

}  // namespace

TEST_CASE("RoPE by parts in a GGUF file: its divisors are the type's") {
  using Llama = models::Llama3_2_1B;
  CHECK(differences<Llama>(llama3_2_1b(32)) == "");
  // Pair 15 is the first that another factor divides otherwise.
  CHECK(names(differences<Llama>(llama3_2_1b(8)), "rope_freqs.weight[15] (layer 0)"));
  GgufWriter without = llama3_2_1b(32);
  without.tensors.clear();
  CHECK(differences<Llama>(without) ==
        "rope_freqs.weight (layer 0) is absent in the file and needed in the type");
  GgufWriter longer = llama3_2_1b(32);
  longer.tensors[0].dims = {16, 2};
  CHECK(differences<Llama>(longer) ==
        "rope_freqs.weight (layer 0) is [16, 2] F32 in the file and [32] in the type");
  // A type without scaling refuses them, unless they divide by 1.
  GgufWriter plain = smollm2_135m();
  plain.tensors = llama3_2_1b(32).tensors;
  CHECK(names(differences<models::SmolLM2_135M>(plain), "rope_freqs.weight[15] (layer 0)"));
  plain.tensors = llama3_2_1b(1).tensors;
  CHECK(differences<models::SmolLM2_135M>(plain) == "");
}

TEST_CASE("all differences stand in one text, with both values") {
  GgufWriter file = gemma3_270m();
  file.without("gemma3.block_count").without("gemma3.attention.sliding_window");
  file.add("gemma3.block_count", std::uint32_t{26});
  file.add("gemma3.attention.sliding_window", std::uint32_t{1024});
  const std::string text = differences<models::Gemma3_270M>(file);
  CHECK(text.find("gemma3.block_count is 26 in the file and 18 in the type") != std::string::npos);
  CHECK(text.find("gemma3.attention.sliding_window is 1024 in the file and 512 in the type") !=
        std::string::npos);
  CHECK(differences<models::SmolLM2_135M>(file) ==
        "general.architecture is gemma3 in the file and llama in the type");
}

TEST_CASE("query and key rows of Llama's files are put back in their order") {
  // A head of four: the file interleaves its halves, rows 0 2 1 3 of the head.
  const Matrix matrix{.out = 8, .in = 1, .interleaved_head = 4};
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < 8; ++row) rows.push_back(matrix.file_row(row));
  CHECK(rows == std::vector<std::int64_t>{0, 2, 1, 3, 4, 6, 5, 7});
}

}  // namespace kvring::test
