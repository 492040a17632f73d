// Folders of safetensors as models: element types, shards, multimodal wrappers, tensors that may be
// there and tensors that may not; and 20,000 damaged folders, each of which loads or is refused.
#include "kvring/model/load_safetensors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/io_test.hpp"
#include "io/safetensors_writer.hpp"
#include "kvring/model/linear_host.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/llama.hpp"

namespace kvring::test {
namespace {

using io_test::check_refused;
using io_test::Random;
using io_test::raw;
using io_test::safetensors_bytes;
using io_test::SafetensorsEntry;
using io_test::TempFolder;
using Words = std::initializer_list<std::string_view>;
using Tensors = std::vector<SafetensorsEntry>;

struct MicroShape {
  static constexpr std::int64_t hidden = 8, ffn = 6, vocabulary = 5, max_context = 32;
};
struct MicroGemma3 : models::gemma3::Family, MicroShape {
  static constexpr const char* name = "MicroGemma3";
  static constexpr Heads heads{.q = 2, .kv = 1, .dim = 4};
  using Layers = Hybrid<2, models::gemma3::Local<3, heads>, models::gemma3::Global<heads>>;
  static constexpr std::int64_t vocabulary = MicroShape::vocabulary;
};
struct MicroLlama : models::llama::Family, MicroShape {
  static constexpr const char* name = "MicroLlama";
  static constexpr Block block = models::with_own_head(Family::block);
  using Layers = Hybrid<1, models::DenseLayer<Heads{.q = 2, .kv = 1, .dim = 4}, 10'000>>;
};
struct MicroGemma4 : models::gemma4::Family, MicroShape {
  static constexpr const char* name = "MicroGemma4";
  using Local = models::gemma4::Local<3, Heads{.q = 2, .kv = 1, .dim = 4}>;
  using Global = models::gemma4::Global<Heads{.q = 2, .kv = 1, .dim = 8}>;
  using Layers = Hybrid<4, Local, Global>;
  using Sharing = SharedKv<2>;
  static constexpr std::int64_t vocabulary = MicroShape::vocabulary;
};

const char* const gemma3_config = R"({"model_type":"gemma3_text","hidden_size":8,
    "intermediate_size":6,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,
    "head_dim":4,"vocab_size":5,"max_position_embeddings":32,"rms_norm_eps":1e-06,
    "query_pre_attn_scalar":4,"sliding_window":3,"hidden_activation":"gelu_pytorch_tanh",
    "layer_types":["sliding_attention","full_attention"],"tie_word_embeddings":true,
    "rope_parameters":{"full_attention":{"rope_theta":1000000.0,"rope_type":"default"},
                       "sliding_attention":{"rope_theta":10000.0,"rope_type":"default"}}})";
const char* const llama_config = R"({"model_type":"llama","hidden_size":8,"intermediate_size":6,
    "num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":5,
    "max_position_embeddings":32,"rms_norm_eps":1e-05})";
const char* const gemma4_config = R"({"model_type":"gemma4_text","hidden_size":8,
    "intermediate_size":6,"num_hidden_layers":4,"num_attention_heads":2,"num_key_value_heads":1,
    "head_dim":4,"global_head_dim":8,"vocab_size":5,"max_position_embeddings":32,
    "sliding_window":3,"final_logit_softcapping":30,"num_kv_shared_layers":2,
    "hidden_size_per_layer_input":0,"layer_types":["sliding_attention","full_attention",
    "sliding_attention","full_attention"]})";

/// Numbers of which F16 and BF16 lose nothing; each tensor has its own.
SafetensorsEntry some_tensor(const std::string& name, const std::string& dtype,
                             const std::vector<std::int64_t>& shape) {
  std::uint64_t seed = 0;
  for (const char c : name) seed = seed * 31 + static_cast<unsigned char>(c);
  Random random(seed);
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  std::string data;
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(random.below(64)) / 16 - 2;
    if (dtype == "F32") data += raw(value);
    if (dtype == "F16") data += raw(from_f32<f16>(value).bits);
    if (dtype == "BF16") data += raw(from_f32<bf16>(value).bits);
    if (dtype == "I64") data += raw(std::int64_t{1});
  }
  return {name, dtype, shape, data};
}

