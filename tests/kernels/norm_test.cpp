// RMSNorm and the addition of one, against double precision.
#include "kvring/kernels/norm.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

using namespace kvring;

namespace {

constexpr double u = 0x1p-24;  // half a unit in the last place, relative

struct Case {
  std::int64_t rows, width;
  float epsilon;
  std::vector<float> x, weight, y;

  Case(std::int64_t rows, std::int64_t width, float epsilon, float size, unsigned seed)
      : rows(rows), width(width), epsilon(epsilon) {
    std::mt19937 random(seed);
    const auto uniform = [&] { return static_cast<float>(random()) / 2147483648.0f - 1.0f; };
    for (std::int64_t i = 0; i < rows * width; ++i) {
      x.push_back(uniform() * size);
      y.push_back(uniform());
    }
    for (std::int64_t i = 0; i < width; ++i) weight.push_back(uniform() * 3);
  }
  std::size_t at(std::int64_t row, std::int64_t i) const {
    return static_cast<std::size_t>(row * width + i);
  }
  /// x of that place, divided by the root of the mean square, times its weight.
  double right(std::int64_t row, std::int64_t i) const {
    double squares = 0;
    for (std::int64_t j = 0; j < width; ++j) squares += double{x[at(row, j)]} * x[at(row, j)];
    return x[at(row, i)] / std::sqrt(squares / static_cast<double>(width) + double{epsilon}) *
           weight[static_cast<std::size_t>(i)];
  }
  /// Relative. The sum has width / 16 terms a lane, then 16 lanes; with the mean and epsilon it is
  /// wrong by (width / 16 + 19) u, of which the root halves what goes through it. Root, quotient
  /// and two products round.
  double bound() const { return ((static_cast<double>(width) / 16 + 19) / 2 + 4) * u * 1.001; }
};

constexpr std::int64_t widths[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 640, 1152, 5376};
constexpr float epsilons[] = {1e-6f, 1e-5f, 1e-2f};
constexpr float sizes[] = {1e-4f, 1.0f, 1000.0f};

template <class F>
void each_case(F f) {
  unsigned seed = 0;
  for (const std::int64_t width : widths) {
    for (const float epsilon : epsilons) {
      for (const float size : sizes) f(Case(4, width, epsilon, size, ++seed));
    }
  }
}

TEST_CASE("RmsNorm divides a row by its root mean square") {
  long wrong = 0, compared = 0;
  each_case([&](const Case& c) {
    std::vector<float> y(c.y);
    const RmsNorm kernel{c.x.data(), c.weight.data(), y.data(), c.width, c.epsilon};
    for (const std::int64_t row : {2, 0, 3}) kernel(row);
    for (std::int64_t row = 0; row < c.rows; ++row) {
      for (std::int64_t i = 0; i < c.width; ++i, ++compared) {
        const double right = c.right(row, i);
        const float result = y[c.at(row, i)];
        if (row == 1) {
          wrong += result != c.y[c.at(row, i)];  // no call, no write
        } else {
          wrong += !(std::fabs(result - right) <= c.bound() * std::fabs(right));
        }
      }
    }
  });
  CHECK(compared > 200'000);
  CHECK(wrong == 0);
}

TEST_CASE("RmsNorm in place gives the same bits") {
  each_case([](const Case& c) {
    std::vector<float> apart(c.x.size()), in_place(c.x);
    const RmsNorm one{c.x.data(), c.weight.data(), apart.data(), c.width, c.epsilon};
    const RmsNorm two{in_place.data(), c.weight.data(), in_place.data(), c.width, c.epsilon};
    int differing = 0;
    for (std::int64_t row = 0; row < c.rows; ++row) one(row), two(row);
    for (std::size_t i = 0; i < apart.size(); ++i) {
      differing +=
          std::bit_cast<std::uint32_t>(apart[i]) != std::bit_cast<std::uint32_t>(in_place[i]);
    }
    CHECK(differing == 0);
  });
}

TEST_CASE("AddRmsNorm adds the norm to what is there") {
  long wrong = 0;
  each_case([&](const Case& c) {
    std::vector<float> y(c.y);
    const AddRmsNorm kernel{c.x.data(), c.weight.data(), y.data(), c.width, c.epsilon};
    for (const std::int64_t row : {2, 0, 3}) kernel(row);
    for (std::int64_t row = 0; row < c.rows; ++row) {
      for (std::int64_t i = 0; i < c.width; ++i) {
        const double before = c.y[c.at(row, i)], added = c.right(row, i);
        const float result = y[c.at(row, i)];
        if (row == 1) {
          wrong += result != c.y[c.at(row, i)];
        } else {  // the sum rounds too
          const double bound = c.bound() * std::fabs(added) + u * std::fabs(before + added) * 1.001;
          wrong += !(std::fabs(result - (before + added)) <= bound);
        }
      }
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("a row of zeros stays zero, and NaN spreads over its own row alone") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x(3 * 20, 1.0f), y(3 * 20, 7.0f);
  const std::vector<float> weight(20, 2.0f);
  std::fill_n(x.begin(), 20, 0.0f);
  x[20 + 19] = nan;
  const RmsNorm kernel{x.data(), weight.data(), y.data(), 20, 1e-6f};
  for (std::int64_t row = 0; row < 3; ++row) kernel(row);
  for (std::size_t i = 0; i < 20; ++i) {
    CHECK(y[i] == 0.0f);
    CHECK(std::isnan(y[20 + i]));
    CHECK(y[40 + i] == doctest::Approx(2.0f).epsilon(1e-6));
  }
}

}  // namespace
