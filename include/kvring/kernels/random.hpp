// Random numbers, counted: number i of a seed is the same whatever was drawn before it.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/element.hpp"

namespace kvring {

/// 64 bits of number `i` (Steele, Lea and Flood, 2014: SplitMix64).
KVRING_HD constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t x = seed + (i + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Normally distributed values, by Box and Muller; one element a call.
template <class T>
struct FillNormal {
  T* to;  // [count]
  float deviation;
  std::uint64_t seed;

  KVRING_HD void operator()(std::int64_t i) const {
    const std::uint64_t bits = random_bits(seed, static_cast<std::uint64_t>(i));
    const float radius = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
    const float turn = static_cast<float>(bits & 0xffffffu) * 0x1p-24f;
    const float value = std::sqrt(-2.0f * std::log(radius)) * std::cos(6.2831853f * turn);
    to[i] = from_f32<T>(deviation * value);
  }
};

}  // namespace kvring
