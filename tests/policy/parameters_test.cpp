// Do the numbers of a model type make up the model that was published? Its parameters are counted
// and compared with what the files of its repository hold (safetensors metadata; the same for the
// base and the instructed model).
#include <doctest/doctest.h>

#include <cstdint>
#include <type_traits>

#include "kvring/feed_forward.hpp"
#include "kvring/models/dense.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/gpt_oss.hpp"
#include "kvring/plan.hpp"

using namespace kvring;
using namespace kvring::models;

namespace {

template <class Kind>
constexpr bool keys_are_values = requires {
  requires Kind::value_from_key;
};

/// Values of the text model's tensors. Layers that read another layer's cache count with keys and
/// values: the files of Gemma 4 E hold them, though nothing reads them.
template <class Model>
constexpr std::int64_t parameters() {
  using P = Plan<Model, bf16, Chunk<1>>;
  constexpr Block block = Model::block;
  constexpr std::int64_t h = Model::hidden, slice = block.per_layer_width;
  constexpr std::int64_t table = Model::vocabulary * h;
  std::int64_t sum = (block.tied_head ? table : 2 * table) + h;  // and the final norm
  for (std::int64_t i = 0; i < P::layers; ++i) {
    P::with_kind(P::kind_of[static_cast<std::size_t>(i)], [&](auto of) {
      using Kind = typename decltype(of)::type;
      constexpr Heads heads = Kind::heads;
      sum += 2 * h * heads.q_dim();                                 // queries, out
      sum += (keys_are_values<Kind> ? 1 : 2) * h * heads.kv_dim();  // keys, values
      sum += block.qk_norm ? 2 * heads.dim : 0;                     // norms of a head
      sum += 3 * h * ffn_width<Model>(i);                           // gate, up, down
      sum += (block.sandwich_norms ? 4 : 2) * h;                    // norms of a row
      sum += block.layer_scalar ? 1 : 0;
      sum += slice > 0 ? 2 * h * slice + h : 0;  // per-layer gate, out, norm
    });
  }
  // The per-layer table, its projection of the embedding, the norm of a slice.
  return sum + (Model::vocabulary + h) * P::layers * slice + slice;
}

// Gemma 3. The larger ones have one image tower in common, and a projection of its 1,152 values.
constexpr std::int64_t siglip = 416'866'032;
template <class Model>
constexpr std::int64_t with_siglip = parameters<Model>() + siglip + 1152 * Model::hidden + 1152;
static_assert(parameters<Gemma3_270M>() == 268'098'176);
static_assert(parameters<Gemma3_1B>() == 999'885'952);
static_assert(with_siglip<Gemma3_4B> == 4'300'079'472);
static_assert(with_siglip<Gemma3_12B> == 12'187'325'040);
static_assert(with_siglip<Gemma3_27B> == 27'432'406'640);

// Gemma 4 E. Both have the same towers, whose 768 (images) and 1,536 values (sound) are projected.
constexpr std::int64_t e_towers = 472'189'216;
template <class Model>
constexpr std::int64_t with_e_towers = parameters<Model>() + e_towers +
                                       (768 + 1536) * Model::hidden;
static_assert(with_e_towers<Gemma4_E2B> == 5'123'178'051);
static_assert(with_e_towers<Gemma4_E4B> == 7'996'156'490);

// Gemma 4 12B has no tower: patches of 48 x 48 x 3 values, a bias, three norms with biases, two
// axes of 1,120 positions; projections of images and of 640 values of sound.
constexpr std::int64_t patch = 48 * 48 * 3;
static_assert(parameters<Gemma4_12B>() + patch * 3840 + 3840 + 2 * (patch + 3840 + 3840) +
                  2 * 1120 * 3840 + (3840 + 640) * 3840 ==
              11'959'730'224);

// Gemma 4 31B: 27 layers of 16 heads of 72, two axes of 10,240 positions, patches of 16 x 16 x 3.
constexpr std::int64_t image_layer = 4 * 1152 * 1152 + 3 * 1152 * 4304 + 4 * 1152 + 2 * 72;
static_assert(parameters<Gemma4_31B>() + 27 * image_layer + 2 * 10'240 * 1152 + 768 * 1152 +
                  2 * 1152 + 1152 * 5376 ==
              31'273'088'876);

static_assert(parameters<Llama3_1_8B>() == 8'030'261'248);
static_assert(parameters<Llama3_2_1B>() == 1'235'814'400);
static_assert(parameters<Llama3_2_3B>() == 3'212'749'824);
static_assert(parameters<Llama3_3_70B>() == 70'553'706'496);
static_assert(parameters<SmolLM2_135M>() == 134'515'008);
static_assert(parameters<SmolLM2_360M>() == 361'821'120);
static_assert(parameters<SmolLM2_1_7B>() == 1'711'376'384);
static_assert(parameters<Mistral_7B_v0_1>() == 7'241'732'096);

// The files of 0.6B and 1.7B hold the embedding twice, though head and embedding are one.
static_assert(parameters<Qwen3_0_6B>() + 151'936 * 1024 == 751'632'384);
static_assert(parameters<Qwen3_1_7B>() + 151'936 * 2048 == 2'031'739'904);
static_assert(parameters<Qwen3_4B>() == 4'022'468'096);
static_assert(parameters<Qwen3_8B>() == 8'190'735'360);
static_assert(parameters<Qwen3_14B>() == 14'768'307'200);
static_assert(parameters<Qwen3_32B>() == 32'762'123'264);

/// GPT-OSS: projections with biases, a sink of each query head, a router, experts of 2,880 rows.
template <class Model>
constexpr std::int64_t parameters_with_experts(std::int64_t experts) {
  constexpr std::int64_t h = Model::hidden, ffn = 2880;
  constexpr std::int64_t q = gpt_oss::heads.q_dim(), kv = gpt_oss::heads.kv_dim();
  constexpr std::int64_t attention =
      (h + 1) * q + 2 * (h + 1) * kv + (q + 1) * h + gpt_oss::heads.q;
  const std::int64_t expert = (h + 1) * 2 * ffn + (ffn + 1) * h;
  const std::int64_t layer = attention + 2 * h + experts * (h + 1 + expert);
  return 2 * Model::vocabulary * h + h + Model::Layers::layers * layer;
}
static_assert(parameters_with_experts<GptOss_20B>(32) == 20'914'757'184);
static_assert(parameters_with_experts<GptOss_120B>(128) == 116'829'156'672);

}  // namespace

TEST_CASE("one layer of Gemma 4 E4B, counted on paper") {
  // Queries and out: 2 x 2560 x 8 x 256. Keys and values: 2 x 2560 x 2 x 256. Two norms of a head.
  // Feed-forward: 3 x 2560 x 10,240. Four norms, a scalar. Per-layer gate, out, norm.
  const std::int64_t local =
      10'485'760 + 2'621'440 + 512 + 78'643'200 + 10'240 + 1 + 1'310'720 + 2'560;
  // A global layer has heads of 512.
  const std::int64_t global = local + 10'485'760 + 2'621'440 + 512;
  const std::int64_t embedding = 262'144LL * 2560;
  const std::int64_t per_layer = (262'144LL + 2560) * 42 * 256 + 256;
  CHECK(local == 93'074'433);
  CHECK(parameters<Gemma4_E4B>() == 35 * local + 7 * global + embedding + 2560 + per_layer);
  CHECK(parameters<Gemma4_E4B>() == 7'518'069'034);
}