/// What every layer has. `dim`: of a head.
void add_layer(Tensors& tensors, const std::string& prefix, int i, const char* dtype,
               std::int64_t dim, bool owns_cache = true) {
  const auto add = [&](const char* name, const std::vector<std::int64_t>& shape) {
    tensors.push_back(
        some_tensor(concat(prefix, "layers.", i, ".", name, ".weight"), dtype, shape));
  };
  add("input_layernorm", {8});
  add("self_attn.q_proj", {2 * dim, 8});
  if (owns_cache) add("self_attn.k_proj", {dim, 8});
  if (owns_cache) add("self_attn.v_proj", {dim, 8});
  add("self_attn.o_proj", {8, 2 * dim});
  add("post_attention_layernorm", {8});
  add("mlp.gate_proj", {6, 8});
  add("mlp.up_proj", {6, 8});
  add("mlp.down_proj", {8, 6});
}
/// What Gemma's layers have besides.
void add_gemma(Tensors& tensors, const std::string& prefix, int i, const char* dtype,
               std::int64_t dim, bool owns_cache = true) {
  const auto add = [&](const char* name, const std::vector<std::int64_t>& shape) {
    tensors.push_back(
        some_tensor(concat(prefix, "layers.", i, ".", name, ".weight"), dtype, shape));
  };
  add("self_attn.q_norm", {dim});
  if (owns_cache) add("self_attn.k_norm", {dim});
  add("pre_feedforward_layernorm", {8});
  add("post_feedforward_layernorm", {8});
}

Tensors gemma3_tensors(const char* dtype = "BF16", const std::string& prefix = "model.") {
  Tensors tensors;
  for (int i = 0; i < 2; ++i) {
    add_layer(tensors, prefix, i, dtype, 4);
    add_gemma(tensors, prefix, i, dtype, 4);
  }
  tensors.push_back(some_tensor(prefix + "norm.weight", dtype, {8}));
  tensors.push_back(some_tensor(prefix + "embed_tokens.weight", dtype, {5, 8}));
  return tensors;
}
Tensors llama_tensors() {
  Tensors tensors;
  add_layer(tensors, "model.", 0, "F32", 4);
  tensors.push_back(some_tensor("model.norm.weight", "F32", {8}));
  tensors.push_back(some_tensor("model.embed_tokens.weight", "F32", {5, 8}));
  tensors.push_back(some_tensor("lm_head.weight", "F32", {5, 8}));
  return tensors;
}
Tensors gemma4_tensors() {
  Tensors tensors;
  for (int i = 0; i < 4; ++i) {
    add_layer(tensors, "model.", i, "F16", i % 2 == 0 ? 4 : 8, i < 2);
    add_gemma(tensors, "model.", i, "F16", i % 2 == 0 ? 4 : 8, i < 2);
    tensors.push_back(some_tensor(concat("model.layers.", i, ".layer_scalar"), "F16", {1}));
  }
  tensors.push_back(some_tensor("model.norm.weight", "F16", {8}));
  tensors.push_back(some_tensor("model.embed_tokens.weight", "F16", {5, 8}));
  return tensors;
}

SafetensorsEntry& tensor_of(Tensors& tensors, std::string_view name) {
  for (SafetensorsEntry& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  FAIL("no tensor ", std::string(name));
  return tensors[0];
}

std::string index_of(const Tensors& first, const Tensors& second) {
  std::string map;
  for (const Tensors* shard : {&first, &second}) {
    for (const SafetensorsEntry& tensor : *shard) {
      map += concat(map.empty() ? "" : ",", "\"", tensor.name, "\":\"",
                    shard == &first ? "m1" : "m2", ".safetensors\"");
    }
  }
  return concat("{\"weight_map\":{", map, "}}");
}

/// Every number of some weights, through the products that use them.
template <class Model>
std::vector<float> numbers_of(const Weights<Model, Host>& weights) {
  std::vector<float> all;
  const auto add_products = [&](const Linear<Host>& linear, std::int64_t in, std::int64_t out) {
    const std::int64_t rows = round_up(in, 4);
    std::vector<float> x(static_cast<std::size_t>(rows * in));
    for (std::int64_t i = 0; i < in; ++i) x[static_cast<std::size_t>(i * in + i)] = 1;
    std::vector<float> y(static_cast<std::size_t>(rows * out));
    linear(Host{}, x.data(), rows, y.data());
    all.insert(all.end(), y.begin(), y.begin() + in * out);
  };
  const auto add = [&](const Buffer<float, Host>& buffer) {
    all.insert(all.end(), buffer.data(), buffer.data() + buffer.size());
  };
  std::vector<std::int32_t> ids(static_cast<std::size_t>(Model::vocabulary));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  std::vector<float> rows(ids.size() * static_cast<std::size_t>(Model::hidden));
  weights.embedding.embed(Host{}, ids.data(), Model::vocabulary, 1, rows.data());
  all.insert(all.end(), rows.begin(), rows.end());
  add(weights.final_norm);
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    const auto add_layer_of = [&]<class Kind>(std::type_identity<Kind>, std::size_t i) {
      const LayerWeights<Host>& layer = weights.layers[i];
      add(layer.attention_norm);
      add(layer.ffn_norm);
      add(layer.q_norm);
      add(layer.post_ffn_norm);
      add_products(layer.q, Model::hidden, Kind::heads.q_dim());
      add_products(layer.out, Kind::heads.q_dim(), Model::hidden);
      add_products(layer.gate, Model::hidden, Model::ffn);
      add_products(layer.up, Model::hidden, Model::ffn);
      add_products(layer.down, Model::ffn, Model::hidden);
      all.push_back(layer.scalar);
    };
    (add_layer_of(std::type_identity<typename Model::Layers::template Kind<I>>{}, I), ...);
  }
  (std::make_index_sequence<static_cast<std::size_t>(Model::Layers::layers)>{});
  return all;
}

