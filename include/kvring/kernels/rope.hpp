// Rotary position embedding (Su et al., 2021), by a table of angles that all layers of a kind
// share.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/math.hpp"
#include "kvring/rope.hpp"

namespace kvring {

/// Cosines and sines of one row a call. Angles are positions, never slots.
///
/// Frequencies and angles are rounded to f32 before the cosine is taken, as transformers does and
/// as models were trained: at position 5,000 an exact angle would differ by 3e-4.
struct RopeTable {
  Batch batch;
  Rope rope;
  float* table;  // [rows, 2, rotated / 2]: cosines, then sines

  KVRING_HD void operator()(std::int64_t row) const {
    const std::int64_t half = rope.rotated / 2;
    const Position position = Batch::position(batch.segment_of(row), row);
    float* cosines = table + row * rope.rotated;
    for (std::int64_t i = 0; i < half; ++i) {
      const float exponent = static_cast<float>(2 * i) / static_cast<float>(rope.rotated);
      const float wavelength = static_cast<float>(std::pow(rope.theta, double{exponent}));
      const float frequency = 1.0f / wavelength / static_cast<float>(rope.scaling);
      const bool turns = rope.turning == 0 || i < rope.turning;
      const double angle = turns ? static_cast<float>(position.value) * frequency : 0.0f;
      cosines[i] = static_cast<float>(std::cos(angle));
      cosines[half + i] = static_cast<float>(std::sin(angle));
    }
  }
};

/// Rotates all heads of one row a call, in place.
struct RotateHeads {
  const float* table;  // [rows, 2, rotated / 2]
  float* x;            // [rows, heads, head_dim]
  std::int64_t heads, head_dim, rotated;

  KVRING_HD void operator()(std::int64_t row) const {
    const std::int64_t half = rotated / 2;
    const float* cosines = table + row * rotated;
    const float* sines = cosines + half;
    for (std::int64_t head = 0; head < heads; ++head) {
      float* low = x + (row * heads + head) * head_dim;
      float* high = low + half;
      for (std::int64_t i = 0; i < half; ++i) {
        const float a = low[i], b = high[i];
        low[i] = mul_add(a, cosines[i], -(b * sines[i]));
        high[i] = mul_add(b, cosines[i], a * sines[i]);
      }
    }
  }
};

}  // namespace kvring
