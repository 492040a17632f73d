// Gemma 3: the published numbers, written out here a second time, and the bytes worked out by hand.
#include <doctest/doctest.h>

#include <concepts>
#include <cstdint>
#include <string>

#include "kvring/models/gemma3.hpp"
#include "kvring/plan.hpp"

using namespace kvring;
using namespace kvring::models;

namespace {

/// config.json of google/gemma-3-*: what a reader finds there.
struct Config {
  std::int64_t hidden_size, intermediate_size, num_hidden_layers;
  std::int64_t num_attention_heads, num_key_value_heads, head_dim;
  std::int64_t sliding_window, query_pre_attn_scalar, max_position_embeddings, vocab_size;
  double linear_rope_scaling;
};

template <class Model>
constexpr bool matches(const Config& c) {
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
static_assert(matches<Gemma3_270M>({640, 2048, 18, 4, 1, 256, 512, 256, 32'768, 262'144, 1}));
static_assert(matches<Gemma3_1B>({1152, 6912, 26, 4, 1, 256, 512, 256, 32'768, 262'144, 1}));
static_assert(matches<Gemma3_4B>({2560, 10'240, 34, 8, 4, 256, 1024, 256, 131'072, 262'208, 8}));
static_assert(matches<Gemma3_12B>({3840, 15'360, 48, 16, 8, 256, 1024, 256, 131'072, 262'208, 8}));
static_assert(matches<Gemma3_27B>({5376, 21'504, 62, 32, 16, 128, 1024, 168, 131'072, 262'208, 8}));

/// sliding_window_pattern 6: layer i is global iff (i + 1) % 6 == 0.
template <class Model>
constexpr bool every_sixth_is_global() {
  using Layers = typename Model::Layers;
  static_assert(std::same_as<typename Layers::Kinds,
                             TypeList<typename Model::Local, typename Model::Global>>);
  for (std::int64_t i = 0; i < Layers::layers; ++i) {
    if (Layers::kind_of[i] != ((i + 1) % 6 == 0 ? 1 : 0)) return false;
  }
  return true;
}
static_assert(every_sixth_is_global<Gemma3_270M>() && every_sixth_is_global<Gemma3_1B>());
static_assert(every_sixth_is_global<Gemma3_4B>() && every_sixth_is_global<Gemma3_12B>());
static_assert(every_sixth_is_global<Gemma3_27B>());

template <class Model>
using SeedPlan = Plan<Model, bf16, Chunk<4096>, Rewind<64>>;
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

TEST_CASE("the globals of Gemma 3 270M are layers 5, 11 and 17") {
  std::string globals;
  for (std::int64_t i = 0; i < Gemma3_270M::Layers::layers; ++i) {
    if (Gemma3_270M::Layers::kind_of[i] == 1) globals += std::to_string(i) + " ";
  }
  CHECK(globals == "5 11 17 ");
}

TEST_CASE("rows of a cache in bytes") {
  CHECK(SeedPlan<Gemma3_270M>::row_bytes(0) == 1'024);
  CHECK(SeedPlan<Gemma3_27B>::row_bytes(5) == 8'192);
}
