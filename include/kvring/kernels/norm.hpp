// RMSNorm (Zhang and Sennrich, 2019): y = x / sqrt(mean(x^2) + epsilon) * weight.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/kernels/math.hpp"

namespace kvring {

namespace detail {

/// 1 / sqrt(mean(x^2) + epsilon), summed in 16 lanes so that a host compiler can vectorise it.
KVRING_HD inline float inverse_rms(const float* x, std::int64_t width, float epsilon) {
  constexpr std::int64_t lanes = 16;
  float sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      sums[lane] = mul_add(x[i + lane], x[i + lane], sums[lane]);
    }
  }
  for (std::int64_t lane = 0; i + lane < width; ++lane) {
    sums[lane] = mul_add(x[i + lane], x[i + lane], sums[lane]);
  }
  float sum = 0;
  for (float part : sums) sum += part;
  return 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
}

}  // namespace detail

/// y = norm(x), one row a call. x and y may be the same.
struct RmsNorm {
  const float* x;       // [rows, width]
  const float* weight;  // [width]
  float* y;             // [rows, width]
  std::int64_t width;
  float epsilon;

  KVRING_HD void operator()(std::int64_t row) const {
    const float* from = x + row * width;
    float* to = y + row * width;
    const float scale = detail::inverse_rms(from, width, epsilon);
    for (std::int64_t i = 0; i < width; ++i) to[i] = from[i] * scale * weight[i];
  }
};

/// x = x / sqrt(mean(x^2) + epsilon), one row a call: a norm without weights.
struct PlainRmsNorm {
  float* x;  // [rows, width]
  std::int64_t width;
  float epsilon;

  KVRING_HD void operator()(std::int64_t row) const {
    float* values = x + row * width;
    const float scale = detail::inverse_rms(values, width, epsilon);
    for (std::int64_t i = 0; i < width; ++i) values[i] *= scale;
  }
};

/// y += norm(x), one row a call: the sandwich norms of Gemma. x and y must not overlap.
struct AddRmsNorm {
  const float* x;       // [rows, width]
  const float* weight;  // [width]
  float* y;             // [rows, width]
  std::int64_t width;
  float epsilon;

  KVRING_HD void operator()(std::int64_t row) const {
    const float* from = x + row * width;
    float* to = y + row * width;
    const float scale = detail::inverse_rms(from, width, epsilon);
    for (std::int64_t i = 0; i < width; ++i) to[i] = mul_add(from[i] * scale, weight[i], to[i]);
  }
};

}  // namespace kvring
