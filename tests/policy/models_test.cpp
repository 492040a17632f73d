// Model types: the published numbers, written out here a second time, the kind at each index, and
// bytes worked out by hand.
#include <doctest/doctest.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kvring/models/dense.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/gpt_oss.hpp"
#include "kvring/plan.hpp"

using namespace kvring;
using namespace kvring::models;

namespace {

template <class Model>
using SeedPlan = Plan<Model, bf16, Chunk<4096>, Rewind<64>>;

/// config.json of google/gemma-3-*: what a reader finds there.
struct Gemma3Config {
  std::int64_t hidden_size, intermediate_size, num_hidden_layers;
  std::int64_t num_attention_heads, num_key_value_heads, head_dim;
  std::int64_t sliding_window, query_pre_attn_scalar, max_position_embeddings, vocab_size;
  double linear_rope_scaling;
};

template <class Model>
constexpr bool is_gemma3(const Gemma3Config& c) {
  using Local = typename Model::Local;
  using Global = typename Model::Global;
  const Heads heads{c.num_attention_heads, c.num_key_value_heads, c.head_dim};
  return Model::hidden == c.hidden_size && Model::ffn == c.intermediate_size &&
         Model::Layers::layers == c.num_hidden_layers && Local::heads == heads &&
         Global::heads == heads && Local::Policy::window == c.sliding_window &&
         Global::Policy::window == unbounded && Local::query_scalar == c.query_pre_attn_scalar &&
         Global::query_scalar == c.query_pre_attn_scalar &&
         Model::max_context == c.max_position_embeddings && Model::vocabulary == c.vocab_size &&
         Local::rope.theta == 10'000 && Local::rope.scaling == 1 &&
         Local::rope.rotated == c.head_dim && Global::rope.theta == 1'000'000 &&
         Global::rope.scaling == c.linear_rope_scaling && Global::rope.rotated == c.head_dim &&
         Model::norm_epsilon == 1e-6;
}
static_assert(is_gemma3<Gemma3_270M>({640, 2048, 18, 4, 1, 256, 512, 256, 32'768, 262'144, 1}));
static_assert(is_gemma3<Gemma3_1B>({1152, 6912, 26, 4, 1, 256, 512, 256, 32'768, 262'144, 1}));
static_assert(is_gemma3<Gemma3_4B>({2560, 10'240, 34, 8, 4, 256, 1024, 256, 131'072, 262'208, 8}));
static_assert(is_gemma3<Gemma3_12B>({3840, 15'360, 48, 16, 8, 256, 1024, 256, 131'072, 262'208,
                                     8}));
static_assert(is_gemma3<Gemma3_27B>({5376, 21'504, 62, 32, 16, 128, 1024, 168, 131'072, 262'208,
                                     8}));

/// config.json of google/gemma-4-*.
struct Gemma4Config {
  std::int64_t hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads;
  std::int64_t num_global_key_value_heads, sliding_window, hidden_size_per_layer_input;
  std::int64_t num_kv_shared_layers, max_position_embeddings;
  bool attention_k_eq_v;
};

template <class Model>
constexpr bool is_gemma4(const Gemma4Config& c) {
  using Local = typename Model::Local;
  using Global = typename Model::Global;
  const auto donors = SeedPlan<Model>::donor_of;
  std::int64_t shared = 0;
  for (std::int64_t i = 0; i < Model::Layers::layers; ++i) {
    shared += donors[static_cast<std::size_t>(i)] != i ? 1 : 0;
  }
  bool keys_are_values = false;
  if constexpr (requires { Global::value_from_key; }) keys_are_values = Global::value_from_key;
  return Model::hidden == c.hidden_size && Model::Layers::layers == c.num_hidden_layers &&
         Local::heads == Heads{c.num_attention_heads, c.num_key_value_heads, 256} &&
         Global::heads == Heads{c.num_attention_heads, c.num_global_key_value_heads, 512} &&
         Local::Policy::window == c.sliding_window && Global::Policy::window == unbounded &&
         Model::block.per_layer_width == c.hidden_size_per_layer_input &&
         shared == c.num_kv_shared_layers && Model::max_context == c.max_position_embeddings &&
         keys_are_values == c.attention_k_eq_v && Model::vocabulary == 262'144 &&
         Model::block.final_softcap == 30 && Model::block.layer_scalar && Model::block.v_norm &&
         Local::rope.theta == 10'000 && Local::rope.turning == 0 &&
         Global::rope.theta == 1'000'000 && Global::rope.rotated == 512 &&
         Global::rope.turning == 64 && Local::query_scalar == 1 && Global::query_scalar == 1 &&
         Model::norm_epsilon == 1e-6;
}
static_assert(is_gemma4<Gemma4_E2B>({1536, 35, 8, 1, 1, 512, 256, 20, 131'072, false}));
static_assert(is_gemma4<Gemma4_E4B>({2560, 42, 8, 2, 2, 512, 256, 18, 131'072, false}));
static_assert(is_gemma4<Gemma4_12B>({3840, 48, 16, 8, 1, 1024, 0, 0, 262'144, true}));
static_assert(is_gemma4<Gemma4_31B>({5376, 60, 32, 16, 4, 1024, 0, 0, 262'144, true}));
static_assert(Gemma4_E4B::ffn == 10'240 && Gemma4_12B::ffn == 15'360 && Gemma4_31B::ffn == 21'504);
static_assert(Gemma4_E2B::ffn_of(14) == 6144 && Gemma4_E2B::ffn_of(15) == 12'288);

/// config.json of the Llama-like families.
struct DenseConfig {
  std::int64_t hidden_size, intermediate_size, num_hidden_layers;
  std::int64_t num_attention_heads, num_key_value_heads, head_dim;
  std::int64_t vocab_size, max_position_embeddings;
  double rope_theta, rms_norm_eps;
  bool tie_word_embeddings;
};

/// All layers are of one kind.
template <class Model, std::int64_t Window = unbounded>
constexpr bool is_dense(const DenseConfig& c) {
  using Kind = typename Model::Layers::template Kind<0>;
  static_assert(Model::Layers::Kinds::size == 1);
  return Model::hidden == c.hidden_size && Model::ffn == c.intermediate_size &&
         Model::Layers::layers == c.num_hidden_layers && Kind::Policy::window == Window &&
         Kind::heads == Heads{c.num_attention_heads, c.num_key_value_heads, c.head_dim} &&
         Kind::query_scalar == static_cast<double>(c.head_dim) &&
         Model::vocabulary == c.vocab_size && Model::max_context == c.max_position_embeddings &&
         Kind::rope.theta == c.rope_theta && Kind::rope.rotated == c.head_dim &&
         Kind::rope.scaling == 1 && Kind::rope.turning == 0 &&
         Model::norm_epsilon == c.rms_norm_eps && Model::block.tied_head == c.tie_word_embeddings &&
         Model::block.activation == Activation::silu && !Model::block.sandwich_norms &&
         Model::block.qk_norm == (Model::architecture == std::string_view("qwen3"));
}
static_assert(is_dense<Llama3_1_8B>({4096, 14'336, 32, 32, 8, 128, 128'256, 131'072, 5e5, 1e-5,
                                     false}));
static_assert(is_dense<Llama3_2_1B>({2048, 8192, 16, 32, 8, 64, 128'256, 131'072, 5e5, 1e-5,
                                     true}));
static_assert(is_dense<Llama3_2_3B>({3072, 8192, 28, 24, 8, 128, 128'256, 131'072, 5e5, 1e-5,
                                     true}));
static_assert(is_dense<SmolLM2_135M>({576, 1536, 30, 9, 3, 64, 49'152, 8192, 1e5, 1e-5, true}));
static_assert(is_dense<SmolLM2_360M>({960, 2560, 32, 15, 5, 64, 49'152, 8192, 1e5, 1e-5, true}));
static_assert(is_dense<SmolLM2_1_7B>({2048, 8192, 24, 32, 32, 64, 49'152, 8192, 1.3e5, 1e-5,
                                      true}));
static_assert(is_dense<Qwen3_0_6B>({1024, 3072, 28, 16, 8, 128, 151'936, 40'960, 1e6, 1e-6, true}));
static_assert(is_dense<Qwen3_1_7B>({2048, 6144, 28, 16, 8, 128, 151'936, 40'960, 1e6, 1e-6, true}));
static_assert(is_dense<Qwen3_4B>({2560, 9728, 36, 32, 8, 128, 151'936, 40'960, 1e6, 1e-6, true}));
static_assert(is_dense<Qwen3_8B>({4096, 12'288, 36, 32, 8, 128, 151'936, 40'960, 1e6, 1e-6,
                                  false}));
static_assert(is_dense<Qwen3_14B>({5120, 17'408, 40, 40, 8, 128, 151'936, 40'960, 1e6, 1e-6,
                                   false}));
static_assert(is_dense<Qwen3_32B>({5120, 25'600, 64, 64, 8, 128, 151'936, 40'960, 1e6, 1e-6,
                                   false}));
static_assert(is_dense<Mistral_7B_v0_1, 4096>({4096, 14'336, 32, 32, 8, 128, 32'000, 32'768, 1e4,
                                               1e-5, false}));
static_assert(is_dense<Llama3_3_70B>({8192, 28'672, 80, 64, 8, 128, 128'256, 131'072, 5e5, 1e-5,
                                      false}));
template <class Model>
constexpr bool is_by_parts(double factor) {
  constexpr RopeParts parts = Model::Global::rope.parts;
  return parts.factor == factor && parts.low == 1 && parts.high == 4 &&
         parts.original_context == 8192;
}
static_assert(is_by_parts<Llama3_1_8B>(8) && is_by_parts<Llama3_3_70B>(8));
static_assert(is_by_parts<Llama3_2_1B>(32) && is_by_parts<Llama3_2_3B>(32));
static_assert(!SmolLM2_135M::Global::rope.by_parts());

// GPT-OSS: a window of 128 on every other layer, the first included.
static_assert(gpt_oss::Local::heads == Heads{64, 8, 64} &&
              gpt_oss::Global::heads == Heads{64, 8, 64});
static_assert(gpt_oss::Local::Policy::window == 128 && gpt_oss::Local::learned_sinks);
static_assert(GptOss_20B::Layers::layers == 24 && GptOss_120B::Layers::layers == 36);
static_assert(GptOss_20B::hidden == 2880 && GptOss_20B::vocabulary == 201'088);

/// Layer i is global iff (i + 1) % `period` == 0; locals come first among the kinds.
template <class Model>
constexpr bool global_every(std::int64_t period) {
  using Layers = typename Model::Layers;
  static_assert(std::same_as<typename Layers::Kinds,
                             TypeList<typename Model::Local, typename Model::Global>>);
  for (std::int64_t i = 0; i < Layers::layers; ++i) {
    if (Layers::kind_of[static_cast<std::size_t>(i)] != ((i + 1) % period == 0 ? 1 : 0)) {
      return false;
    }
  }
  return true;
}
static_assert(global_every<Gemma3_270M>(6) && global_every<Gemma3_1B>(6));
static_assert(global_every<Gemma3_4B>(6) && global_every<Gemma3_12B>(6));
static_assert(global_every<Gemma3_27B>(6));
static_assert(global_every<Gemma4_E2B>(5) && global_every<Gemma4_E4B>(6));
static_assert(global_every<Gemma4_12B>(6) && global_every<Gemma4_31B>(6));
static_assert(global_every<GptOss_20B>(2) && global_every<GptOss_120B>(2));

/// From `first` on, locals read the cache of `local` and globals that of `global`; before, each
/// layer owns its cache.
template <class Model>
constexpr bool shares_from(std::int64_t first, std::int64_t local, std::int64_t global) {
  using P = SeedPlan<Model>;
  for (std::int64_t i = 0; i < P::layers; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (P::donor_of[at] != (i < first ? i : P::kind_of[at] == 0 ? local : global)) return false;
  }
  return true;
}
static_assert(shares_from<Gemma4_E2B>(15, 13, 14));
static_assert(shares_from<Gemma4_E4B>(24, 22, 23));
static_assert(shares_from<Gemma4_12B>(48, -1, -1) && shares_from<Gemma4_31B>(60, -1, -1));

static_assert(SeedPlan<Gemma3_270M>::ring_slots<0>() == 4608);  // 511 + 4096, whole tiles of 64
static_assert(SeedPlan<Gemma3_270M>::ring_slots<16>() == 4608);
static_assert(SeedPlan<Gemma3_1B>::ring_slots<25>() == 4608);
static_assert(SeedPlan<Gemma3_4B>::ring_slots<0>() == 5120);  // 1023 + 4096
static_assert(SeedPlan<Gemma3_27B>::ring_slots<61>() == 5120);

/// Locals, globals, values of a K row, slots of a ring.
template <class Model>
constexpr bool takes(std::int64_t context, std::int64_t locals, std::int64_t globals,
                     std::int64_t width, std::int64_t local_slots) {
  const std::int64_t bytes = (locals * local_slots + globals * context) * width * 2 * 2;
  return SeedPlan<Model>::cache_bytes(context) == bytes &&
         SeedPlan<Model>::cache_bytes(context, 5) == 5 * bytes &&
         SeedPlan<Model>::max_context(bytes) == context &&
         SeedPlan<Model>::full_cache_bytes(context) == (locals + globals) * context * width * 2 * 2;
}
// 270M: 15 local and 3 global layers, one kv head of 256.
static_assert(takes<Gemma3_270M>(4'096, 15, 3, 256, 4'096));
static_assert(takes<Gemma3_270M>(6'144, 15, 3, 256, 4'608));
static_assert(takes<Gemma3_270M>(131'072, 15, 3, 256, 4'608));
static_assert(SeedPlan<Gemma3_270M>::cache_bytes(4'096) == 75'497'472);     //  72 MiB
static_assert(SeedPlan<Gemma3_270M>::cache_bytes(6'144) == 89'653'248);     //  85.5 MiB
static_assert(SeedPlan<Gemma3_270M>::cache_bytes(131'072) == 473'432'064);  // 451.5 MiB
static_assert(SeedPlan<Gemma3_270M>::full_cache_bytes(131'072) == 2'415'919'104);
// 1B: 22 and 4.
static_assert(takes<Gemma3_1B>(4'096, 22, 4, 256, 4'096));
static_assert(takes<Gemma3_1B>(6'144, 22, 4, 256, 4'608));
static_assert(takes<Gemma3_1B>(131'072, 22, 4, 256, 4'608));
static_assert(SeedPlan<Gemma3_1B>::cache_bytes(131'072) == 640'679'936);  // 611 MiB
// 4B: 29 and 5, four kv heads of 256.
static_assert(takes<Gemma3_4B>(4'096, 29, 5, 1024, 4'096));
static_assert(takes<Gemma3_4B>(6'144, 29, 5, 1024, 5'120));
static_assert(takes<Gemma3_4B>(131'072, 29, 5, 1024, 5'120));
static_assert(SeedPlan<Gemma3_4B>::cache_bytes(131'072) == 3'292'528'640);  // 3,140 MiB
// 12B: 40 and 8, eight kv heads of 256.
static_assert(takes<Gemma3_12B>(4'096, 40, 8, 2048, 4'096));
static_assert(takes<Gemma3_12B>(6'144, 40, 8, 2048, 5'120));
static_assert(takes<Gemma3_12B>(131'072, 40, 8, 2048, 5'120));
static_assert(SeedPlan<Gemma3_12B>::cache_bytes(131'072) == 10'267'656'192);  // 9,792 MiB
// 27B: 52 and 10, sixteen kv heads of 128.
static_assert(takes<Gemma3_27B>(4'096, 52, 10, 2048, 4'096));
static_assert(takes<Gemma3_27B>(6'144, 52, 10, 2048, 5'120));
static_assert(takes<Gemma3_27B>(131'072, 52, 10, 2048, 5'120));
static_assert(SeedPlan<Gemma3_27B>::cache_bytes(131'072) == 12'918'456'320);  // 12,320 MiB

// Gemma 4 E4B at 131,072 positions, by hand (docs/memory.md). Layers 0 to 23 own a cache: 20
// locals, and the globals 5, 11, 17 and 23. Rings: 511 + 4096 = 4607 rows, in whole tiles of 64. A
// local row is K and V of 2 heads of 256 in 2 bytes, a global one of 512.
using E4B = SeedPlan<Gemma4_E4B>;
static_assert(E4B::ring_slots<0>() == 4608);
static_assert(E4B::row_bytes(0) == 2'048 && E4B::row_bytes(5) == 4'096);
static_assert(E4B::layer_bytes(0, 131'072) == 9'437'184);    // 4,608 x 2,048: 9 MiB
static_assert(E4B::layer_bytes(5, 131'072) == 536'870'912);  // 131,072 x 4,096: 512 MiB
static_assert(E4B::layer_bytes(24, 131'072) == 0);           // reads layer 22
static_assert(E4B::layer_bytes(41, 131'072) == 0);           // reads layer 23
static_assert(E4B::cache_bytes(131'072) == 188'743'680 + 2'147'483'648);  // 20 x 9, 4 x 512 MiB
static_assert(E4B::cache_bytes(131'072) == 2'336'227'328);                // 2,228 MiB
static_assert(E4B::full_cache_bytes(131'072) == 7'516'192'768);  // 20 x 256 + 4 x 512: 7,168 MiB
static_assert(E4B::cache_bytes(8'192) == 322'961'408);           // 180 + 4 x 32 MiB
static_assert(E4B::cache_bytes(4'096) == E4B::full_cache_bytes(4'096));  // no ring is shorter

// E2B: 12 locals and 3 globals of one head.
static_assert(SeedPlan<Gemma4_E2B>::ring_slots<0>() == 4608);
static_assert(SeedPlan<Gemma4_E2B>::cache_bytes(131'072) ==
              12LL * 4'608 * 1'024 + 3LL * 131'072 * 2'048);
// 12B: 40 locals of 8 x 256, 8 globals of 1 x 512. 31B: 50 of 16 x 256, 10 of 4 x 512.
static_assert(SeedPlan<Gemma4_12B>::cache_bytes(131'072) ==
              40LL * 5'120 * 8'192 + 8LL * 131'072 * 2'048);
static_assert(SeedPlan<Gemma4_31B>::cache_bytes(131'072) ==
              50LL * 5'120 * 16'384 + 10LL * 131'072 * 8'192);
// Mistral 7B: 4095 + 4096 rows, a tile's worth more. Beyond that a context costs nothing.
static_assert(SeedPlan<Mistral_7B_v0_1>::ring_slots<31>() == 8192);
static_assert(SeedPlan<Mistral_7B_v0_1>::cache_bytes(32'768) == 32LL * 8'192 * 4'096);
static_assert(SeedPlan<Mistral_7B_v0_1>::max_context(32LL * 8'192 * 4'096) == unbounded);
// GPT-OSS: 127 + 4096 rows are 66 tiles; with a chunk of 256 they are 6.
static_assert(SeedPlan<GptOss_20B>::ring_slots<0>() == 4224);
static_assert(Plan<GptOss_20B, bf16, Chunk<256>>::ring_slots<0>() == 384);
static_assert(SeedPlan<GptOss_120B>::cache_bytes(131'072) == 18LL * (4'224 + 131'072) * 2'048);
// Where all is dense there is nothing to save.
static_assert(SeedPlan<Qwen3_8B>::cache_bytes(32'768) == 36LL * 32'768 * 4'096);
static_assert(SeedPlan<Qwen3_8B>::cache_bytes(32'768) ==
              SeedPlan<Qwen3_8B>::full_cache_bytes(32'768));
static_assert(SeedPlan<Llama3_2_1B>::cache_bytes(131'072) == 16LL * 131'072 * 2'048);
static_assert(SeedPlan<SmolLM2_135M>::cache_bytes(8'192) == 30LL * 8'192 * 768);

}  // namespace

TEST_CASE("the Gemma 3 family has names and one architecture") {
  CHECK(std::string(Gemma3_270M::name) == "Gemma3_270M");
  CHECK(std::string(Gemma3_1B::name) == "Gemma3_1B");
  CHECK(std::string(Gemma3_4B::name) == "Gemma3_4B");
  CHECK(std::string(Gemma3_12B::name) == "Gemma3_12B");
  CHECK(std::string(Gemma3_27B::name) == "Gemma3_27B");
  CHECK(std::string(Gemma3_27B::architecture) == "gemma3");
  CHECK(std::string(Gemma3_270M::Local::name) == "local");
  CHECK(std::string(Gemma3_270M::Global::name) == "global");
}

namespace {

template <class Model>
std::string globals_of() {
  std::string globals;
  for (std::int64_t i = 0; i < Model::Layers::layers; ++i) {
    if (Model::Layers::kind_of[i] == 1) globals += std::to_string(i) + " ";
  }
  return globals;
}

}  // namespace

TEST_CASE("where the globals stand") {
  CHECK(globals_of<Gemma3_270M>() == "5 11 17 ");
  CHECK(globals_of<Gemma3_4B>() == "5 11 17 23 29 ");
  CHECK(globals_of<Gemma4_E2B>() == "4 9 14 19 24 29 34 ");
  CHECK(globals_of<Gemma4_E4B>() == "5 11 17 23 29 35 41 ");
  CHECK(globals_of<Gemma4_31B>() == "5 11 17 23 29 35 41 47 53 59 ");
  CHECK(globals_of<GptOss_20B>() == "1 3 5 7 9 11 13 15 17 19 21 23 ");
}

TEST_CASE("rows of a cache in bytes") {
  CHECK(SeedPlan<Gemma3_270M>::row_bytes(0) == 1'024);
  CHECK(SeedPlan<Gemma3_27B>::row_bytes(5) == 8'192);
}
