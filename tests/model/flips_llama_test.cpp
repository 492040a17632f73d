// One detail of Qwen3 and Mistral wrong at a time: the golden notices each.
#include "flips.hpp"

namespace kvring::test {
namespace {

template <class Kind = TinyQwen3::Global>
struct Qwen3Of : TinyQwen3 {
  using Layers = Hybrid<4, Kind>;
};
struct Qwen3Window : models::DenseLayer<TinyQwen3::Global::heads, 10'000> {
  using Policy = Swa<64>;
};
struct Qwen3Epsilon : TinyQwen3 {
  static constexpr double norm_epsilon = 1e-5;
};

template <class Kind = TinyMistral::Local>
struct MistralOf : TinyMistral {
  using Layers = Hybrid<4, Kind>;
};
template <std::int64_t Window>
using MistralWindow = MistralOf<models::mistral::Local<Window, TinyMistral::Local::heads>>;
struct MistralEpsilon : TinyMistral {
  static constexpr double norm_epsilon = 1e-5;
};

/// What both have, in layers of one kind, `Right`'s `Kind`.
template <template <class> class Of, class Kind, class Right>
void flip_llama(Flips<Right>& flips) {
  using Flipped = Flips<Right>;
  flips.template flip<Of<WithRope<Kind, [](Rope& rope) { rope.theta = 1'000'000; }>>>(
      "theta: 1,000,000 for 10,000", 0);
  flips.template flip<Of<WithRope<Kind, [](Rope& rope) { rope.scaling = 8; }>>>("RoPE scaling: 8",
                                                                                0);
  flips.template flip<
      Of<WithRope<Kind, [](Rope& rope) { rope.parts = {.factor = 8, .original_context = 64}; }>>>(
      "RoPE scaling: by parts, 8", 0);
  flips.template flip<Of<WithRope<Kind, [](Rope& rope) { rope.rotated /= 2; }>>>(
      "rotated width: half a head", 0);
  flips.template flip<Of<WithRope<Kind, [](Rope& rope) { rope.turning = rope.rotated / 8; }>>>(
      "partial rotary: a quarter", 0);
  flips.flip("rotary pairing: neighbours", 0, {}, {.neighbours_turn = true});
  flips.template flip<Of<WithQueryScalar<Kind, 16>>>("attention scale: hidden / heads", 0);
  flips.template flip<Of<WithValueFromKey<Kind>>>("V projection: K's", 0);
  flips.flip("kv head map: in turn", 0, kv_heads_in_turn(Kind::heads.dim));
  flips.template flip<Right, WithNorms<Right, true>>("1 + w for w", 0);
  flips.template flip_block<[](Block& block) { block.v_norm = true; }>("V-norm: one", 0);
  flips.template flip_block<[](Block& block) { block.scaled_embedding = true; }>(
      "embedding scale: sqrt(hidden)", 0);
  flips.template flip_block<[](Block& block) { block.activation = Activation::gelu_tanh; }>(
      "activation: GELU", 0);
  flips.template flip_block<[](Block& block) { block.final_softcap = 30; }>("final softcap: 30",
                                                                            Flipped::logits_only);
  flips.template flip_block<[](Block& block) { block.tied_head = true; }>(
      "tie: head is the embedding", Flipped::logits_only);
}

}  // namespace

TEST_CASE("each detail of Qwen3 is noticed") {
  Flips<TinyQwen3> flips("qwen3", "qwen3", family_tolerance);
  flip_llama<Qwen3Of, TinyQwen3::Global>(flips);
  flips.flip_block<[](Block& block) { block.qk_norm = false; }>("QK-norm: none", 0);
  flips.flip("QK-norm: those of queries and keys swapped", 0,
             swapped("attn_q_norm", "attn_k_norm", 4));
  flips.flip<Qwen3Of<Qwen3Window>>("window: 64 for none", 0);
  flips.flip_faint<Qwen3Epsilon>("norm epsilon: 1e-5 for 1e-6");
}

TEST_CASE("each detail of Mistral is noticed") {
  Flips<TinyMistral> flips("mistral", "mistral", family_tolerance);
  flip_llama<MistralOf, TinyMistral::Local>(flips);
  flips.flip_block<[](Block& block) { block.qk_norm = true; }>("QK-norm: one, of weights 1", 0,
                                                               plain_qk_norms());
  flips.flip<MistralWindow<15>>("window: 15 for 16", 0);
  flips.flip<MistralWindow<17>>("window: 17 for 16", 0);
  flips.flip<MistralOf<models::DenseLayer<TinyMistral::Local::heads, 10'000>>>(
      "window: none for 16", 0);
  flips.flip_faint<MistralEpsilon>("norm epsilon: 1e-5 for 1e-6");
}

}  // namespace kvring::test
