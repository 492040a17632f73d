// The final softcap of logits (Gemma 2 and 4).
#pragma once

#include <cstdint>

#include "kvring/kernels/math.hpp"

namespace kvring {

/// Logits under a final softcap, one row a call.
struct SoftcapRows {
  float* x;  // [rows, width]
  std::int64_t width;
  float softcap;

  KVRING_HD void operator()(std::int64_t row) const {
    float* values = x + row * width;
    for (std::int64_t i = 0; i < width; ++i) values[i] = softcap * tanh_f32(values[i] / softcap);
  }
};

}  // namespace kvring
