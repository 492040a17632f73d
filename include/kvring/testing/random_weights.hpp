// RandomWeights: a model of any type without a file.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>
#include <vector>

#include "kvring/io/quants.hpp"
#include "kvring/model/matrix.hpp"

namespace kvring::testing {

/// A WeightSource of numbers that depend on the seed alone. Matrices keep the size of what they
/// multiply, norms are near 1. Must outlive the weights that are loaded from it.
class RandomWeights {
 public:
  explicit RandomWeights(std::uint64_t seed = 1) : state_(seed) {}

  Matrix matrix(std::int64_t, std::string_view, std::int64_t out, std::int64_t in) {
    const float scale = std::sqrt(3 / static_cast<float>(in));  // variance 1 / in
    const std::vector<float>& values = kept_.emplace_back(numbers(out * in, 0, scale));
    return {GgmlType::f32, reinterpret_cast<const std::byte*>(values.data()), out, in};
  }
  std::vector<float> vector(std::int64_t, std::string_view, std::int64_t n) {
    return numbers(n, 1, 0.1f);
  }
  void done_with_layer(std::int64_t) {}

 private:
  /// `count` numbers in [middle - reach, middle + reach).
  std::vector<float> numbers(std::int64_t count, float middle, float reach) {
    std::vector<float> values;
    values.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
      values.push_back(middle + reach * (static_cast<float>(state_ >> 40) * 0x1p-23f - 1));
    }
    return values;
  }

  std::uint64_t state_;
  std::deque<std::vector<float>> kept_;
};

}  // namespace kvring::testing
