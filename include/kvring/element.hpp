// The element types of a cache: f32, f16 and bf16, as plain storage that host and device share.
#pragma once

#include <concepts>
#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

using f32 = float;

/// IEEE binary16, stored. Bit-identical to CUDA's `__half`.
struct f16 {
  std::uint16_t bits = 0;
};

/// bfloat16, stored. Bit-identical to CUDA's `__nv_bfloat16`.
struct bf16 {
  std::uint16_t bits = 0;
};

namespace detail {

/// std::bit_cast, callable on the device without a compiler flag.
template <class To, class From>
KVRING_HD constexpr To bit_cast(From from) {
  return __builtin_bit_cast(To, from);
}

}  // namespace detail

/// Exact widening.
KVRING_HD constexpr float to_f32(float x) { return x; }

KVRING_HD constexpr float to_f32(bf16 x) {
  return detail::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

KVRING_HD constexpr float to_f32(f16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  const std::uint32_t exponent = magnitude & 0x0f800000u;
  // A subnormal is m * 2^-24. Put behind the exponent of 2^-14 its bits mean 2^-14 + m * 2^-24; no
  // float on the way is subnormal, so flushing those to zero (-use_fast_math) changes nothing.
  const float offset = detail::bit_cast<float>(std::uint32_t{(127u - 14u) << 23});
  const float subnormal =
      detail::bit_cast<float>(detail::bit_cast<std::uint32_t>(offset) | magnitude) - offset;
  const std::uint32_t bits = exponent == 0             ? detail::bit_cast<std::uint32_t>(subnormal)
                             : exponent == 0x0f800000u ? magnitude | 0x7f800000u  // infinity, NaN
                                                       : magnitude + (112u << 23);
  return detail::bit_cast<float>(sign | bits);
}

namespace detail {

/// Round to nearest, ties to even; NaN becomes the canonical quiet NaN, as CUDA's conversion makes
/// it.
KVRING_HD constexpr std::uint16_t bf16_bits(float x) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

KVRING_HD constexpr std::uint16_t f16_bits(float x) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  if (magnitude > 0x7f800000u) return 0x7fffu;
  if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // >= 2^16
  if (magnitude < 0x38800000u) {
    // Below 2^-14 the result is subnormal, a multiple of 2^-24. Adding 0.5, whose last bit is worth
    // 2^-24, lets the adder do the rounding.
    const float shifted = bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  // Rebias the exponent by -112 and round 13 bits away; a carry may run up to infinity, as it
  // should.
  const std::uint32_t rebased = magnitude - (112u << 23);
  return static_cast<std::uint16_t>(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13));
}

}  // namespace detail

/// Nearest value of type T, ties to even. Deleted for types that are no element of a cache.
template <class T>
KVRING_HD constexpr T from_f32(float x) = delete;
template <>
KVRING_HD constexpr float from_f32<float>(float x) {
  return x;
}
template <>
KVRING_HD constexpr bf16 from_f32<bf16>(float x) {
  return {detail::bf16_bits(x)};
}
template <>
KVRING_HD constexpr f16 from_f32<f16>(float x) {
  return {detail::f16_bits(x)};
}

/// A type that a cache may hold.
template <class T>
concept Element = requires(T x, float y) {
  { to_f32(x) } -> std::same_as<float>;
  { from_f32<T>(y) } -> std::same_as<T>;
};

template <Element T>
inline constexpr const char* element_name = "?";
template <>
inline constexpr const char* element_name<f32> = "f32";
template <>
inline constexpr const char* element_name<f16> = "f16";
template <>
inline constexpr const char* element_name<bf16> = "bf16";

}  // namespace kvring