/// A folder of one file, loaded.
template <class Model>
std::vector<float> load(const std::string& config, const Tensors& tensors) {
  TempFolder temp;
  temp.write("config.json", config).write("model.safetensors", safetensors_bytes(tensors));
  const SafetensorsFolder folder(temp.path());
  return numbers_of(load_safetensors<Model>(Host{}, folder));
}

template <class Model>
void refused(const std::string& config, const Tensors& tensors, Words words) {
  check_refused([&] { load<Model>(config, tensors); }, words);
}

/// As `config` is part of a multimodal one.
std::string nested(const char* outer, const char* config) {
  return concat("{\"model_type\":\"", outer, "\",\"text_config\":", config, "}");
}

}  // namespace

TEST_CASE("safetensors weights: F32, F16 and BF16, one file and shards are the same numbers") {
  const std::vector<float> numbers = load<MicroGemma3>(gemma3_config, gemma3_tensors("BF16"));
  CHECK(numbers.size() > 500);
  CHECK(load<MicroGemma3>(gemma3_config, gemma3_tensors("F16")) == numbers);
  CHECK(load<MicroGemma3>(gemma3_config, gemma3_tensors("F32")) == numbers);

  // After a tensor of two bytes, all others lie at addresses that F32 is not aligned to.
  Tensors unaligned = gemma3_tensors("F32");
  unaligned.insert(unaligned.begin(), some_tensor("model.rotary_emb.inv_freq", "F16", {1}));
  CHECK(load<MicroGemma3>(gemma3_config, unaligned) == numbers);

  Tensors first = gemma3_tensors("F32"), second;
  for (int i = 0; i < 11; ++i) {
    second.push_back(first.back());
    first.pop_back();
  }
  TempFolder temp;
  temp.write("config.json", gemma3_config);
  temp.write("model.safetensors.index.json", index_of(first, second));
  temp.write("m1.safetensors", safetensors_bytes(first));
  temp.write("m2.safetensors", safetensors_bytes(second));
  const SafetensorsFolder folder(temp.path());
  CHECK(numbers_of(load_safetensors<MicroGemma3>(Host{}, folder)) == numbers);

  temp.remove("m2.safetensors");
  check_refused([&] { SafetensorsFolder{temp.path()}; },
                {"names shard m2.safetensors, which is missing"});
  // One shard, named by itself, is not the model.
  const SafetensorsFolder one(temp.path() / "m1.safetensors");
  check_refused([&] { load_safetensors<MicroGemma3>(Host{}, one); },
                {"m1.safetensors has no tensor model."});
}

