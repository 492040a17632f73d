// What the golden tests share: the largest difference, and how large it may be.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <span>

namespace kvring::test {

/// Largest difference; infinity if anything is not a number.
inline double max_difference(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - double{b[i]});
    worst = difference <= worst ? worst : difference;
    if (std::isnan(difference)) return INFINITY;
  }
  return worst;
}

// Activations are f32 here and f64 in the oracle. Logits reach 74, whose last bit is worth 8e-6,
// and errors of one or two of those are what is measured (printed below). The bound leaves three
// times that for machines with other vector units; a window off by one makes a hundred times as
// much.
inline constexpr double logit_tolerance = 4e-5;

}  // namespace kvring::test
