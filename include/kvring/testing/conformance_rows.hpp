// Rows for the conformance suite: prompts of which any row follows from a seed, and pieces of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kvring/element.hpp"
#include "kvring/heads.hpp"
#include "kvring/kernels/random.hpp"

namespace kvring::testing::conformance {

/// Q, K and V of one sequence, of any length, made when they are asked for. Row i is the same
/// wherever the prompt begins. Values are in [-1, 1), and K and V hold numbers that an element of
/// the cache holds exactly, so that only arithmetic is compared.
template <Heads H, Element T, class RowType>
struct Prompt {
  static constexpr Heads heads = H;
  using Row = RowType;

  std::uint64_t seed = 1;
  std::int64_t begin = 0;  // position of row 0
  /// Added to every dot product; what it takes stands in the first value of each head.
  float lift = 0;
  /// If there are any: V is 0 but for a 1 in column i of every head at position probes[i].
  std::vector<std::int64_t> probes{};
  /// False: K and V as floats that the cache has to round.
  bool exact = true;
  /// True: K and V are NaN.
  bool is_nan = false;

  void put_q(std::int64_t position, RowType* to) const {  // to: [q_heads, head_dim]
    for (std::int64_t i = 0; i < H.q_dim(); ++i) {
      to[i] = from_f32<RowType>(lift != 0 && i % H.dim == 0 ? lift_in_q
                                                            : noise(0, position, H.q_dim(), i));
    }
  }
  void put_k(std::int64_t position, RowType* to) const {  // to: [kv_heads, head_dim]
    for (std::int64_t i = 0; i < H.kv_dim(); ++i) {
      to[i] = lift != 0 && i % H.dim == 0 ? from_f32<RowType>(lift / lift_in_q)
                                          : rounded(noise(1, position, H.kv_dim(), i));
    }
  }
  void put_v(std::int64_t position, RowType* to) const {  // to: [kv_heads, head_dim]
    for (std::int64_t i = 0; i < H.kv_dim(); ++i) {
      const std::size_t column = static_cast<std::size_t>(i % H.dim);
      to[i] = probes.empty()
                  ? rounded(noise(2, position, H.kv_dim(), i))
                  : from_f32<RowType>(column < probes.size() && probes[column] == position ? 1.0f
                                                                                           : 0.0f);
    }
  }

  /// At least the sum of |q_d k_d| of a head's query with any key.
  double dot_size(std::int64_t position, std::int64_t head) const {
    double size = std::fabs(lift);
    for (std::int64_t d = lift != 0 ? 1 : 0; d < H.dim; ++d) {
      size += std::fabs(noise(0, position, H.q_dim(), head * H.dim + d));
    }
    return size;
  }

 private:
  static constexpr float lift_in_q = 16;

  float noise(std::uint64_t part, std::int64_t position, std::int64_t width, std::int64_t i) const {
    const std::uint64_t bits =
        random_bits(seed * 3 + part, static_cast<std::uint64_t>((position - begin) * width + i));
    const float value = static_cast<float>(static_cast<std::int64_t>(bits >> 40)) * 0x1p-23f - 1;
    return part == 0 ? to_f32(from_f32<RowType>(value)) : value;
  }
  RowType rounded(float value) const {
    if (is_nan) value = std::numeric_limits<float>::quiet_NaN();
    return from_f32<RowType>(exact ? to_f32(from_f32<T>(value)) : value);
  }
};

/// Positions `start` ... `start + rows - 1` of a prompt, for one sequence of a cache.
template <class PromptType>
struct Piece {
  std::int64_t sequence;
  const PromptType* prompt;
  std::int64_t start, rows;
};

}  // namespace kvring::testing::conformance