TEST_CASE("safetensors weights: a tensor that is missing, of another type or shape, or too much") {
  for (const SafetensorsEntry& tensor : gemma3_tensors()) {
    CAPTURE(tensor.name);
    Tensors tensors = gemma3_tensors();
    std::erase_if(tensors, [&](const SafetensorsEntry& each) { return each.name == tensor.name; });
    refused<MicroGemma3>(gemma3_config, tensors, {"has no tensor " + tensor.name});

    tensors.push_back(some_tensor(tensor.name, "I64", tensor.shape));
    refused<MicroGemma3>(gemma3_config, tensors,
                         {"tensor " + tensor.name + " is I64; weights are F32, F16 or BF16"});

    std::vector<std::int64_t> shape = tensor.shape;
    ++shape.back();
    tensors.back() = some_tensor(tensor.name, "BF16", shape);
    const auto text = [](const std::vector<std::int64_t>& dims) {
      std::string out = concat("[", dims[0]);
      for (std::size_t i = 1; i < dims.size(); ++i) out += concat(", ", dims[i]);
      return out + "]";
    };
    refused<MicroGemma3>(gemma3_config, tensors,
                         {"tensor " + tensor.name + " is " + text(shape) +
                          ", but the model needs " + text(tensor.shape)});
    shape = tensor.shape;
    shape.push_back(1);
    tensors.back() = some_tensor(tensor.name, "BF16", shape);
    refused<MicroGemma3>(gemma3_config, tensors, {"but the model needs"});
  }
  for (const char* more : {"model.layers.2.input_layernorm.weight", "model.norm.bias", "x",
                           "model.layers.0.self_attn.q_proj.bias", "vision_tower.w",
                           "model.layers.0.self_attn.k_proj.weight_scale", "norm.weight",
                           "language_model.lm_head.weight"}) {
    CAPTURE(std::string(more));
    Tensors tensors = gemma3_tensors();
    tensors.push_back(some_tensor(more, "BF16", {8}));
    refused<MicroGemma3>(gemma3_config, tensors,
                         {"tensor ", more, " belongs to no part of the model"});
  }
}

TEST_CASE("safetensors weights: config.json and tensors that disagree") {
  // The tensors are a MicroGemma3's, config.json is not.
  std::string config = gemma3_config;
  config.replace(config.find("\"intermediate_size\":6"), 21, "\"intermediate_size\":7");
  refused<MicroGemma3>(config, gemma3_tensors(),
                       {"is no MicroGemma3: intermediate_size (layer 0) is 7 in the file and 6"});
  // config.json is a MicroGemma3's, the tensors are not.
  Tensors tensors = gemma3_tensors();
  tensor_of(tensors, "model.layers.1.mlp.up_proj.weight") =
      some_tensor("model.layers.1.mlp.up_proj.weight", "BF16", {7, 8});
  refused<MicroGemma3>(gemma3_config, tensors,
                       {"model.layers.1.mlp.up_proj.weight is [7, 8], but the model needs [6, 8]"});
  refused<MicroLlama>(gemma3_config, gemma3_tensors(), {"is no MicroLlama: model_type is"});
  refused<MicroLlama>(llama_config, gemma3_tensors("F32"), {"has no tensor lm_head.weight"});
}

TEST_CASE("safetensors weights: a head beside the embedding that it is tied to") {
  const std::vector<float> numbers = load<MicroGemma3>(gemma3_config, gemma3_tensors());
  Tensors tensors = gemma3_tensors();
  SafetensorsEntry head = tensor_of(tensors, "model.embed_tokens.weight");
  head.name = "lm_head.weight";
  tensors.push_back(head);
  CHECK(load<MicroGemma3>(gemma3_config, tensors) == numbers);

  const Words words{"tensor lm_head.weight is not model.embed_tokens.weight",
                    "the model's head is tied to its embedding"};
  tensors.back().data.back() ^= 1;
  refused<MicroGemma3>(gemma3_config, tensors, words);
  tensors.back() = some_tensor("lm_head.weight", "F32", {5, 8});
  refused<MicroGemma3>(gemma3_config, tensors, words);
  tensors.back() = head;
  tensors.back().shape = {8, 5};
  refused<MicroGemma3>(gemma3_config, tensors, words);

  // Untied, it is a matrix like others.
  CHECK(load<MicroLlama>(llama_config, llama_tensors()).size() > 100);
}

TEST_CASE("safetensors weights: buffers, and projections that no layer reads, may be there") {
  Tensors llama = llama_tensors();
  const std::vector<float> numbers = load<MicroLlama>(llama_config, llama);
  llama.push_back(some_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}));
  CHECK(load<MicroLlama>(llama_config, llama) == numbers);

  Tensors gemma4 = gemma4_tensors();
  const std::vector<float> shared = load<MicroGemma4>(gemma4_config, gemma4);
  for (const char* unread : {"k_proj", "v_proj", "k_norm"}) {
    gemma4.push_back(
        some_tensor(concat("model.layers.3.self_attn.", unread, ".weight"), "F16", {8, 8}));
  }
  CHECK(load<MicroGemma4>(gemma4_config, gemma4) == shared);
  gemma4.push_back(some_tensor("model.layers.1.self_attn.v_norm.weight", "F16", {8}));
  refused<MicroGemma4>(gemma4_config, gemma4,
                       {"model.layers.1.self_attn.v_norm.weight belongs to no part"});
}

