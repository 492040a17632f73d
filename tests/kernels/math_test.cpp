// exp, tanh and the gates against double precision, over a walk through all floats.
#include "kvring/kernels/math.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kvring/kernels/activation.hpp"

using namespace kvring;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr double u = 0x1p-24;  // half a unit in the last place, relative

/// f(x) for every `stride`-th float from 0 to `largest` and from -0 to `smallest`.
template <class F>
void walk(float smallest, float largest, std::uint32_t stride, F f) {
  for (std::uint32_t bits = 0; bits <= std::bit_cast<std::uint32_t>(largest); bits += stride) {
    f(std::bit_cast<float>(bits));
  }
  for (std::uint32_t bits = 0x80000000u; bits <= std::bit_cast<std::uint32_t>(smallest);
       bits += stride) {
    f(std::bit_cast<float>(bits));
  }
}

TEST_CASE("exp_f32 is within 1.5e-7 of e^x") {
  double largest = 0;
  long count = 0, wrong = 0;
  const auto check = [&](float x) {
    const double right = std::exp(static_cast<double>(x));
    const double error = std::fabs(exp_f32(x) - right) / right;
    wrong += !(error < 1.5e-7);
    largest = error > largest ? error : largest;
    ++count;
  };
  walk(-87.3f, 88.7f, 211, check);
  // Every float near the ends, and near the half-integers of x / ln 2 where the exponent steps.
  for (const float end : {-87.3f, 88.7f}) {
    for (std::uint32_t i = 0; i < 20'000; ++i) {
      check(std::bit_cast<float>(std::bit_cast<std::uint32_t>(end) - i));
    }
  }
  for (int n = -125; n <= 127; ++n) {
    const float middle = static_cast<float>((n + 0.5) * 0.6931471805599453);
    if (middle < -87.3f || middle > 88.7f) continue;
    for (int i = -200; i <= 200; ++i) {
      check(std::bit_cast<float>(std::bit_cast<std::uint32_t>(middle) + i));
    }
  }
  CHECK(count > 10'000'000);
  CHECK(wrong == 0);
  CHECK(largest > 1e-8);  // an error of nothing would mean that nothing was compared
  MESSAGE("largest relative error ", largest, " over ", count, " floats");
}

TEST_CASE("exp_f32 at the edges") {
  CHECK(exp_f32(0.0f) == 1.0f);  // exactly: a maximum that stays must not scale what it stands for
  CHECK(exp_f32(-0.0f) == 1.0f);
  CHECK(exp_f32(-infinity) == 0.0f);
  CHECK(!std::signbit(exp_f32(-infinity)));
  CHECK(exp_f32(infinity) == infinity);
  CHECK(std::isnan(exp_f32(nan)));
  CHECK(std::isnan(exp_f32(-nan)));
  CHECK(exp_f32(-87.3f) > std::numeric_limits<float>::min());  // the last normal result
  CHECK(exp_f32(std::nextafter(-87.3f, -infinity)) == 0.0f);
  CHECK(exp_f32(-1e30f) == 0.0f);
  CHECK(std::isfinite(exp_f32(88.7f)));
  CHECK(exp_f32(std::nextafter(88.7f, infinity)) == infinity);
  CHECK(exp_f32(std::numeric_limits<float>::max()) == infinity);
  CHECK(exp_f32(std::numeric_limits<float>::denorm_min()) == 1.0f);
}

TEST_CASE("exp_f32 gives the same bits in a loop that is vectorised and alone") {
  std::mt19937 random(1);
  std::vector<float> x(4096), together(x.size());
  for (float& value : x) value = static_cast<float>(random()) / 4294967296.0f * 180.0f - 90.0f;
  for (std::size_t i = 0; i < x.size(); ++i) together[i] = exp_f32(x[i]);
  int differing = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    volatile float one = x[i];  // out of the vectoriser's sight
    differing += std::bit_cast<std::uint32_t>(exp_f32(one)) !=
                 std::bit_cast<std::uint32_t>(static_cast<float>(together[i]));
  }
  CHECK(differing == 0);
}

TEST_CASE("mul_add rounds once where the machine can") {
  volatile float a = 1.0f + 0x1p-12f, b = a, c = -1.0f - 0x1p-11f;
#if defined(__FMA__) || defined(__aarch64__)
  CHECK(mul_add(a, b, c) == 0x1p-24f);
#else
  CHECK(mul_add(a, b, c) == 0.0f);
#endif
  CHECK(mul_add(2.0f, 3.0f, 4.0f) == 10.0f);
}

