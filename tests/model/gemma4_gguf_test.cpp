// Gemma 4 by way of GGUF: the tiny goldens written as llama.cpp's converter writes its files, and
// with feed-forward blocks twice as wide where layers read another's cache (Gemma 4 E2B).
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "gguf_of_golden.hpp"
#include "golden.hpp"
#include "io/io_test.hpp"
#include "kvring/model/load_gguf.hpp"

namespace kvring::test {
using io_test::check_refused;
using io_test::GgufWriter;
using io_test::TempFile;

namespace {

constexpr double tolerance = 2e-4;  // that of families_test.cpp, which has the reasons

/// Layers from 5 on read the caches of others.
struct DoubleWide : TinyGemma4E {
  static constexpr const char* name = "DoubleWide";
  static constexpr std::int64_t ffn_of(std::int64_t layer) { return layer < 5 ? 96 : 192; }
};
struct WideTooLate : TinyGemma4E {
  static constexpr const char* name = "WideTooLate";
  static constexpr std::int64_t ffn_of(std::int64_t layer) { return layer < 6 ? 96 : 192; }
};

template <class Model>
std::vector<float> logits_of(const TinyFile& file, const Weights<Model, Host>& weights) {
  using TinyPlan = Plan<Model, f32, Chunk<64>, Rewind<0>, KeyTile<4>>;
  const std::vector<std::int32_t> ids = to_ids(file.golden.read_i64("input_ids"));
  Decoder<TinyPlan, Host> decoder(Host{}, weights, static_cast<std::int64_t>(ids.size()));
  return all_logits(decoder, 0, ids);
}

template <class Model>
Weights<Model, Host> load(const GgufFile& file) {
  return load_gguf<Model>(Host{}, file);
}

GgufWriter gemma4_e() {
  GgufWriter file = gemma4_e_keys();
  const TinyFile golden("gemma4-e");
  write_tensors<TinyGemma4E>(file, SafetensorsSource<TinyGemma4E>(golden.weights));
  write_gemma4_frequencies(file, 128);
  return file;
}

GgufWriter gemma4_k_eq_v() {
  GgufWriter file = gemma4_k_eq_v_keys();
  const TinyFile golden("gemma4-k-eq-v");
  write_tensors<TinyGemma4KeqV>(file, SafetensorsSource<TinyGemma4KeqV>(golden.weights));
  write_gemma4_frequencies(file, 128);
  return file;
}

using Doubled = DoubledFfn<SafetensorsSource<TinyGemma4E>>;

GgufWriter double_wide() {
  GgufWriter file = gemma4_e_keys();
  file.without("gemma4.feed_forward_length");
  file.add_array<std::int32_t>("gemma4.feed_forward_length", {96, 96, 96, 96, 96, 192, 192, 192});
  const TinyFile golden("gemma4-e");
  write_tensors<DoubleWide>(file, Doubled(SafetensorsSource<TinyGemma4E>(golden.weights), 5));
  write_gemma4_frequencies(file, 128);
  return file;
}

template <class Model>
std::string differences(const GgufWriter& writer) {
  const TempFile file(writer.bytes());
  return gguf_differences<Model>(GgufFile(file.path()));
}

bool holds(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("tiny Gemma 4 E through GGUF: the oracle's logits, and the bits of its safetensors") {
  const TinyFile golden("gemma4-e");
  const TempFile temp(gemma4_e().bytes());
  const GgufFile file(temp.path());
  const std::vector<float> logits = logits_of(golden, load<TinyGemma4E>(file));
  const double worst = max_difference(logits, golden.golden.read_f32("logits"));
  MESSAGE("gemma4-e through GGUF: logits differ by ", worst, " at most");
  CHECK(worst <= tolerance);
  const std::vector<float> right = logits_of(golden, load_tiny<TinyGemma4E>(golden));
  CHECK(std::memcmp(logits.data(), right.data(), right.size() * sizeof(float)) == 0);
}

TEST_CASE("tiny Gemma 4 with V from K through GGUF: the oracle's logits") {
  const TinyFile golden("gemma4-k-eq-v");
  const TempFile temp(gemma4_k_eq_v().bytes());
  const GgufFile file(temp.path());
  const std::vector<float> logits = logits_of(golden, load<TinyGemma4KeqV>(file));
  const double worst = max_difference(logits, golden.golden.read_f32("logits"));
  MESSAGE("gemma4-k-eq-v through GGUF: logits differ by ", worst, " at most");
  CHECK(worst <= tolerance);
}

TEST_CASE("feed-forward blocks of two widths: the oracle's logits, and a wrong width is noticed") {
  const TinyFile golden("gemma4-e");
  const std::vector<float> expected = golden.golden.read_f32("logits");
  const TempFile temp(double_wide().bytes());
  const GgufFile file(temp.path());
  const double worst = max_difference(logits_of(golden, load<DoubleWide>(file)), expected);
  MESSAGE("gemma4-e, double-wide: logits differ by ", worst, " at most");
  CHECK(worst <= tolerance);

  check_refused([&] { load<TinyGemma4E>(file); },
                {"gemma4.feed_forward_length (layer 5) is 192 in the file and 96 in the type"});
  check_refused([&] { load<WideTooLate>(file); },
                {"gemma4.feed_forward_length (layer 5) is 192 in the file and 96 in the type"});
  check_refused(
      [&] {
        GgufSource<WideTooLate> narrow(file);
        load_weights<WideTooLate>(Host{}, narrow);
      },
      {"tensor blk.5.ffn_gate.weight is [64, 192] F32, but the model needs [64, 96]"});

  // A decoder that saw the first half of the wide layers only would be far off.
  class Half {
   public:
    explicit Half(const TinyFile& file) : source_(file.weights) {}
    Matrix matrix(std::int64_t layer, std::string_view name, std::int64_t out, std::int64_t in) {
      const Matrix right = source_.matrix(layer, name, out, in);
      if (layer < 5 || name != "ffn_down") return right;
      std::vector<float>& values = kept_[static_cast<std::size_t>(layer)];
      values.resize(static_cast<std::size_t>(out * in));
      for (std::int64_t row = 0; row < out; ++row) right.read_row(row, values.data() + row * in);
      for (std::int64_t i = 0; i < out * in; ++i) {
        values[static_cast<std::size_t>(i)] *= Doubled::first_share(i % in);
      }
      return {.type = GgmlType::f32,
              .data = reinterpret_cast<const std::byte*>(values.data()),
              .out = out,
              .in = in};
    }
    std::vector<float> vector(std::int64_t layer, std::string_view name, std::int64_t size) {
      return source_.vector(layer, name, size);
    }
    void done_with_layer(std::int64_t layer) { source_.done_with_layer(layer); }

   private:
    SafetensorsSource<TinyGemma4E> source_;
    std::array<std::vector<float>, 8> kept_;
  };
  Half half(golden);
  const auto wrong = load_weights<TinyGemma4E>(Host{}, half);
  const double difference = max_difference(logits_of(golden, wrong), expected);
  std::printf("flip  %-13s  %-60s  %-8.1e  %s\n", "gemma4-e", "FFN width: half of a wide layer",
              difference, difference > 50 * tolerance ? "noticed" : "missed");
  CHECK(difference > 50 * tolerance);
}

TEST_CASE("Gemma 4 in GGUF: every key is compared") {
  CHECK(differences<TinyGemma4E>(gemma4_e_keys()) ==
        "rope_freqs.weight (layer 2) is absent in the file and needed in the type");
  const auto complete = [] {
    GgufWriter file = gemma4_e_keys();
    write_gemma4_frequencies(file, 128);
    return file;
  };
  CHECK(differences<TinyGemma4E>(complete()) == "");
  const auto flipped = [&](const std::string& key, auto value) {
    GgufWriter file = complete();
    file.without("gemma4." + key);
    file.add("gemma4." + key, value);
    return differences<TinyGemma4E>(file);
  };
  for (const std::string key :
       {"block_count", "embedding_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "attention.key_length_swa", "attention.value_length_swa", "attention.sliding_window",
        "attention.sliding_window_pattern", "attention.shared_kv_layers",
        "embedding_length_per_layer_input", "rope.dimension_count", "rope.dimension_count_swa",
        "expert_count", "vocab_size"}) {
    CAPTURE(key);
    CHECK(holds(flipped(key, std::uint32_t{7}), "gemma4." + key));
  }
  CHECK(holds(flipped("context_length", std::uint32_t{4097}), "gemma4.context_length is 4097"));
  for (const std::string key :
       {"attention.layer_norm_rms_epsilon", "final_logit_softcapping", "rope.freq_base",
        "rope.freq_base_swa", "rope.scaling.factor", "attn_logit_softcapping"}) {
    CAPTURE(key);
    CHECK(holds(flipped(key, 7.0f), "gemma4." + key + " is 7 in the file"));
  }
  // Without them llama.cpp takes other numbers.
  const auto without = [&](const std::string& key) {
    return differences<TinyGemma4E>(complete().without("gemma4." + key));
  };
  CHECK(
      holds(without("rope.freq_base_swa"), "gemma4.rope.freq_base is 1e+06 in the file and 10000"));
  CHECK(holds(without("final_logit_softcapping"), "is 0 (by default) in the file and 30 in"));
  CHECK(holds(without("attention.shared_kv_layers"), "is 0 (by default) in the file and 3 in"));
  check_refused([&] { without("attention.sliding_window_pattern"); }, {"sliding_window_pattern"});

  GgufWriter short_array = complete();
  short_array.without("gemma4.feed_forward_length");
  short_array.add_array<std::int32_t>("gemma4.feed_forward_length", {96, 96});
  CHECK(differences<TinyGemma4E>(short_array) ==
        "gemma4.feed_forward_length's length is 2 in the file and 8 in the type");

  GgufWriter pattern = complete();
  pattern.without("gemma4.attention.sliding_window_pattern");
  pattern.add_array<bool>("gemma4.attention.sliding_window_pattern",
                          {true, true, false, true, true, true, true, false});
  CHECK(differences<TinyGemma4E>(pattern) ==
        "gemma4.attention.sliding_window_pattern (layer 5) is true in the file and false in the "
        "type");

  GgufWriter all_turn = gemma4_e_keys();
  std::string ones;
  for (int pair = 0; pair < 64; ++pair) ones += io_test::raw(1.0f);
  all_turn.tensors.push_back({"rope_freqs.weight", 0, {64}, ones});
  CHECK(differences<TinyGemma4E>(all_turn) ==
        "rope_freqs.weight[16] (layer 2) is 1 in the file and 1e+30 in the type");

  GgufWriter heads = gemma4_k_eq_v_keys();
  write_gemma4_frequencies(heads, 128);
  CHECK(differences<TinyGemma4KeqV>(heads) == "");
  heads.without("gemma4.attention.head_count_kv");
  heads.add_array<std::int32_t>("gemma4.attention.head_count_kv", {2, 2, 2, 2, 2, 2});
  CHECK(differences<TinyGemma4KeqV>(heads) ==
        "gemma4.attention.head_count_kv (layer 2) is 2 in the file and 1 in the type");
}

TEST_CASE("Gemma 4 in GGUF: tensors") {
  // Converters keep projections that nothing reads; no other tensor may be left.
  GgufWriter file = gemma4_e();
  const auto spare = [&](const std::string& name) {
    GgufWriter more = file;
    more.tensors.push_back({name, 0, {8}, std::string(32, '\0')});
    return more;
  };
  const auto load_it = [](const GgufWriter& writer) {
    const TempFile temp(writer.bytes());
    const GgufFile opened(temp.path());
    load<TinyGemma4E>(opened);
  };
  load_it(spare("blk.5.attn_k.weight"));
  load_it(spare("blk.7.attn_v.weight"));
  load_it(spare("blk.6.attn_k_norm.weight"));
  check_refused([&] { load_it(spare("blk.5.attn_x.weight")); },
                {"blk.5.attn_x.weight [8] F32 belongs to no part of the model"});
  for (const char* name : {"blk.0.inp_gate.weight", "blk.4.layer_output_scale.weight",
                           "per_layer_proj_norm.weight", "blk.4.attn_k_norm.weight"}) {
    GgufWriter less = file;
    std::erase_if(less.tensors, [&](const auto& tensor) { return tensor.name == name; });
    check_refused([&] { load_it(less); }, {"has no tensor ", name});
  }
}

}  // namespace kvring::test
