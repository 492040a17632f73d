// The gates of a feed-forward block: gate = activation(gate) * up.
#pragma once

#include <cstdint>

#include "kvring/kernels/math.hpp"

namespace kvring {

/// GELU, tanh form (Hendrycks and Gimpel, 2016); `gelu_pytorch_tanh` in configs.
struct GeluTanh {
  KVRING_HD float operator()(float x) const {
    constexpr float sqrt_2_over_pi = 0.7978845608f;
    const float inner = sqrt_2_over_pi * mul_add(0.044715f * x * x, x, x);
    return 0.5f * x * (1.0f + tanh_f32(inner));
  }
};

/// SiLU, or swish: x * sigmoid(x).
struct Silu {
  KVRING_HD float operator()(float x) const { return x / (1.0f + exp_f32(-x)); }
};

/// One row a call.
template <class Activation>
struct Gate {
  const float* up;  // [rows, up_stride], of which width are used
  float* gate;      // [rows, width], overwritten
  std::int64_t width;
  std::int64_t up_stride;

  KVRING_HD void operator()(std::int64_t row) const {
    const float* factor = up + row * up_stride;
    float* to = gate + row * width;
    for (std::int64_t i = 0; i < width; ++i) to[i] = Activation{}(to[i]) * factor[i];
  }
};

}  // namespace kvring