TEST_CASE("tanh_f32 is within 2e-7 of tanh") {
  double largest = 0;
  long wrong = 0;
  const auto check = [&](float x) {
    const double error = std::fabs(tanh_f32(x) - std::tanh(static_cast<double>(x)));
    wrong += !(error < 2e-7);
    largest = error > largest ? error : largest;
  };
  walk(-100.0f, 100.0f, 499, check);
  CHECK(wrong == 0);
  CHECK(largest > 1e-8);
  CHECK(tanh_f32(0.0f) == 0.0f);
  CHECK(tanh_f32(infinity) == 1.0f);
  CHECK(tanh_f32(-infinity) == -1.0f);
  CHECK(tanh_f32(std::numeric_limits<float>::max()) == 1.0f);
  CHECK(std::isnan(tanh_f32(nan)));
  MESSAGE("largest error ", largest);
}

double gelu_tanh(double x) {
  const double pi = 3.14159265358979323846;
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
}

TEST_CASE("GELU, tanh form") {
  // y = x / 2 * (1 + t). t is wrong by what tanh_f32 adds, 2e-7, and by what the 4 roundings of its
  // argument z move it: 4u |z| / cosh(z)^2 < 2u. Three more roundings are relative to 1 + t <= 2.
  const double bound_of_t = 2e-7 + 2 * u;
  long wrong = 0;
  const auto check = [&](float x) {
    const double right = gelu_tanh(x);
    const double bound = std::fabs(x) / 2.0 * (bound_of_t + 2 * 3 * u) + 1e-37;
    wrong += !(std::fabs(GeluTanh{}(x)-right) <= bound);
  };
  walk(-1000.0f, 1000.0f, 499, check);
  CHECK(wrong == 0);
  CHECK(GeluTanh{}(0.0f) == 0.0f);
  CHECK(GeluTanh{}(1e10f) == 1e10f);
  CHECK(GeluTanh{}(-1e10f) == 0.0f);
  CHECK(GeluTanh{}(std::numeric_limits<float>::max()) == std::numeric_limits<float>::max());
  CHECK(GeluTanh{}(-std::numeric_limits<float>::max()) == 0.0f);
  CHECK(GeluTanh{}(infinity) == infinity);
  CHECK(std::isnan(GeluTanh{}(nan)));
}

TEST_CASE("SiLU") {
  // e^-x is within 1.5e-7; the sum and the quotient round: relative 1.5e-7 + 2u, a little more for
  // the terms of second order. Below -88.7 the result is -0, and should be less than 3e-37.
  long wrong = 0;
  const auto check = [&](float x) {
    const double right = x / (1 + std::exp(-static_cast<double>(x)));
    const double bound = std::fabs(right) * (1.5e-7 + 2.01 * u) + 3e-37;
    wrong += !(std::fabs(Silu{}(x)-right) <= bound);
  };
  walk(-1000.0f, 1000.0f, 499, check);
  CHECK(wrong == 0);
  CHECK(Silu{}(0.0f) == 0.0f);
  CHECK(Silu{}(std::numeric_limits<float>::max()) == std::numeric_limits<float>::max());
  CHECK(Silu{}(-std::numeric_limits<float>::max()) == 0.0f);
  CHECK(std::isnan(Silu{}(nan)));
}

template <class Activation>
Gate<Activation> gate_kernel(const float* up, float* gate, std::int64_t width) {
  Gate<Activation> kernel{};
  kernel.up = up;
  kernel.gate = gate;
  kernel.width = width;
  if constexpr (requires { kernel.up_stride; }) kernel.up_stride = width;
  return kernel;
}

template <class Activation>
void gates_row_by_row() {
  constexpr std::int64_t rows = 5, width = 37;
  std::mt19937 random(2);
  std::vector<float> gate(rows * width), up(gate.size());
  for (float& x : gate) x = static_cast<float>(random() % 2000) / 100.0f - 10.0f;
  for (float& x : up) x = static_cast<float>(random() % 2000) / 100.0f - 10.0f;
  std::vector<float> result = gate;
  const auto kernel = gate_kernel<Activation>(up.data(), result.data(), width);
  for (const std::int64_t row : {3, 0, 4, 1}) kernel(row);
  int wrong = 0;
  for (std::int64_t i = 0; i < rows * width; ++i) {
    const std::size_t at = static_cast<std::size_t>(i);
    const float right = i / width == 2 ? gate[at] : Activation{}(gate[at]) * up[at];
    wrong += std::bit_cast<std::uint32_t>(result[at]) != std::bit_cast<std::uint32_t>(right);
  }
  CHECK(wrong == 0);
}

TEST_CASE("a gate multiplies its own row, and no other") {
  gates_row_by_row<GeluTanh>();
  gates_row_by_row<Silu>();
}

}  // namespace