TEST_CASE("safetensors weights: the text part of a multimodal Gemma") {
  const std::vector<float> numbers = load<MicroGemma3>(gemma3_config, gemma3_tensors());
  const std::string config = nested("gemma3", gemma3_config);
  for (const char* prefix : {"model.", "language_model.model.", "model.language_model."}) {
    CAPTURE(std::string(prefix));
    // The names differ, and with them the numbers: take those of the plain names.
    Tensors tensors = gemma3_tensors();
    for (SafetensorsEntry& tensor : tensors) tensor.name = prefix + tensor.name.substr(6);
    CHECK(load<MicroGemma3>(config, tensors) == numbers);
    if (std::string_view(prefix) == "model.") continue;
    for (const char* more :
         {"vision_tower.vision_model.w", "model.vision_tower.w", "multi_modal_projector.w",
          "model.embed_vision.w", "model.audio_tower.w", "embed_audio.w"}) {
      tensors.push_back(some_tensor(more, "I64", {2}));
    }
    CHECK(load<MicroGemma3>(config, tensors) == numbers);

    SafetensorsEntry head = tensor_of(tensors, concat(prefix, "embed_tokens.weight"));
    const bool inside = std::string_view(prefix) == "language_model.model.";
    head.name = inside ? "language_model.lm_head.weight" : "lm_head.weight";
    tensors.push_back(head);
    CHECK(load<MicroGemma3>(config, tensors) == numbers);

    tensors.push_back(some_tensor("model.talker.w", "BF16", {2}));
    refused<MicroGemma3>(config, tensors, {"tensor model.talker.w belongs to no part"});
  }

  Tensors both = gemma3_tensors();
  for (const SafetensorsEntry& tensor : gemma3_tensors("BF16", "model.language_model.")) {
    both.push_back(tensor);
  }
  refused<MicroGemma3>(config, both,
                       {"holds two models: tensors named model.embed_tokens and "
                        "model.language_model.embed_tokens"});
  for (const char* prefix : {"", "transformer.", "text_model.", "model.model."}) {
    refused<MicroGemma3>(config, gemma3_tensors("BF16", prefix),
                         {"has no tensor model.embed_tokens.weight"});
  }
  Tensors llama = llama_tensors();
  for (SafetensorsEntry& tensor : llama) tensor.name = "language_model." + tensor.name;
  refused<MicroLlama>(llama_config, llama, {"has no tensor model.embed_tokens.weight"});
}

namespace {

/// A folder of which one file at a time is damaged.
class DamagedFolder {
 public:
  DamagedFolder() {
    Tensors first = gemma3_tensors(), second;
    for (int i = 0; i < 24; ++i) {
      second.push_back(first.back());
      first.pop_back();
    }
    files_ = {{"config.json", gemma3_config},
              {"model.safetensors.index.json", index_of(first, second)},
              {"m1.safetensors", safetensors_bytes(first)},
              {"m2.safetensors", safetensors_bytes(second)}};
    for (const auto& [name, bytes] : files_) folder_.write(name, bytes);
  }

  const std::string& bytes_of(std::string_view name) const {
    for (const auto& [each, bytes] : files_) {
      if (each == name) return bytes;
    }
    throw std::logic_error("no such file");
  }

  /// Loads the folder with `bytes` in the file's place, and mends it.
  void run(std::string_view name, std::string_view bytes) {
    folder_.write(name, bytes);
    try {
      load();
      ++loaded;
    } catch (const Error& error) {
      ++refused;
      if (!std::string_view(error.what()).starts_with("kvring: ")) ++wrong;
    } catch (const std::exception& error) {
      ++wrong;
      FAIL_CHECK(std::string(name), ": mutant ", count(), " threw ", error.what());
    }
    folder_.write(name, bytes_of(name));
  }

  /// Truncations, pieces moved about, and random bytes.
  void damage(std::string_view name, int splices, int noises, std::size_t truncation_step,
              std::uint64_t seed) {
    const std::string& original = bytes_of(name);
    for (std::size_t size = 0; size < original.size(); size += truncation_step) {
      run(name, original.substr(0, size));
    }
    Random random(seed);
    for (int i = 0; i < splices; ++i) {
      std::string bytes = original;
      for (std::size_t cuts = 1 + random.below(2); cuts > 0 && !bytes.empty(); --cuts) {
        const std::string piece =
            original.substr(random.below(original.size()), 1 + random.below(30));
        const std::size_t at = random.below(bytes.size()), kind = random.below(3);
        if (kind == 0) bytes.replace(at, piece.size(), piece);
        if (kind == 1) bytes.insert(at, piece);
        if (kind == 2) bytes.erase(at, piece.size());
      }
      run(name, bytes);
    }
    for (int i = 0; i < noises; ++i) {
      std::string bytes = original;
      for (std::size_t n = 1 + random.below(3); n > 0; --n) {
        bytes[random.below(bytes.size())] = static_cast<char>(random());
      }
      run(name, bytes);
    }
  }

