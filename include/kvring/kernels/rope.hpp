// Rotary position embedding (Su et al., 2021), by a table of angles that all layers of a kind
// share.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/math.hpp"
#include "kvring/rope.hpp"

namespace kvring {

namespace detail {

/// A frequency scaled by parts, each step rounded as transformers rounds it.
KVRING_HD inline float frequency_by_parts(const RopeParts& parts, float frequency) {
  // A sum could swallow a plain product's rounding, which would depend on the compiler.
  const auto product = [](float a, float b) { return mul_add(a, b, 0.0f); };
  const auto context = static_cast<float>(parts.original_context);
  const auto low = static_cast<float>(parts.low), high = static_cast<float>(parts.high);
  const auto factor = static_cast<float>(parts.factor);
  const float period = product(1.0f / frequency, 6.283185307179586f);
  if (period < context / high) return frequency;
  if (period > context / low) return frequency / factor;
  const float turns = product(1.0f / period, context);
  const float kept = (turns - low) / (high - low);
  return product(1.0f - kept, frequency) / factor + product(kept, frequency);
}

}  // namespace detail

/// What positions are multiplied by for the angle of a pair.
///
/// Frequencies and angles are rounded to f32 before the cosine is taken, as transformers does and
/// as models were trained: at position 5,000 an exact angle would differ by 3e-4.
KVRING_HD inline float rope_frequency(const Rope& rope, std::int64_t pair) {
  if (!rope.turns(pair)) return 0;
  const float exponent = static_cast<float>(2 * pair) / static_cast<float>(rope.rotated);
  const auto wavelength = static_cast<float>(std::pow(rope.theta, double{exponent}));
  const float frequency = 1.0f / wavelength;
  if (rope.by_parts()) return detail::frequency_by_parts(rope.parts, frequency);
  return frequency / static_cast<float>(rope.scaling);
}

/// Cosines and sines of one row a call. Angles are positions, never slots.
struct RopeTable {
  Batch batch;
  Rope rope;
  float* table;  // [rows, 2, rotated / 2]: cosines, then sines

  KVRING_HD void operator()(std::int64_t row) const {
    const std::int64_t half = rope.rotated / 2;
    const Position position = Batch::position(batch.segment_of(row), row);
    float* cosines = table + row * rope.rotated;
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<float>(position.value) * rope_frequency(rope, i);
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
