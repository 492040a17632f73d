// Per-layer inputs (Gemma 3n, Gemma 4 E): what each layer adds besides attention and feed-forward.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/kernels/norm.hpp"

namespace kvring {

/// mixed = (norm(mixed * scale) + table) / sqrt(2), in slices of `width`, one for each layer, that
/// are normed apart with the same weights. One row a call.
struct MixPerLayerInputs {
  const float* table;   // [rows, layers * width]: rows of the per-layer table
  const float* weight;  // [width]
  float* mixed;         // [rows, layers * width]: a projection of the embedding, overwritten
  std::int64_t layers, width;
  float scale;
  float epsilon;

  KVRING_HD void operator()(std::int64_t row) const {
    constexpr float half_root = 0.70710678f;
    for (std::int64_t slice = row * layers; slice < (row + 1) * layers; ++slice) {
      float* values = mixed + slice * width;
      for (std::int64_t i = 0; i < width; ++i) values[i] *= scale;
      const float inverse = detail::inverse_rms(values, width, epsilon);
      for (std::int64_t i = 0; i < width; ++i) {
        values[i] = mul_add(values[i] * inverse, weight[i], table[slice * width + i]) * half_root;
      }
    }
  }
};

}  // namespace kvring
