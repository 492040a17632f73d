// The comparisons themselves: what must be a difference is one.
#include "kvring/testing/compare.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <vector>

using namespace kvring;
using namespace kvring::testing;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

using Floats = std::vector<float>;

Difference bits(const Floats& a, const Floats& b) {
  return differing_bits(std::span<const float>(a), std::span<const float>(b));
}
Difference within(double tolerance, const Floats& a, const Floats& b) {
  return beyond(tolerance, std::span<const float>(a), std::span<const float>(b));
}

}  // namespace

TEST_CASE("equal rows do not differ") {
  CHECK_FALSE(bits({1, -2.5f, infinity}, {1, -2.5f, infinity}));
  CHECK_FALSE(within(0, {1, -2.5f, infinity}, {1, -2.5f, infinity}));
  CHECK(bits({1, 2, 3}, {1, 2, 3}).compared == 3);
}

TEST_CASE("one bit is a difference of bits") {
  const float next = std::nextafter(1.0f, 2.0f);
  const Difference difference = bits({0, 1, 2, 1}, {0, next, 2, next});
  CHECK(difference.differing == 2);
  CHECK(difference.first == 1);
  CHECK(difference.largest == static_cast<double>(next) - 1.0);
  CHECK(bits({0.0f}, {-0.0f}));
  CHECK_FALSE(within(0, {0.0f}, {-0.0f}));
}

TEST_CASE("a NaN is a difference, on either side, on both, whatever the tolerance") {
  for (const double tolerance : {0.0, 1.0, 1e300}) {
    CHECK(within(tolerance, {1, not_a_number}, {1, 1}));
    CHECK(within(tolerance, {1, 1}, {1, not_a_number}));
    CHECK(within(tolerance, {1, not_a_number}, {1, not_a_number}));
  }
  CHECK(within(std::numeric_limits<double>::quiet_NaN(), {1}, {1}));
  CHECK(bits({1, not_a_number}, {1, 1}));
  CHECK(bits({1, 1}, {1, not_a_number}));
  CHECK(bits({1, not_a_number}, {1, not_a_number}));
  CHECK(bits({not_a_number}, {not_a_number}).largest == std::numeric_limits<double>::infinity());
}

TEST_CASE("a NaN does not hide behind larger differences, nor they behind it") {
  CHECK(within(1e-6, {5, not_a_number, 0}, {0, 0, 0}).differing == 2);
  CHECK(within(1e-6, {0, not_a_number, 5}, {0, 0, 0}).first == 1);
  CHECK(within(10, {5, not_a_number, 0}, {0, 0, 0}).differing == 1);
}

TEST_CASE("tolerance is inclusive and absolute") {
  CHECK_FALSE(within(0.5, {1.5f}, {1}));
  CHECK(within(0.5, {std::nextafter(1.5f, 2.0f)}, {1}));
  CHECK(within(0.5, {-1}, {1}));
  CHECK(within(0.25, {1, 3}, {1, 2}).largest == 1);
}

TEST_CASE("infinities differ unless they are the same one") {
  CHECK(within(1e300, {infinity}, {-infinity}));
  CHECK(within(1e300, {infinity}, {1}));
  CHECK(bits({infinity}, {-infinity}));
}

TEST_CASE("rows of unequal length differ in what the shorter one lacks") {
  CHECK(bits({1, 2, 3}, {1}).differing == 2);
  CHECK(bits({1}, {1, 2, 3}).first == 1);
  CHECK(within(1e300, {}, {1}));
  CHECK(within(1e300, {}, {1}).largest == std::numeric_limits<double>::infinity());
  CHECK(bits({}, {}).compared == 0);
}

TEST_CASE("f16, bf16 and double") {
  const std::vector<f16> half{{0x3c00}, {0x7e00}};
  CHECK(differing_bits(std::span<const f16>(half), std::span<const f16>(half)).differing == 1);
  const std::vector<bf16> brain{{0x3f80}, {0x4000}};
  CHECK_FALSE(differing_bits(std::span<const bf16>(brain), std::span<const bf16>(brain)));
  const std::vector<double> exact{1.0, 2.0 + 1e-12};
  CHECK_FALSE(beyond(1e-9, std::span<const bf16>(brain), std::span<const double>(exact)));
  CHECK(beyond(1e-15, std::span<const bf16>(brain), std::span<const double>(exact)));
}

TEST_CASE("a difference says how many, where and how large") {
  std::ostringstream text;
  text << within(0.25, {1, 3, 4}, {1, 2, 2});
  CHECK(text.str() == "2 of 3 elements differ, the first at 1, the largest by 2");
  text.str("");
  text << within(0.25, {1}, {1});
  CHECK(text.str() == "no difference in 1 elements");
}
