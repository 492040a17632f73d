// Comparisons in which a NaN is a difference, on either side and even against itself.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <ostream>
#include <span>

#include "kvring/element.hpp"

namespace kvring::testing {

/// How two rows of numbers differ. True if they do.
struct Difference {
  std::size_t compared = 0;   // the length of the longer one
  std::size_t differing = 0;  // elements out of tolerance, NaN, or without a counterpart
  std::size_t first = 0;      // index of the first of them
  double largest = 0;         // largest absolute difference; infinite if a NaN or a length differs

  explicit operator bool() const { return differing != 0; }
};

inline std::ostream& operator<<(std::ostream& out, const Difference& difference) {
  if (!difference) return out << "no difference in " << difference.compared << " elements";
  return out << difference.differing << " of " << difference.compared
             << " elements differ, the first at " << difference.first << ", the largest by "
             << difference.largest;
}

namespace detail {

inline double as_double(double x) { return x; }
inline double as_double(float x) { return x; }
inline double as_double(f16 x) { return to_f32(x); }
inline double as_double(bf16 x) { return to_f32(x); }

/// |a - b|; 0 for equal infinities, infinite where either is NaN.
inline double distance(double a, double b) {
  if (a == b) return 0;
  const double difference = std::fabs(a - b);
  return difference < std::numeric_limits<double>::infinity()
             ? difference
             : std::numeric_limits<double>::infinity();
}

template <class A, class B, class Same>
Difference compare(std::span<const A> a, std::span<const B> b, Same same) {
  const std::size_t shorter = a.size() < b.size() ? a.size() : b.size();
  Difference difference;
  difference.compared = a.size() + b.size() - shorter;
  for (std::size_t i = 0; i < difference.compared; ++i) {
    double apart = std::numeric_limits<double>::infinity();
    if (i < shorter) {
      apart = distance(as_double(a[i]), as_double(b[i]));
      if (apart > difference.largest) difference.largest = apart;
      if (same(a[i], b[i], apart)) continue;
    }
    if (apart > difference.largest) difference.largest = apart;
    if (difference.differing++ == 0) difference.first = i;
  }
  return difference;
}

}  // namespace detail

/// Elements whose bits differ, and every NaN.
template <class T>
Difference differing_bits(std::span<const T> a, std::span<const T> b) {
  return detail::compare(a, b, [](const T& x, const T& y, double apart) {
    // Without padding, so that equal representations are equal bytes.
    using Bytes = std::array<unsigned char, sizeof(T)>;
    return apart == 0 && __builtin_bit_cast(Bytes, x) == __builtin_bit_cast(Bytes, y);
  });
}

/// Elements that are further apart than `tolerance`, and every NaN.
template <class A, class B>
Difference beyond(double tolerance, std::span<const A> a, std::span<const B> b) {
  return detail::compare(a, b,
                         [&](const A&, const B&, double apart) { return apart <= tolerance; });
}

}  // namespace kvring::testing
