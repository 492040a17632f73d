// config.json against types: the golden folders, every field of them flipped, old files and sparse
// ones, and values that are no values.
#include "kvring/model/config_json.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "families.hpp"
#include "io/io_test.hpp"
#include "io/safetensors_writer.hpp"
#include "kvring/model/linear_host.hpp"
#include "kvring/model/load_safetensors.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/llama.hpp"
#include "kvring/models/mistral.hpp"
#include "kvring/models/qwen3.hpp"

namespace kvring::test {
namespace {

using io_test::check_refused;
using io_test::raw;
using io_test::safetensors_bytes;
using io_test::SafetensorsEntry;
using io_test::TempFolder;
using Words = std::initializer_list<std::string_view>;
using Pointer = Json::json_pointer;

/// The context of its file; other tests run it with a longer one.
struct GoldenGemma3 : TinyGemma3<> {
  static constexpr std::int64_t max_context = 4096;
};

std::string folder_of(const char* name) { return concat(KVRING_TEST_DATA "/", name); }

Json golden_config(const char* name) { return read_json(folder_of(name) + "/config.json").root; }

template <class Model>
std::string differences(const Json& config) {
  return config_differences<Model>({.path = "config.json", .root = config});
}

template <class Model>
std::string differences(const char* config) {
  return differences<Model>(parse_json_object(config, "config.json"));
}

/// Checks that `text` has every one of `words`.
void check_words(const std::string& text, Words words) {
  for (const std::string_view word : words) {
    const bool found = text.find(word) != std::string::npos;
    CHECK_MESSAGE(found, "\"", text, "\" lacks \"", std::string(word), "\"");
  }
}

template <class Model>
void accepted(const Json& config) {
  CHECK(differences<Model>(config) == "");
}
template <class Model>
void accepted(const char* config) {
  CHECK(differences<Model>(config) == "");
}

/// A field of a golden file, another value for it, and what the message says of the two.
struct Flip {
  const char* field;  // JSON pointer
  const char* value;  // JSON
  const char* message;
};

template <class Model>
void check_flips(const char* folder, std::initializer_list<Flip> flips) {
  const Json golden = golden_config(folder);
  for (const Flip& flip : flips) {
    CAPTURE(std::string(flip.field));
    Json config = golden;
    config[Pointer(flip.field)] = Json::parse(flip.value);
    check_words(differences<Model>(config), {flip.message});
  }
}

}  // namespace

TEST_CASE("config.json: the golden folders load, by folder and by file") {
  const auto load = [&]<class Model>(std::type_identity<Model>, const char* name) {
    CAPTURE(std::string(name));
    for (const char* file : {"", "/model.safetensors"}) {
      const SafetensorsFolder folder(folder_of(name) + file);
      CHECK(config_differences<Model>(folder.config()) == "");
      const auto weights = load_safetensors<Model>(Host{}, folder);
      CHECK(static_cast<std::int64_t>(weights.layers.size()) == Model::Layers::layers);
    }
  };
  load(std::type_identity<GoldenGemma3>{}, "gemma3");
  load(std::type_identity<TinyGemma4E>{}, "gemma4-e");
  load(std::type_identity<TinyGemma4KeqV>{}, "gemma4-k-eq-v");
  load(std::type_identity<TinyQwen3>{}, "qwen3");
  load(std::type_identity<TinyMistral>{}, "mistral");
}

TEST_CASE("config.json: a folder of another type is refused with all that differs") {
  const SafetensorsFolder folder(folder_of("gemma4-k-eq-v"));
  check_refused([&] { load_safetensors<TinyGemma4E>(Host{}, folder); },
                {"gemma4-k-eq-v is no TinyGemma4E: ", "num_hidden_layers is 6 in the file and 8 in",
                 "hidden_size_per_layer_input is 0 in the file and 16 in the type",
                 "sliding_window (layer 0) is 20 in the file and 12 in the type",
                 "per_layer_config.2.num_key_value_heads (layer 2) is 1 in the file and 2 in the",
                 "attention_k_eq_v (layer 2) is true in the file and false in the type",
                 "head_dim (layer 7) is 64 in the file and 128 in the type",
                 "num_kv_shared_layers is 0 in the file and 3 in the type"});
  // Of another family, fields mean other things: only that is said.
  CHECK(differences<TinyQwen3>(golden_config("gemma3")) ==
        "model_type is gemma3_text in the file and qwen3 in the type");
}

TEST_CASE("config.json: fields of Gemma 3 flipped") {
  check_flips<GoldenGemma3>(
      "gemma3",
      {{"/model_type", "\"gemma2\"", "model_type is gemma2 in the file and gemma3_text in the"},
       {"/model_type", "null", "model_type is absent in the file and gemma3_text in the type"},
       {"/hidden_size", "65", "hidden_size is 65 in the file and 64 in the type"},
       {"/intermediate_size", "97", "intermediate_size (layer 0) is 97 in the file and 96 in the"},
       {"/num_hidden_layers", "8", "num_hidden_layers is 8 in the file and 7 in the type"},
       {"/num_attention_heads", "8", "num_attention_heads (layer 0) is 8 in the file and 4 in the"},
       {"/num_key_value_heads", "2", "num_key_value_heads (layer 0) is 2 in the file and 1 in the"},
       {"/head_dim", "32", "head_dim (layer 0) is 32 in the file and 64 in the type"},
       {"/vocab_size", "9223372036854775807",
        "vocab_size is 9223372036854775807 in the file and 128 in the type"},
       {"/max_position_embeddings", "8192", "is 8192 in the file and 4096 in the type"},
       {"/rms_norm_eps", "1e-05", "rms_norm_eps is 1e-05 in the file and 1e-06 in the type"},
       {"/hidden_activation", "\"silu\"",
        "hidden_activation is silu in the file and gelu_pytorch_tanh in the type"},
       {"/hidden_act", "\"gelu\"", "hidden_act is gelu in the file and gelu_pytorch_tanh in the"},
       {"/tie_word_embeddings", "false", "tie_word_embeddings is false in the file and true in"},
       {"/query_pre_attn_scalar", "256",
        "query_pre_attn_scalar (layer 0) is 256 in the file and 64"},
       {"/sliding_window", "13", "sliding_window (layer 0) is 13 in the file and 12 in the type"},
       {"/sliding_window", "null", "sliding_window (layer 0) is null in the file and 12 in the"},
       {"/layer_types/0", "\"full_attention\"",
        "layer_types[0] is full_attention in the file and sliding_attention in the type"},
       {"/layer_types/5", "\"sliding_attention\"",
        "layer_types[5] is sliding_attention in the file and full_attention in the type"},
       {"/layer_types/6", "\"chunked_attention\"",
        "layer_types[6] is chunked_attention in the file and sliding_attention in the type"},
       {"/layer_types", "[]", "layer_types' length is 0 in the file and 7 in the type"},
       {"/_sliding_window_pattern", "7", "_sliding_window_pattern is 7 in the file and 6 in the"},
       {"/sliding_window_pattern", "0", "sliding_window_pattern is 0 in the file and 6 in the"},
       {"/rope_parameters/full_attention/rope_theta", "1000001",
        "rope_parameters.full_attention.rope_theta (layer 5) is 1000001 in the file and 1e+06 in"},
       {"/rope_parameters/full_attention/rope_type", "\"yarn\"",
        "rope_parameters.full_attention.rope_type (layer 5) is yarn in the file and default in"},
       {"/rope_parameters/full_attention/factor", "8",
        "rope_parameters.full_attention.factor (layer 5) is 8 in the file and 1 in the type"},
       {"/rope_parameters/full_attention/partial_rotary_factor", "0.5",
        "partial_rotary_factor (layer 5) is 0.5 in the file and 1 in the type"},
       {"/rope_parameters/sliding_attention/rope_theta", "5000",
        "rope_parameters.sliding_attention.rope_theta (layer 0) is 5000 in the file and 10000 in"},
       {"/rope_parameters/sliding_attention/rope_type", "\"linear\"",
        "rope_parameters.sliding_attention.rope_type (layer 0) is linear in the file and default"},
       {"/rope_parameters/rope_theta", "1e6",
        "rope_parameters.rope_theta (layer 0) is 1e+06 in the file and 10000 in the type"},
       {"/rope_theta", "10000", "rope_theta (layer 5) is 10000 in the file and 1e+06 in the type"},
       {"/rope_local_base_freq", "1e6", "rope_local_base_freq (layer 0) is 1e+06 in the file and"},
       {"/rope_scaling", "{\"type\":\"linear\",\"factor\":8}",
        "rope_scaling.type (layer 5) is linear in the file and default in the type; "
        "rope_scaling.factor (layer 5) is 8 in the file and 1 in the type"},
       {"/final_logit_softcapping", "30.0",
        "final_logit_softcapping is 30 in the file and null in"},
       {"/final_logit_softcapping", "0.0", "final_logit_softcapping is 0 in the file and null in"},
       {"/attn_logit_softcapping", "50.0", "attn_logit_softcapping is 50.0 in the file and off in"},
       {"/attn_logit_softcapping", "0", "attn_logit_softcapping is 0 in the file and off in the"},
       {"/use_bidirectional_attention", "true",
        "use_bidirectional_attention is true in the file and off in the type"},
       {"/attention_bias", "true", "attention_bias is true in the file and off in the type"},
       {"/num_experts", "8", "num_experts is 8 in the file and off in the type"},
       {"/num_kv_shared_layers", "1", "num_kv_shared_layers is 1 in the file and 0 in the type"},
       {"/hidden_size_per_layer_input", "16", "is 16 in the file and 0 in the type"},
       {"/attention_k_eq_v", "true",
        "attention_k_eq_v (layer 5) is true in the file and false in the type"},
       {"/quantization_config", "{\"quant_method\":\"gptq\"}",
        "quantization_config is {\"quant_method\":\"gptq\"} in the file and off in the type"}});
}

TEST_CASE("config.json: fields of Gemma 4 flipped") {
  check_flips<TinyGemma4E>(
      "gemma4-e",
      {{"/final_logit_softcapping", "null", "final_logit_softcapping is null in the file and 30"},
       {"/final_logit_softcapping", "29.5", "final_logit_softcapping is 29.5 in the file and 30"},
       {"/num_kv_shared_layers", "2", "num_kv_shared_layers is 2 in the file and 3 in the type"},
       {"/hidden_size_per_layer_input", "17",
        "hidden_size_per_layer_input is 17 in the file and 16 in the type"},
       {"/vocab_size_per_layer_input", "129",
        "vocab_size_per_layer_input is 129 in the file and 128 in the type"},
       {"/attention_k_eq_v", "true",
        "attention_k_eq_v (layer 2) is true in the file and false in the type"},
       {"/use_double_wide_mlp", "true",
        "intermediate_size, doubled by use_double_wide_mlp, (layer 5) is 192 in the file and 96 "
        "in"},
       {"/enable_moe_block", "true", "enable_moe_block is true in the file and off in the type"},
       {"/num_experts", "128", "num_experts is 128 in the file and off in the type"},
       {"/use_bidirectional_attention", "\"all\"",
        "use_bidirectional_attention is \"all\" in the file and off in the type"},
       {"/query_pre_attn_scalar", "64", "query_pre_attn_scalar (layer 0) is 64 in the file and 1"},
       {"/layer_types/7", "\"sliding_attention\"",
        "layer_types[7] is sliding_attention in the file and full_attention in the type"},
       {"/per_layer_config/5/head_dim", "64",
        "per_layer_config.5.head_dim (layer 5) is 64 in the file and 128 in the type"},
       {"/per_layer_config/0", "{\"head_dim\":32}",
        "per_layer_config.0.head_dim (layer 0) is 32 in the file and 64 in the type"},
       {"/per_layer_config/1", "{\"sliding_window\":11}",
        "per_layer_config.1.sliding_window (layer 1) is 11 in the file and 12 in the type"},
       {"/per_layer_config/1", "{\"intermediate_size\":192}",
        "per_layer_config.1.intermediate_size (layer 1) is 192 in the file and 96 in the type"},
       {"/per_layer_config/1", "{\"num_attention_heads\":2}",
        "per_layer_config.1.num_attention_heads (layer 1) is 2 in the file and 4 in the type"},
       {"/per_layer_config/1", "{\"skip\":[\"mlp\"]}",
        "per_layer_config.1.skip is [\"mlp\"] in the file and the same in all layers in the type"},
       {"/per_layer_config/8", "{\"head_dim\":64}",
        "per_layer_config.8 is stated in the file and 8 layers in the type"},
       {"/per_layer_config/02", "{}", "per_layer_config.02 is stated in the file and 8 layers in"},
       {"/per_layer_config", "{}", "head_dim (layer 2) is 64 in the file and 128 in the type"},
       {"/per_layer_config", "null",
        "global_head_dim (layer 2) is 512 (by default) in the file and 128 in the type"},
       {"/rope_parameters/full_attention/partial_rotary_factor", "0.5",
        "rope_parameters.full_attention.partial_rotary_factor (layer 2) is 0.5 in the file and "
        "0.25 in the type"},
       {"/rope_parameters/full_attention/rope_type", "\"default\"",
        "rope_parameters.full_attention.rope_type (layer 2) is default in the file and "
        "proportional in the type"},
       {"/rope_parameters/full_attention/factor", "2",
        "rope_parameters.full_attention.factor (layer 2) is 2 in the file and 1 in the type"},
       {"/rope_parameters/full_attention", "null",
        "rope_parameters.full_attention (layer 2) is absent in the file and needed in the type"},
       {"/rope_parameters/sliding_attention", "{\"rope_type\":\"default\"}",
        "rope_theta (layer 0) is absent in the file and 10000 in the type"}});
  check_flips<TinyGemma4KeqV>(
      "gemma4-k-eq-v",
      {{"/attention_k_eq_v", "false",
        "attention_k_eq_v (layer 2) is false in the file and true in the type"},
       {"/attention_k_eq_v", "null",
        "attention_k_eq_v (layer 2) is false (by default) in the file and true in the type"},
       {"/per_layer_config/2/num_key_value_heads", "2",
        "per_layer_config.2.num_key_value_heads (layer 2) is 2 in the file and 1 in the type"},
       {"/hidden_size_per_layer_input", "null",
        "hidden_size_per_layer_input is 256 (by default) in the file and 0 in the type"}});
  Json config = golden_config("gemma4-e");
  config["use_bidirectional_attention"] = "vision";  // text still looks back only
  accepted<TinyGemma4E>(config);
}

TEST_CASE("config.json: fields of Qwen3 and Mistral flipped") {
  check_flips<TinyQwen3>(
      "qwen3",
      {{"/model_type", "\"qwen3_moe\"", "model_type is qwen3_moe in the file and qwen3 in the"},
       {"/use_sliding_window", "true", "use_sliding_window is true in the file and false in the"},
       {"/layer_types/3", "\"sliding_attention\"",
        "layer_types[3] is sliding_attention in the file and full_attention in the type"},
       {"/hidden_act", "\"relu\"", "hidden_act is relu in the file and silu in the type"},
       {"/tie_word_embeddings", "true", "tie_word_embeddings is true in the file and false in"},
       {"/num_key_value_heads", "null", "num_key_value_heads (layer 0) is 4 (by default) in the"},
       {"/rope_parameters/rope_theta", "1000000.0",
        "rope_parameters.rope_theta (layer 0) is 1e+06 in the file and 10000 in the type"},
       {"/rope_parameters/rope_type", "\"dynamic\"",
        "rope_parameters.rope_type (layer 0) is dynamic in the file and default in the type"},
       {"/rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4.0}",
        "rope_scaling.rope_type (layer 0) is yarn in the file and default in the type"},
       {"/partial_rotary_factor", "0.5",
        "partial_rotary_factor (layer 0) is 0.5 in the file and 1 in the type"}});
  check_flips<TinyMistral>(
      "mistral",
      {{"/sliding_window", "15", "sliding_window (layer 0) is 15 in the file and 16 in the type"},
       {"/sliding_window", "null",
        "layer_types by sliding_window (layer 0) is full_attention in the file and "
        "sliding_attention in the type; sliding_window (layer 0) is null in the file and 16 in"},
       {"/layer_types", "[\"full_attention\"]", "layer_types' length is 1 in the file and 4 in"},
       {"/mlp_bias", "true", "mlp_bias is true in the file and off in the type"},
       {"/head_dim", "null", "head_dim (layer 0) is 16 (by default) in the file and 64 in the"},
       {"/rope_parameters", "{\"sliding_attention\":{\"rope_theta\":1,\"rope_type\":\"default\"}}",
        "rope_parameters.sliding_attention.rope_theta (layer 0) is 1 in the file and 10000 in"}});
  Json config = golden_config("mistral");
  config.erase("sliding_window");
  check_words(differences<TinyMistral>(config),
              {"sliding_window (layer 0) is 4096 (by default) in the file and 16 in the type"});
}

namespace {

/// What changes no logit, or nothing as long as another field is what it is.
bool changes_no_number(const std::string& pointer) {
  for (const char* field : {"/transformers_version",
                            "/architectures",
                            "/output_hidden_states",
                            "/return_dict",
                            "/dtype",
                            "/chunk_size_feed_forward",
                            "/is_encoder_decoder",
                            "/id2label",
                            "/label2id",
                            "/problem_type",
                            "/initializer_range",
                            "/use_cache",
                            "/pad_token_id",
                            "/eos_token_id",
                            "/bos_token_id",
                            "/attention_dropout",
                            "/_name_or_path",
                            "/output_attentions",
                            "/top_k_experts",
                            "/moe_intermediate_size",  // without experts
                            "/max_window_layers"}) {   // with layer_types
    if (pointer.starts_with(field)) return true;
  }
  return false;
}

/// Another value of the same kind, or of null something.
Json flipped(const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>() + 1;
  if (value.is_number()) return value.get<double>() * 1.5 + 1;
  if (value.is_string()) return value.get<std::string>() + "x";
  return 3;
}

/// Flips every leaf of a golden file, one at a time.
template <class Model>
void flip_everything(const char* folder) {
  CAPTURE(std::string(folder));
  const Json golden = golden_config(folder);
  int refused = 0, no_matter = 0;
  const Json leaves = golden.flatten();
  for (const auto& [pointer, value] : leaves.items()) {
    CAPTURE(pointer);
    if (pointer == "/use_double_wide_mlp") continue;  // has a test of its own
    Json config = golden;
    config[Pointer(pointer)] = flipped(value);
    std::string message;
    try {
      message = differences<Model>(config);
    } catch (const Error& error) {  // a number where null was, and a string is wanted
      message = error.what();
    }
    // Of Gemma 4 without embeddings of each layer, their vocabulary does not matter.
    const bool unused =
        pointer == "/vocab_size_per_layer_input" && Model::block.per_layer_width == 0;
    if (changes_no_number(pointer) || unused ||
        (pointer == "/sliding_window" && value.is_null())) {  // Qwen3: by use_sliding_window
      CHECK(message == "");
      ++no_matter;
      continue;
    }
    ++refused;
    const std::string field = pointer.substr(pointer.rfind('/') + 1);
    const bool is_index = field.find_first_not_of("0123456789") == std::string::npos;
    check_words(message, {is_index ? "layer_types[" + field + "]" : field});
    const auto shown = [](const Json& json) {
      if (json.is_string()) return json.get<std::string>();
      return json.is_number_float() ? detail::Differences::show(json.get<double>()) : json.dump();
    };
    check_words(message, {shown(config[Pointer(pointer)])});
    const bool off = value == false && message.find("false") == std::string::npos;
    if (!value.is_null()) check_words(message, {off ? "and off" : shown(value)});
  }
  MESSAGE(std::string(folder), ": of ", leaves.size(), " values flipped, ", refused, " refused, ",
          no_matter, " without effect");
  CHECK(refused >= 15);
}

}  // namespace

TEST_CASE("config.json: every value flipped, one at a time") {
  flip_everything<GoldenGemma3>("gemma3");
  flip_everything<TinyGemma4E>("gemma4-e");
  flip_everything<TinyGemma4KeqV>("gemma4-k-eq-v");
  flip_everything<TinyQwen3>("qwen3");
  flip_everything<TinyMistral>("mistral");
}

namespace {

struct DoubleWide : TinyGemma4E {
  static constexpr std::int64_t ffn_of(std::int64_t layer) { return layer < 5 ? 96 : 192; }
};

}  // namespace

TEST_CASE("config.json: layers that read another's cache may be double-wide") {
  Json config = golden_config("gemma4-e");
  check_words(differences<DoubleWide>(config),
              {"intermediate_size (layer 5) is 96 in the file and 192 in the type"});
  config["use_double_wide_mlp"] = true;
  accepted<DoubleWide>(config);
  config["num_kv_shared_layers"] = 8;  // then transformers has no first one, and doubles none
  check_words(differences<DoubleWide>(config),
              {"intermediate_size (layer 5) is 96 in the file and 192 in the type"});
  config["num_kv_shared_layers"] = 2;
  check_words(differences<DoubleWide>(config),
              {"intermediate_size (layer 5) is 96 in the file and 192 in the type"});
  config["intermediate_size"] = INT64_MAX;
  check_words(differences<DoubleWide>(config), {"intermediate_size (layer 0) is 92233720"});
  // Where no layer shares, nothing is doubled; elsewhere there is no such thing.
  Json own = golden_config("gemma4-k-eq-v");
  own["use_double_wide_mlp"] = true;
  accepted<TinyGemma4KeqV>(own);
  Json qwen = golden_config("qwen3");
  qwen["use_double_wide_mlp"] = true;
  check_words(differences<TinyQwen3>(qwen), {"use_double_wide_mlp is true in the file and off"});
}

TEST_CASE("config.json: RoPE by parts") {
  const auto config_of = [](const char* field, const char* value) {
    Json config = Json::parse(R"({"model_type": "llama", "attention_bias": false, "head_dim": 64,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192,
        "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 32,
        "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256})");
    if (field != nullptr) config["rope_scaling"][field] = Json::parse(value);
    return config;
  };
  using Llama = models::Llama3_2_1B;
  accepted<Llama>(config_of(nullptr, nullptr));
  const auto check = [&](const char* field, const char* value, const char* message) {
    check_words(differences<Llama>(config_of(field, value)),
                {concat("rope_scaling.", field, " (layer 0) is ", message)});
  };
  check("factor", "8", "8 in the file and 32 in the type");
  check("low_freq_factor", "2", "2 in the file and 1 in the type");
  check("high_freq_factor", "8", "8 in the file and 4 in the type");
  check("original_max_position_embeddings", "4096", "4096 in the file and 8192 in the type");
  check("rope_type", "\"linear\"", "linear in the file and llama3 in the type");
  check("rope_type", "\"yarn\"", "yarn in the file and llama3 in the type");
  for (const char* field :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    check_words(differences<Llama>(config_of(field, "null")),
                {concat(field, " (layer 0) is absent")});
  }
  Json without = config_of(nullptr, nullptr);
  without["rope_scaling"] = nullptr;
  check_words(differences<Llama>(without),
              {"rope_type (layer 0) is default (by default) in the file and llama3 in the type"});
  Json smol = golden_config("mistral");
  smol["rope_parameters"]["rope_type"] = "llama3";
  check_words(differences<TinyMistral>(smol), {"is llama3 in the file and default in the type"});
}

TEST_CASE("config.json: a context shorter than the type's is no difference") {
  Json config = golden_config("qwen3");
  config["max_position_embeddings"] = 1024;
  accepted<TinyQwen3>(config);
  config["max_position_embeddings"] = 4097;
  check_words(differences<TinyQwen3>(config),
              {"max_position_embeddings is 4097 in the file and 4096 in the type"});
}

TEST_CASE("config.json: as old transformers write it") {
  Json gemma = golden_config("gemma3");
  for (const char* field : {"rope_parameters", "layer_types", "_sliding_window_pattern"}) {
    gemma.erase(field);
  }
  accepted<GoldenGemma3>(gemma);  // all by default
  gemma["sliding_window_pattern"] = 6;
  gemma["rope_theta"] = 1'000'000.0;
  gemma["rope_local_base_freq"] = 10'000;
  gemma["rope_scaling"] = nullptr;
  accepted<GoldenGemma3>(gemma);
  gemma["sliding_window_pattern"] = 4;
  check_words(differences<GoldenGemma3>(gemma),
              {"sliding_window_pattern is 4 in the file and 6 in the type"});
  check_words(differences<TinyGemma4E>("{\"model_type\":\"gemma4_text\"}"),
              {"sliding_window_pattern is 6 (by default) in the file and 3 in the type"});

  Json mistral = golden_config("mistral");
  mistral.erase("rope_parameters");
  accepted<TinyMistral>(mistral);
  mistral["rope_theta"] = 10'000;
  accepted<TinyMistral>(mistral);
  mistral["rope_theta"] = 1e6;
  check_words(differences<TinyMistral>(mistral),
              {"rope_theta (layer 0) is 1e+06 in the file and 10000 in the type"});

  Json qwen = golden_config("qwen3");
  qwen.erase("layer_types");
  qwen["sliding_window"] = 64;  // not used
  accepted<TinyQwen3>(qwen);
  qwen["use_sliding_window"] = true;
  qwen["max_window_layers"] = 3;
  check_words(differences<TinyQwen3>(qwen),
              {"layer_types by sliding_window (layer 3) is sliding_attention in the file and "
               "full_attention in the type"});
}

TEST_CASE("config.json: published files, which leave out what their class has by default") {
  accepted<models::Gemma3_4B>(R"({"model_type": "gemma3", "vision_config": {"hidden_size": 1152},
      "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                      "num_hidden_layers": 34, "sliding_window": 1024,
                      "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}})");
  const char* const gemma3_27b = R"({"model_type": "gemma3", "text_config": {
      "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32,
      "num_hidden_layers": 62, "num_key_value_heads": 16, "query_pre_attn_scalar": 168,
      "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}})";
  accepted<models::Gemma3_27B>(gemma3_27b);
  check_words(differences<models::Gemma3_12B>(gemma3_27b),
              {"text_config.hidden_size is 5376 in the file and 3840 in the type",
               "text_config.query_pre_attn_scalar (layer 0) is 168 in the file and 256 in the"});
  accepted<models::Gemma3_270M>(R"({"model_type": "gemma3_text", "_sliding_window_pattern": 6,
      "attn_logit_softcapping": null, "final_logit_softcapping": null, "head_dim": 256,
      "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640, "intermediate_size": 2048,
      "max_position_embeddings": 32768, "num_attention_heads": 4, "num_hidden_layers": 18,
      "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
      "rope_local_base_freq": 10000.0, "rope_scaling": null, "rope_theta": 1000000.0,
      "sliding_window": 512, "use_bidirectional_attention": false, "vocab_size": 262144})");
  accepted<models::SmolLM2_135M>(R"({"model_type": "llama", "attention_bias": false,
      "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": true,
      "max_position_embeddings": 8192, "num_attention_heads": 9, "num_hidden_layers": 30,
      "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
      "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
      "tie_word_embeddings": true, "vocab_size": 49152})");
  accepted<models::Qwen3_0_6B>(R"({"model_type": "qwen3", "attention_bias": false, "head_dim": 128,
      "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
      "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16,
      "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
      "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
      "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936})");
  accepted<models::Mistral_7B_v0_1>(R"({"model_type": "mistral", "hidden_act": "silu",
      "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
      "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
      "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
      "tie_word_embeddings": false, "vocab_size": 32000})");

  // Gemma 4 without per_layer_config: the class fills in the global layers.
  const char* const e4b = R"({"model_type": "gemma4", "text_config": {"model_type": "gemma4_text",
      "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 42,
      "num_key_value_heads": 2, "num_kv_shared_layers": 18, "final_logit_softcapping": 30.0,
      "global_head_dim": 512, "num_global_key_value_heads": null}})";
  accepted<models::Gemma4_E4B>(e4b);
  accepted<models::Gemma4_12B>(R"({"model_type": "gemma4_unified", "text_config": {
      "model_type": "gemma4_unified_text", "hidden_size": 3840, "intermediate_size": 15360,
      "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8,
      "num_global_key_value_heads": 1, "attention_k_eq_v": true,
      "final_logit_softcapping": 30.0}})");
  check_words(differences<models::Gemma4_12B>(R"({"model_type": "gemma4_unified", "text_config": {
      "num_global_key_value_heads": 2, "attention_k_eq_v": true, "global_head_dim": 256}})"),
              {"num_global_key_value_heads (layer 5) is 2 in the file and 1 in the type",
               "text_config.global_head_dim (layer 5) is 256 in the file and 512 in the type",
               "text_config.hidden_size is 2304 (by default) in the file and 3840 in the type",
               "text_config.final_logit_softcapping is null in the file and 30 in the type"});

  const auto with = [&](const char* pointer, const char* value) {
    Json config = parse_json_object(e4b, "e4b");
    config[Pointer(pointer)] = Json::parse(value);
    return differences<models::Gemma4_E4B>(config);
  };
  CHECK(with("/model_type", "\"gemma3\"") ==
        "text_config.model_type is gemma4_text in the file and gemma3_text in the type; "
        "model_type is gemma3 in the file and gemma4 in the type");
  check_words(with("/tie_word_embeddings", "false"),
              {"tie_word_embeddings is false in the file and true in the type"});
  check_words(with("/text_config/tie_word_embeddings", "false"),
              {"text_config.tie_word_embeddings is false in the file and true in the type"});
  check_words(with("/quantization_config", "{}"), {"quantization_config is {} in the file and"});
  check_words(with("/text_config/rope_parameters",
                   "{\"full_attention\":{\"rope_type\":\"proportional\",\"rope_theta\":1e6}}"),
              {"text_config.rope_parameters.sliding_attention (layer 0) is absent in the file",
               "partial_rotary_factor (layer 5) is 1 (by default) in the file and 0.25 in the"});
  CHECK(differences<models::SmolLM2_135M>(
            "{\"model_type\":\"llava\",\"text_config\":{\"model_type\":\"llama\"}}")
            .find("model_type is llava in the file and llama, which is part of no other") !=
        std::string::npos);
}

