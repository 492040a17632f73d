// Arithmetic that must give the same bits wherever it is inlined: written-out fused multiply-adds,
// and an exponential that a host compiler can vectorise.
#pragma once

#include <cstdint>

#include "kvring/element.hpp"

namespace kvring {

/// a * b + c with one rounding, wherever the machine has the instruction; the compiler may neither
/// split nor make one, so that a value's bits do not depend on what it was inlined into.
KVRING_HD inline float mul_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__aarch64__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

/// e^x. Relative error below 1.5e-7 (tested over all floats of the range); 0 below -87.3, where
/// results would be subnormal; infinity above 88.7.
KVRING_HD inline float exp_f32(float x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
  const float biased = mul_add(clamped, log2_e, to_integer);
  const float n = biased - to_integer;
  const float r = mul_add(n, -ln2_low, mul_add(n, -ln2_high, clamped));  // |r| <= ln(2) / 2
  // Minimax coefficients of (e^r - 1 - r) / r^2 on that interval (S. Moshier, Cephes).
  float p = 1.9875691500e-4f;
  p = mul_add(p, r, 1.3981999507e-3f);
  p = mul_add(p, r, 8.3334519073e-3f);
  p = mul_add(p, r, 4.1665795894e-2f);
  p = mul_add(p, r, 1.6666665459e-1f);
  p = mul_add(p, r, 5.0000001201e-1f);
  p = mul_add(p, r * r, r) + 1.0f;
  // Multiply by 2^n in two steps: n may be 128, for which no float exists.
  const std::int32_t exponent =
      detail::bit_cast<std::int32_t>(biased) - detail::bit_cast<std::int32_t>(to_integer);
  const std::int32_t half = exponent / 2;
  const float low = detail::bit_cast<float>((half + 127) << 23);
  const float high = detail::bit_cast<float>((exponent - half + 127) << 23);
  const float result = p * low * high;
  if (x < -87.3f) return 0.0f;
  if (x > 88.7f) return detail::bit_cast<float>(0x7f800000);
  return x == x ? result : x;
}

/// tanh(x), by exp. Absolute error below 2e-7.
KVRING_HD inline float tanh_f32(float x) { return 1.0f - 2.0f / (exp_f32(2.0f * x) + 1.0f); }

}  // namespace kvring
