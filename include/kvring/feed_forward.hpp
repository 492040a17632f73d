// The widths of a model's feed-forward blocks.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

namespace detail {

template <class Model>
concept StatesFfnOfLayers = requires(std::int64_t layer) {
  Model::ffn_of(layer);
};

}  // namespace detail

/// Rows of the gate and up matrices of a layer: Model::ffn_of(layer), of a model whose layers
/// differ (Gemma 4 E2B), or else Model::ffn.
template <class Model>
constexpr std::int64_t ffn_width(std::int64_t layer) {
  if constexpr (detail::StatesFfnOfLayers<Model>) {
    return Model::ffn_of(layer);
  } else {
    return Model::ffn;
  }
}

/// The largest of all layers.
template <class Model>
constexpr std::int64_t widest_ffn() {
  std::int64_t widest = 0;
  for (std::int64_t layer = 0; layer < Model::Layers::layers; ++layer) {
    const std::int64_t width = ffn_width<Model>(layer);
    widest = width > widest ? width : widest;
  }
  return widest;
}

}  // namespace kvring