namespace {

// Types that differ from a family in what no field of config.json says.
struct WithoutVNorm : TinyGemma4E {
  static constexpr Block block = [] {
    Block changed = TinyGemma4E::block;
    changed.v_norm = false;
    return changed;
  }();
};
struct WithPlainNorms : GoldenGemma3 {
  static constexpr bool norms_store_minus_one = false;
};
struct WithOtherDonors : TinyGemma4E {
  using Sharing = Donors<Donor<5, 2>, Donor<6, 3>, Donor<7, 2>>;
};
/// A family that kvring knows nothing of.
struct Stranger : TinyQwen3 {
  static constexpr const char* model_type = "stranger";
};
/// A family that states no model_type: its GGUF architecture is taken.
struct Nameless : TinyShape {
  static constexpr const char* architecture = "nameless";
  static constexpr Block block{};
  static constexpr bool norms_store_minus_one = false;
  static constexpr double norm_epsilon = 1e-6;
  using Layers = TinyQwen3::Layers;
};

}  // namespace

TEST_CASE("config.json: types that are not what their family is") {
  CHECK(differences<WithoutVNorm>(golden_config("gemma4-e")) ==
        "v_norm of gemma4_text is true in the file and false in the type");
  CHECK(differences<WithPlainNorms>(golden_config("gemma3")) ==
        "norms_store_minus_one of gemma3_text is true in the file and false in the type");
  CHECK(differences<WithOtherDonors>(golden_config("gemma4-e")) ==
        "donor by num_kv_shared_layers (layer 6) is 4 in the file and 3 in the type");

  Json config = golden_config("qwen3");
  config["model_type"] = "stranger";
  accepted<Stranger>(config);
  check_words(differences<Stranger>("{\"model_type\":\"stranger\"}"),
              {"hidden_size is absent in the file and 64 in the type",
               "rms_norm_eps is absent in the file and 1e-06 in the type",
               "hidden_activation is absent in the file and silu in the type"});
  CHECK(differences<Nameless>("{}") == "model_type is absent in the file and nameless in the type");
}

