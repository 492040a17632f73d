// One detail of Gemma 3 and Gemma 4 wrong at a time: the golden notices each.
#include "flips.hpp"

namespace kvring::test {
namespace {

// ---- Gemma 3: five local layers, a global one, a local one.

using Gemma3 = TinyGemma3<>;
template <class L = Gemma3::Local, class G = Gemma3::Global>
struct Gemma3Of : Gemma3 {
  using Layers = Hybrid<7, Repeat<5, L>, G, Tail<L>>;
};
struct Gemma3Shifted : Gemma3 {
  using Layers = Hybrid<7, Repeat<4, Local>, Global, Repeat<2, Local>>;
};
struct Gemma3Epsilon : Gemma3 {
  static constexpr double norm_epsilon = 1e-5;
};

// ---- Gemma 4 E: L L G L L G L G, of which the last three read the caches of 2, 4 and 2.

using Gemma4E = TinyGemma4E;
template <class L = Gemma4E::Local, class G = Gemma4E::Global>
struct Gemma4EOf : Gemma4E {
  using Layers = Hybrid<8, Repeat<2, L>, G, Tail<L, G>>;
};
struct Gemma4EShifted : Gemma4E {
  using Layers = Hybrid<8, Local, Global, Repeat<2, Local>, Global, Local, Global, Local>;
};
struct Gemma4EOtherDonor : Gemma4E {
  using Sharing = Donors<Donor<5, 2>, Donor<6, 3>, Donor<7, 2>>;
};
struct Gemma4EOwnKv : Gemma4E {
  using Sharing = OwnKv;
};
struct Gemma4EEpsilon : Gemma4E {
  static constexpr double norm_epsilon = 1e-5;
};

// ---- Gemma 4 with values from keys: L L G L L G.

using KeqV = TinyGemma4KeqV;
template <class L = KeqV::Local, class G = KeqV::Global>
struct KeqVOf : KeqV {
  using Layers = Hybrid<6, Repeat<2, L>, G>;
};
struct KeqVShifted : KeqV {
  using Layers = Hybrid<6, Local, Global, Local>;
};
struct KeqVEpsilon : KeqV {
  static constexpr double norm_epsilon = 1e-5;
};

constexpr auto theta_of_local = [](Rope& rope) { rope.theta = 10'000; };
constexpr auto theta_of_global = [](Rope& rope) { rope.theta = 1'000'000; };
constexpr auto scaled_positions = [](Rope& rope) { rope.scaling = 8; };
constexpr auto half_rotated = [](Rope& rope) { rope.rotated /= 2; };
constexpr auto quarter_rotated = [](Rope& rope) { rope.rotated /= 4, rope.turning = 0; };
constexpr auto quarter_turns = [](Rope& rope) { rope.turning = rope.rotated / 8; };
constexpr auto all_turn = [](Rope& rope) { rope.turning = 0; };

/// What all of Gemma has. `Of<L, G>` is the model with other kinds of layers; layer `global` is the
/// first global one, and the first `owners` own their caches.
template <template <class, class> class Of, class Right>
void flip_gemma(Flips<Right>& flips, int global, std::int64_t owners) {
  using L = typename Right::Local;
  using G = typename Right::Global;
  flips.template flip<Of<L, WithRope<G, theta_of_local>>>("theta: the local one", global);
  flips.template flip<Of<WithRope<L, theta_of_global>, G>>("local theta: the global one", 0);
  flips.template flip<Of<L, WithRope<G, scaled_positions>>>("RoPE scaling: 8, global", global);
  flips.template flip<Of<WithRope<L, scaled_positions>, G>>("RoPE scaling: 8, local", 0);
  flips.template flip<Of<WithRope<L, half_rotated>, G>>("rotated width: half a head, local", 0);
  flips.template flip<Of<L, WithRope<G, half_rotated>>>("rotated width: half a head, global",
                                                        global);
  flips.template flip<Of<WithRope<L, quarter_turns>, G>>("partial rotary: local layers too", 0);
  flips.flip("rotary pairing: neighbours", 0, {}, {.neighbours_turn = true});
  constexpr auto other_scale = [](std::int64_t dim) {
    return Right::Local::query_scalar == 1 ? dim : dim / 4;
  };
  flips.template flip<Of<WithQueryScalar<L, other_scale(L::heads.dim)>, G>>(
      "attention scale, local", 0);
  flips.template flip<Of<L, WithQueryScalar<G, other_scale(G::heads.dim)>>>(
      "attention scale, global", global);
  flips.template flip_block<[](Block& block) { block.qk_norm = false; }>("QK-norm: none", 0);
  flips.flip("QK-norm: those of queries and keys swapped", 0,
             swapped("attn_q_norm", "attn_k_norm", owners));
  flips.template flip_block<[](Block& block) { block.scaled_embedding = false; }>(
      "embedding scale: none", 0);
  flips.template flip_block<[](Block& block) { block.activation = Activation::silu; }>(
      "activation: SiLU", 0);
  flips.template flip_block<[](Block& block) { block.sandwich_norms = false; }>(
      "sandwich norms: none", 0);
  flips.flip("sandwich norms: after attention and before FFN swapped", 0,
             swapped("post_attention_norm", "ffn_norm", owners));
  flips.flip("sandwich norms: before and after FFN swapped", 0,
             swapped("ffn_norm", "post_ffw_norm", owners));
  flips.template flip_block<[](Block& block) { block.tied_head = false; }>(
      "tie: head is the scaled embedding", Flips<Right>::logits_only, head_of_embedding(8));
  flips.template flip_refused<WithBlock<Right, [](Block& block) { block.tied_head = false; }>>(
      "tie: a head of its own", "has no tensor lm_head.weight");
}

}  // namespace

TEST_CASE("each detail of Gemma 3 is noticed") {
  using Flipped = Flips<Gemma3>;
  Flipped flips("gemma3", "gemma3", logit_tolerance);
  using L = Gemma3::Local;
  using G = Gemma3::Global;
  flip_gemma<Gemma3Of>(flips, 5, 7);
  flips.flip<Gemma3Of<L, WithRope<G, quarter_turns>>>("partial rotary: a quarter, global", 5);
  flips.flip_block<[](Block& block) { block.v_norm = true; }>("V-norm: one", 0);
  flips.flip_block<[](Block& block) { block.final_softcap = 30; }>("final softcap: 30",
                                                                   Flipped::logits_only);
  flips.flip<Gemma3Of<WithValueFromKey<L>, G>>("V projection: K's, local", 0);
  flips.flip<Gemma3Of<L, WithValueFromKey<G>>>("V projection: K's, global", 5);
  flips.flip<Gemma3, WithNorms<Gemma3, false>>("1 + w: w", 0);
  flips.flip<TinyGemma3<11>>("window: 11 for 12", 0);
  flips.flip<TinyGemma3<13>>("window: 13 for 12", 0);
  flips.flip<Gemma3Shifted>("pattern: the global layer one early", 4);
  flips.flip_faint<Gemma3Epsilon>("norm epsilon: 1e-5 for 1e-6");
}

TEST_CASE("each detail of Gemma 4 E is noticed") {
  using Flipped = Flips<Gemma4E>;
  Flipped flips("gemma4-e", "gemma4-e", family_tolerance);
  using L = Gemma4E::Local;
  using G = Gemma4E::Global;
  flip_gemma<Gemma4EOf>(flips, 2, 5);
  flips.flip<Gemma4EOf<L, WithRope<G, all_turn>>>("partial rotary: all turn, global", 2);
  flips.flip<Gemma4EOf<L, WithRope<G, quarter_rotated>>>(
      "partial rotary: a quarter of a head, not of its pairs", 2);
  flips.flip_block<[](Block& block) { block.v_norm = false; }>("V-norm: none", 0);
  flips.flip_block<[](Block& block) { block.layer_scalar = false; }>("layer scalar: none", 0);
  flips.flip_block<[](Block& block) { block.final_softcap = 0; }>("final softcap: none",
                                                                  Flipped::logits_only);
  flips.flip<Gemma4EOf<WithValueFromKey<L>, G>>("V projection: K's, local", 0);
  flips.flip<Gemma4EOf<L, WithValueFromKey<G>>>("V projection: K's, global", 2);
  flips.flip<Gemma4E, WithNorms<Gemma4E, true>>("1 + w for w", 0);
  flips.flip<Gemma4EOf<models::gemma4::Local<11, L::heads>, G>>("window: 11 for 12", 0);
  flips.flip<Gemma4EOf<models::gemma4::Local<13, L::heads>, G>>("window: 13 for 12", 0);
  flips.flip_refused<Gemma4EShifted>("pattern: the global layers one early",
                                     "layers.1.self_attn.q_proj.weight is [256, 64]");
  flips.flip_faint<Gemma4EEpsilon>("norm epsilon: 1e-5 for 1e-6");
  flips.flip("kv head map: in turn, local", 0, kv_heads_in_turn(L::heads.dim));
  flips.flip("kv head map: in turn, global", 2, kv_heads_in_turn(G::heads.dim));
  flips.flip<Gemma4EOtherDonor>("donor: 3 for 4", 6);
  flips.flip<Gemma4EOwnKv>("donor: its weights, not its cache", 5, {.instead = [](Asked asked) {
                             const bool kv = asked.name.starts_with("attn_k") ||
                                             asked.name.starts_with("attn_v");
                             if (kv && asked.layer >= 5) asked.layer = asked.layer == 6 ? 4 : 2;
                             return asked;
                           }});
  // Per-layer embeddings of 16 values.
  flips.flip("PLE: table not scaled by sqrt(16)", 0, scaled("per_layer_token_embd", 0.25f));
  flips.flip_cancels("PLE: projection not scaled by 1 / sqrt(hidden)", {.inputs_unscaled = true});
  flips.flip_cancels("PLE: sum not scaled by 1 / sqrt(2)", {.inputs_not_halved = true});
  flips.flip("PLE: each layer has the next one's slice", 0,
             {.change = [](const Asked& asked, std::vector<float>& values, std::int64_t out,
                           std::int64_t in) {
               const bool table = asked.name == "per_layer_token_embd";
               if (!table && asked.name != "per_layer_model_proj") return false;
               const std::int64_t row = table ? in : out * in, by = table ? 16 : 16 * in;
               for (auto i = values.begin(); i != values.end(); i += row) {
                 std::rotate(i, i + by, i + row);
               }
               return true;
             }});
  flips.flip("PLE: slices begin one value late", 0, {}, {.input_offset = 1});
  flips.flip_block<[](Block& block) { block.per_layer_width = 0; }>("PLE: none", 0);
}

TEST_CASE("each detail of Gemma 4 with values from keys is noticed") {
  using Flipped = Flips<KeqV>;
  Flipped flips("gemma4-k-eq-v", "gemma4-k-eq-v", family_tolerance);
  using L = KeqV::Local;
  using G = KeqV::Global;
  flip_gemma<KeqVOf>(flips, 2, 6);
  flips.flip<KeqVOf<L, WithRope<G, all_turn>>>("partial rotary: all turn, global", 2);
  flips.flip<KeqVOf<L, WithRope<G, quarter_rotated>>>(
      "partial rotary: a quarter of a head, not of its pairs", 2);
  flips.flip_block<[](Block& block) { block.v_norm = false; }>("V-norm: none", 0);
  flips.flip_block<[](Block& block) { block.layer_scalar = false; }>("layer scalar: none", 0);
  flips.flip_block<[](Block& block) { block.final_softcap = 0; }>("final softcap: none",
                                                                  Flipped::logits_only);
  flips.flip("K = V: V from normed K", 2, {}, {.value_from_normed_key = true});
  flips.flip("K = V: V from rotated K", 2, {}, {.value_from_rotated_key = true});
  flips.flip<KeqVOf<WithValueFromKey<L>, G>>("V projection: K's, local", 0);
  flips.flip_refused<KeqVOf<L, WithOwnValue<G>>>("V projection: one of its own, global",
                                                 "has no tensor model.layers.2.self_attn.v_proj");
  flips.flip<KeqV, WithNorms<KeqV, true>>("1 + w for w", 0);
  flips.flip<KeqVOf<models::gemma4::Local<19, L::heads>, G>>("window: 19 for 20", 0);
  flips.flip<KeqVOf<models::gemma4::Local<21, L::heads>, G>>("window: 21 for 20", 0);
  flips.flip_refused<KeqVShifted>("pattern: the global layers one early",
                                  "layers.1.self_attn.q_proj.weight is [256, 64]");
  flips.flip_faint<KeqVEpsilon>("norm epsilon: 1e-5 for 1e-6");
  flips.flip("kv head map: in turn, local", 0, kv_heads_in_turn(L::heads.dim));
}

}  // namespace kvring::test