  /// A character for another that JSON gives a meaning, anywhere.
  void retype(std::string_view name, int times, std::uint64_t seed) {
    Random random(seed);
    const std::string_view letters = "0123456789-.eE\"{}[],: tfn\\";
    for (int i = 0; i < times; ++i) {
      std::string bytes = bytes_of(name);
      bytes[random.below(bytes.size())] = letters[random.below(letters.size())];
      run(name, bytes);
    }
  }

  /// Valid JSON: each value replaced by ones of every kind, or taken out.
  void replace_values(std::string_view name) {
    const Json original = Json::parse(bytes_of(name));
    std::vector<std::string> pointers;
    const Json leaves = original.flatten();
    for (const auto& [pointer, value] : leaves.items()) {
      for (std::string each = pointer; !each.empty(); each.resize(each.rfind('/'))) {
        if (std::find(pointers.begin(), pointers.end(), each) == pointers.end()) {
          pointers.push_back(each);
        }
      }
    }
    for (const std::string& pointer : pointers) {
      for (const char* value : {"null",
                                "true",
                                "false",
                                "0",
                                "1",
                                "-1",
                                "0.5",
                                "4.0",
                                "1e300",
                                "-0.0",
                                "9223372036854775807",
                                "9223372036854775808",
                                "18446744073709551615",
                                "1e-320",
                                "\"\"",
                                "\"x\"",
                                "\"m1.safetensors\"",
                                "\"\\u0000\"",
                                "\"../m1.safetensors\"",
                                "[]",
                                "[0]",
                                "[\"full_attention\"]",
                                "{}",
                                "{\"rope_theta\":-1}",
                                "{\"0\":{\"head_dim\":0}}"}) {
        Json changed = original;
        changed[Json::json_pointer(pointer)] = Json::parse(value);
        run(name, changed.dump());
      }
      Json changed = original;
      const Json::json_pointer place(pointer);
      Json& parent = changed[place.parent_pointer()];
      if (parent.is_object()) {
        parent.erase(place.back());
      } else {
        parent.erase(std::stoul(place.back()));
      }
      run(name, changed.dump());
    }
  }

  int count() const { return loaded + refused + wrong; }

  int loaded = 0, refused = 0, wrong = 0;

 private:
  void load() {
    const SafetensorsFolder folder(folder_.path());
    for (const SafetensorsFile& file : folder.files()) {
      const auto bytes = file.file().bytes();
      for (const SafetensorsTensor& tensor : file.tensors()) {
        REQUIRE(tensor.data >= bytes.data());
        REQUIRE(tensor.data + tensor.bytes <= bytes.data() + bytes.size());
      }
    }
    const auto numbers = numbers_of(load_safetensors<MicroGemma3>(Host{}, folder));
    CHECK(numbers.size() > 500);
  }

  TempFolder folder_;
  std::vector<std::pair<std::string, std::string>> files_;
};

}  // namespace

TEST_CASE("mutants: config.json, the index and a shard of a model") {
  DamagedFolder folder;
  folder.run("config.json", folder.bytes_of("config.json"));
  REQUIRE(folder.loaded == 1);

  const char* const index = "model.safetensors.index.json";
  folder.damage("config.json", 2500, 1500, 1, 1);
  folder.retype("config.json", 2500, 2);
  folder.replace_values("config.json");
  folder.damage(index, 2000, 1000, 3, 3);
  folder.retype(index, 1500, 4);
  folder.replace_values(index);
  folder.damage("m2.safetensors", 3000, 2500, 1, 5);
  folder.retype("m2.safetensors", 1500, 6);

  MESSAGE("folders: ", folder.count(), " mutants, ", folder.loaded, " loaded, ", folder.refused,
          " refused");
  CHECK(folder.wrong == 0);
  CHECK(folder.count() >= 20'000);
  CHECK(folder.loaded > 500);
  CHECK(folder.refused > 10'000);
}

}  // namespace kvring::test