TEST_CASE("config.json: values of the wrong kind, negative or huge") {
  const auto check = [&]<class Model>(std::type_identity<Model>, const char* folder,
                                      const char* pointer, const char* value, Words words) {
    CAPTURE(std::string(pointer));
    Json config = golden_config(folder);
    config[Pointer(pointer)] = Json::parse(value);
    check_refused([&] { differences<Model>(config); }, {"config.json: "});
    check_refused([&] { differences<Model>(config); }, words);
  };
  const std::type_identity<GoldenGemma3> gemma3;
  for (const char* field :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
        "sliding_window", "num_kv_shared_layers", "_sliding_window_pattern"}) {
    for (const char* value : {"-1", "64.0", "\"64\"", "true", "[64]", "{}", "1e30",
                              "9223372036854775808", "18446744073709551616"}) {
      check(gemma3, "gemma3", concat("/", field).c_str(), value,
            {field, " is ", ", wanted a whole number from 0 to 2^63 - 1"});
    }
  }
  for (const char* field : {"rms_norm_eps", "query_pre_attn_scalar", "final_logit_softcapping",
                            "rope_theta", "rope_local_base_freq"}) {
    for (const char* value : {"\"1\"", "true", "[1]", "{}"}) {
      check(gemma3, "gemma3", concat("/", field).c_str(), value, {field, ", wanted a number"});
    }
  }
  for (const char* value : {"1", "\"true\"", "[]"}) {
    check(gemma3, "gemma3", "/tie_word_embeddings", value, {"wanted true or false"});
    check(gemma3, "gemma3", "/attention_k_eq_v", value, {"wanted true or false"});
  }
  for (const char* value : {"1", "true", "[]", "{}"}) {
    check(gemma3, "gemma3", "/model_type", value, {"model_type is ", ", wanted a string"});
    check(gemma3, "gemma3", "/hidden_activation", value, {"hidden_activation is "});
  }
  for (const char* value : {"1", "\"x\"", "{}", "[1]", "[null]"}) {
    check(gemma3, "gemma3", "/layer_types", value, {"wanted an array of strings"});
  }
  for (const char* value : {"1", "\"x\"", "[]", "true"}) {
    check(gemma3, "gemma3", "/rope_parameters", value, {"rope_parameters is ", "an object"});
    check(gemma3, "gemma3", "/rope_parameters/full_attention", value,
          {"rope_parameters.full_attention is ", "an object"});
    check(gemma3, "gemma3", "/rope_scaling", value, {"rope_scaling is ", "an object"});
    check(gemma3, "gemma3", "/text_config", value, {"text_config is ", "an object"});
    check(std::type_identity<TinyGemma4E>{}, "gemma4-e", "/per_layer_config", value,
          {"per_layer_config is ", "an object"});
    check(std::type_identity<TinyGemma4E>{}, "gemma4-e", "/per_layer_config/2", value,
          {"per_layer_config.2 is ", "an object"});
  }
  check(gemma3, "gemma3", "/rope_parameters/full_attention/rope_type", "7",
        {"rope_parameters.full_attention.rope_type is 7, wanted a string"});
  // Any number of layers, and nothing is allocated by it.
  check_words(differences<GoldenGemma3>(
                  "{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":9223372036854775807}"),
              {"num_hidden_layers is 9223372036854775807 in the file and 7 in the type"});
}

}  // namespace kvring::test
