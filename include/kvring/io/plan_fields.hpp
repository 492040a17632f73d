// plan_fields: everything of a plan that the rows of its caches depend on, as names and values.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kvring/block.hpp"
#include "kvring/element.hpp"
#include "kvring/feed_forward.hpp"
#include "kvring/plan.hpp"
#include "kvring/rope.hpp"

namespace kvring {

/// "window of local" and "512". Neither holds a line break.
struct PlanField {
  std::string name, value;
  friend bool operator==(const PlanField&, const PlanField&) = default;
};

namespace detail {

/// Of a number the shortest text that reads back as the same.
template <class Value>
std::string field_text(const Value& value) {
  if constexpr (std::is_convertible_v<const Value&, std::string_view>) {
    return std::string(std::string_view(value));
  } else if constexpr (std::is_same_v<Value, bool>) {
    return value ? "yes" : "no";
  } else {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  }
}

class PlanFields {
 public:
  template <class Value, class... Name>
  void add(const Value& value, const Name&... name) {
    fields.push_back({concat(name...), field_text(value)});
  }
  std::vector<PlanField> fields;
};

template <class PlanType, class Kind>
void add_kind(PlanFields& out, std::string_view kind) {
  using Placed = typename PlanType::template PlacementOf<Kind>;
  constexpr std::int64_t window = Kind::Policy::window;
  out.add(window == unbounded ? "all" : std::to_string(window), "window of ", kind);
  if constexpr (Placed::is_ring) {
    out.add(Placed::Storage::slots, "ring slots of ", kind);
  } else {
    out.add("full", "ring slots of ", kind);
  }
  out.add(Kind::heads.q, "query heads of ", kind);
  out.add(Kind::heads.kv, "kv heads of ", kind);
  out.add(Kind::heads.dim, "head width of ", kind);
  if constexpr (requires { Kind::query_scalar; }) {
    out.add(static_cast<double>(Kind::query_scalar), "query scalar of ", kind);
  }
  if constexpr (requires { Kind::value_from_key; }) {
    out.add(Kind::value_from_key, "values from keys of ", kind);
  }
  if constexpr (requires { Kind::rope; }) {
    constexpr Rope rope = Kind::rope;
    out.add(rope.theta, "RoPE theta of ", kind);
    out.add(rope.scaling, "RoPE scaling of ", kind);
    out.add(rope.rotated, "rotated values of ", kind);
    out.add(rope.turning, "turning pairs of ", kind);
    out.add(rope.parts.factor, "RoPE factor by parts of ", kind);
    out.add(rope.parts.low, "RoPE low turns of ", kind);
    out.add(rope.parts.high, "RoPE high turns of ", kind);
    out.add(rope.parts.original_context, "RoPE original context of ", kind);
  }
}

template <class Model>
void add_block(PlanFields& out) {
  constexpr Block block = Model::block;
  out.add(block.activation == Activation::gelu_tanh ? "gelu_tanh" : "silu", "activation");
  out.add(block.qk_norm, "QK norm");
  out.add(block.sandwich_norms, "sandwich norms");
  out.add(block.v_norm, "V norm");
  out.add(block.scaled_embedding, "scaled embedding");
  out.add(block.layer_scalar, "layer scalar");
  out.add(block.per_layer_width, "per-layer width");
}

}  // namespace detail

/// In a fixed order: what the plan states of itself, and what its model states for a decoder, as
/// far as it does. The chunk and the rewind are not among them, the ring that they make is.
template <class PlanType>
std::vector<PlanField> plan_fields() {
  using Model = typename PlanType::Model;
  detail::PlanFields out;
  if constexpr (requires { Model::name; }) out.add(Model::name, "model");
  out.add(element_name<typename PlanType::Element>, "element");
  out.add(PlanType::key_tile, "key tile");
  out.add(PlanType::layers, "layers");
  if constexpr (requires { Model::hidden; }) out.add(Model::hidden, "hidden width");
  if constexpr (requires { ffn_width<Model>(0); }) {
    std::string widths;
    for (std::int64_t i = 0; i < PlanType::layers; ++i) {
      widths += concat(i == 0 ? "" : " ", ffn_width<Model>(i));
    }
    out.add(widths, "feed-forward widths");
  }
  if constexpr (requires { Model::vocabulary; }) out.add(Model::vocabulary, "vocabulary");
  if constexpr (requires { Model::norm_epsilon; }) out.add(Model::norm_epsilon, "norm epsilon");
  if constexpr (requires { Model::block; }) detail::add_block<Model>(out);
  std::string kinds, donors;
  for (std::int64_t i = 0; i < PlanType::layers; ++i) {
    kinds += concat(i == 0 ? "" : " ", PlanType::kind_of[static_cast<std::size_t>(i)]);
    donors += concat(i == 0 ? "" : " ", PlanType::donor_of[static_cast<std::size_t>(i)]);
  }
  out.add(kinds, "kinds of the layers");
  out.add(donors, "donors of the layers");
  for (int kind = 0; kind < PlanType::kinds; ++kind) {
    PlanType::with_kind(kind, [&](auto of) {
      using Kind = typename decltype(of)::type;
      std::string name = concat("kind ", kind);
      if constexpr (requires { Kind::name; }) name = concat(Kind::name, " (kind ", kind, ")");
      detail::add_kind<PlanType, Kind>(out, name);
    });
  }
  return out.fields;
}

}  // namespace kvring
