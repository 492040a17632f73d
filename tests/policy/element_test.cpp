// Conversions of f16 and bf16, all 65,536 of each and a walk through f32, against the definition of
// the formats in double precision.
#include "kvring/element.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using namespace kvring;

namespace {

static_assert(sizeof(f32) == 4 && sizeof(f16) == 2 && sizeof(bf16) == 2);
static_assert(std::is_trivially_copyable_v<f16> && std::is_trivially_copyable_v<bf16>);
static_assert(Element<f32> && Element<f16> && Element<bf16>);
static_assert(!Element<double> && !Element<int> && !Element<std::uint16_t>);

static_assert(to_f32(bf16{0x3f80}) == 1.0f && from_f32<bf16>(1.0f).bits == 0x3f80);
static_assert(to_f32(f16{0x3c00}) == 1.0f && from_f32<f16>(1.0f).bits == 0x3c00);
static_assert(from_f32<f16>(65504.0f).bits == 0x7bff && from_f32<f16>(65520.0f).bits == 0x7c00);
static_assert(from_f32<f32>(0.1f) == 0.1f && to_f32(0.1f) == 0.1f);

/// A format of 16 bits: a sign, an exponent and a mantissa.
template <class T>
struct Format;
template <>
struct Format<f16> {
  static constexpr int mantissa_bits = 10, bias = 15;
};
template <>
struct Format<bf16> {
  static constexpr int mantissa_bits = 7, bias = 127;
};

/// IEEE 754 section 3.4, in double precision. The exponent after the last finite one is read as if
/// it were one more binade, so that infinity has a place on the number line.
template <class T>
double value_by_definition(std::uint16_t bits) {
  constexpr int mantissa_bits = Format<T>::mantissa_bits;
  const int exponent = (bits & 0x7fff) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double significand = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  const int scale = (exponent == 0 ? 1 : exponent) - Format<T>::bias - mantissa_bits;
  return (bits & 0x8000 ? -1.0 : 1.0) * std::ldexp(significand, scale);
}

template <class T>
constexpr std::uint16_t infinity_bits = 0x7fff ^ ((1 << Format<T>::mantissa_bits) - 1);

float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

template <class T>
void check_widening() {
  int wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const T x{static_cast<std::uint16_t>(i)};
    const float wide = to_f32(x);
    const bool negative = (i & 0x8000) != 0;
    if ((i & 0x7fff) > infinity_bits<T>) {
      wrong += !std::isnan(wide);
    } else if ((i & 0x7fff) == infinity_bits<T>) {
      wrong += !std::isinf(wide) || std::signbit(wide) != negative;
    } else {
      wrong += static_cast<double>(wide) != value_by_definition<T>(x.bits) ||
               std::signbit(wide) != negative;
    }
  }
  CHECK(wrong == 0);
}

template <class T>
void check_round_trip() {
  int wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const T x{static_cast<std::uint16_t>(i)};
    const T again = from_f32<T>(to_f32(x));
    const bool nan = (i & 0x7fff) > infinity_bits<T>;
    wrong += nan ? again.bits != 0x7fff : again.bits != x.bits;
  }
  CHECK(wrong == 0);
}

/// Rounds magnitudes that come in ascending order to nearest, ties to even.
template <class T>
class Rounder {
 public:
  std::uint16_t operator()(double magnitude) {
    while (bits_ < infinity_bits<T> && value_by_definition<T>(bits_ + 1) <= magnitude) ++bits_;
    if (bits_ == infinity_bits<T>) return bits_;
    const double below = magnitude - value_by_definition<T>(bits_);
    const double above = value_by_definition<T>(bits_ + 1) - magnitude;
    if (below == above) return bits_ + (bits_ & 1);
    return bits_ + (above < below);
  }

 private:
  std::uint16_t bits_ = 0;
};

template <class T>
bool narrows_to(std::uint32_t magnitude_bits, std::uint16_t expected) {
  return from_f32<T>(float_of(magnitude_bits)).bits == expected &&
         from_f32<T>(float_of(magnitude_bits | 0x80000000u)).bits == (expected | 0x8000);
}

template <class T>
void check_narrowing_by_stride() {
  constexpr std::uint32_t stride = 127, infinity = 0x7f800000u;
  Rounder<T> round;
  std::uint32_t wrong = 0, first_wrong = 0;
  for (std::uint32_t bits = 0; bits < infinity; bits += stride) {
    if (narrows_to<T>(bits, round(float_of(bits)))) continue;
    if (wrong++ == 0) first_wrong = bits;
  }
  CAPTURE(first_wrong);
  CHECK(wrong == 0);
  CHECK(narrows_to<T>(infinity, infinity_bits<T>));
}

/// Every tie between two neighbours, and the floats just below and above it.
template <class T>
void check_narrowing_at_ties() {
  Rounder<T> round;
  std::uint32_t wrong = 0;
  for (std::uint16_t i = 0; i < infinity_bits<T>; ++i) {
    const double tie = (value_by_definition<T>(i) + value_by_definition<T>(i + 1)) / 2;
    const std::uint32_t bits = bits_of(static_cast<float>(tie));
    REQUIRE(static_cast<double>(float_of(bits)) == tie);
    for (std::uint32_t near = bits - 1; near <= bits + 1; ++near) {
      wrong += !narrows_to<T>(near, round(float_of(near)));
    }
  }
  CHECK(wrong == 0);
}

template <class T>
void check_nan_narrows_to_nan() {
  std::uint32_t wrong = 0;
  for (std::uint32_t bits = 0x7f800001u; bits <= 0x7fffffffu; bits += 101) {
    wrong += from_f32<T>(float_of(bits)).bits != 0x7fff;
    wrong += from_f32<T>(float_of(bits | 0x80000000u)).bits != 0x7fff;
  }
  CHECK(wrong == 0);
  CHECK(from_f32<T>(float_of(0x7fffffffu)).bits == 0x7fff);
  CHECK(std::isnan(to_f32(from_f32<T>(std::numeric_limits<float>::signaling_NaN()))));
}

}  // namespace

TEST_CASE_TEMPLATE("widening is exact for all 65,536 patterns", T, f16, bf16) {
  check_widening<T>();
}
TEST_CASE_TEMPLATE("narrowing what was widened gives the same bits", T, f16, bf16) {
  check_round_trip<T>();
}
TEST_CASE_TEMPLATE("narrowing rounds to nearest, ties to even: a walk through f32", T, f16, bf16) {
  check_narrowing_by_stride<T>();
}
TEST_CASE_TEMPLATE("narrowing rounds to nearest, ties to even: every tie", T, f16, bf16) {
  check_narrowing_at_ties<T>();
}
TEST_CASE_TEMPLATE("NaN narrows to the canonical NaN, never to infinity", T, f16, bf16) {
  check_nan_narrows_to_nan<T>();
}

#if defined(__SSE__)
TEST_CASE("f16 keeps its subnormals where f32 flushes its own to zero") {
  const unsigned int before = _mm_getcsr();
  _mm_setcsr(before | 0x8040u);  // what -ffast-math sets
  check_widening<f16>();
  check_round_trip<f16>();
  check_narrowing_at_ties<f16>();
  _mm_setcsr(before);
}
#endif

TEST_CASE("elements have names") {
  CHECK(std::string(element_name<f32>) == "f32");
  CHECK(std::string(element_name<f16>) == "f16");
  CHECK(std::string(element_name<bf16>) == "bf16");
}
