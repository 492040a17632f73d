// ModelNumbers: a model type as numbers, for code that is compiled once for all of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kvring/block.hpp"
#include "kvring/feed_forward.hpp"
#include "kvring/heads.hpp"
#include "kvring/hybrid.hpp"
#include "kvring/model/weights.hpp"
#include "kvring/plan.hpp"
#include "kvring/policy.hpp"
#include "kvring/rope.hpp"

namespace kvring::detail {

template <class Model>
concept StatesModelType = requires {
  Model::model_type;
};

/// What transformers calls the family of `Model`.
template <class Model>
constexpr std::string_view model_type_of() {
  if constexpr (StatesModelType<Model>) {
    return Model::model_type;
  } else {
    return Model::architecture;
  }
}

/// A layer of a model type, as numbers.
struct LayerNumbers {
  std::int64_t window;
  Heads heads;
  Rope rope;
  double query_scalar;
  bool value_from_key;
  std::int64_t ffn;
  std::int64_t donor;  // the layer whose cache it reads

  bool sliding() const { return window != unbounded; }
  const char* type() const { return sliding() ? "sliding_attention" : "full_attention"; }
};

struct ModelNumbers {
  std::string_view model_type, architecture;
  std::int64_t hidden, vocabulary, max_context;
  double norm_epsilon;
  bool norms_store_minus_one;
  Block block;
  std::vector<LayerNumbers> layers;
};

template <class Model>
ModelNumbers numbers_of() {
  using Layers = typename Model::Layers;
  constexpr auto donors = SharingOf<Model>::type::template donors<Layers>();
  const auto kinds = []<class... Kind>(TypeList<Kind...>) {
    return std::array<LayerNumbers, sizeof...(Kind)>{
        LayerNumbers{.window = Kind::Policy::window,
                     .heads = Kind::heads,
                     .rope = Kind::rope,
                     .query_scalar = Kind::query_scalar,
                     .value_from_key = kvring::value_from_key<Kind>,
                     .ffn = 0,
                     .donor = 0}...};
  }(typename Layers::Kinds{});
  ModelNumbers numbers{.model_type = model_type_of<Model>(),
                       .architecture = Model::architecture,
                       .hidden = Model::hidden,
                       .vocabulary = Model::vocabulary,
                       .max_context = Model::max_context,
                       .norm_epsilon = Model::norm_epsilon,
                       .norms_store_minus_one = Model::norms_store_minus_one,
                       .block = Model::block,
                       .layers = {}};
  for (std::size_t i = 0; i < static_cast<std::size_t>(Layers::layers); ++i) {
    numbers.layers.push_back(kinds[static_cast<std::size_t>(Layers::kind_of[i])]);
    numbers.layers.back().ffn = ffn_width<Model>(static_cast<std::int64_t>(i));
    numbers.layers.back().donor = donors[i];
  }
  return numbers;
}

/// Layers that read another's cache.
inline std::int64_t readers_of(const ModelNumbers& type) {
  std::int64_t readers = 0;
  for (std::size_t i = 0; i < type.layers.size(); ++i) {
    readers += type.layers[i].donor != static_cast<std::int64_t>(i);
  }
  return readers;
}

/// The cache that layer `i` reads if the last `readers` layers read the last layer of their kind
/// before them, which is all that files say; -1 if there is none.
inline std::int64_t donor_by_count(const ModelNumbers& type, std::int64_t readers, std::size_t i) {
  const std::int64_t owners = static_cast<std::int64_t>(type.layers.size()) - readers;
  if (static_cast<std::int64_t>(i) < owners) return static_cast<std::int64_t>(i);
  std::int64_t donor = -1;
  for (std::int64_t j = 0; j < owners; ++j) {
    const bool same =
        type.layers[static_cast<std::size_t>(j)].sliding() == type.layers[i].sliding();
    if (same) donor = j;
  }
  return donor;
}

}  // namespace kvring::detail
