// What a conformance suite compares results with: the reference in double precision within a bound
// that is derived, or other results as bits.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kvring/testing/compare.hpp"
#include "kvring/testing/conformance_subject.hpp"
#include "kvring/testing/reference.hpp"

namespace kvring::testing::conformance {

/// Half a unit in the last place of a number near 1, relative.
template <class T>
inline constexpr double rounding = std::is_same_v<T, f32>   ? 0x1p-24
                                   : std::is_same_v<T, f16> ? 0x1p-11
                                                            : 0x1p-8;

/// How far a right kernel may be from exact attention over `keys` values of at most 1, with scores
/// made of dot products whose terms add up to `dot_size` at most. Sums are f32, in any order, and
/// may truncate (2^-23 a step; tensor cores do).
///   a score: head_dim steps, and the scale
///   an exponential: 2^-21 of itself, and as much of its argument
///   a weight has both errors, and stands above and below the fraction: twice
///   sums over keys: a step a key, above and below, each of at most 1
///   rows of f16 or bf16: weights are rounded to it, and so is the result; f16 has subnormal ones
/// 1% for terms of second order.
template <class S>
double bound(double dot_size, std::int64_t keys) {
  const double size = dot_size * S::scores().scale;
  const double weight =
      static_cast<double>(S::heads.dim + 1) * size * 0x1p-23 + (size + 1) * 0x1p-21;
  const double sums = 2 * static_cast<double>(keys) * 0x1p-23;
  using Row = typename S::Row;
  double rounded = 2 * rounding<Row>;
  if (std::is_same_v<Row, f16>) rounded += static_cast<double>(keys) * 0x1p-25;
  return 1.01 * (2 * weight + sums + rounded);
}

/// Result rows against the reference, which is given the keys that each of them must see and no
/// others.
template <class S>
void check_with_reference(const typename S::Prompt& prompt, const typename S::Results& results) {
  REQUIRE(!results.empty());
  const std::size_t kv = static_cast<std::size_t>(S::heads.kv_dim());
  const std::size_t dims = static_cast<std::size_t>(S::heads.dim);
  const Reference::Attention attention{.q_heads = S::heads.q,
                                       .kv_heads = S::heads.kv,
                                       .head_dim = S::heads.dim,
                                       .window = S::window,
                                       .scale = S::scores().scale};
  Reference history;
  std::int64_t known = -1;  // the newest position of the history
  const auto floats = [](const std::vector<typename S::Row>& row) {
    std::vector<float> values;
    for (const auto x : row) values.push_back(to_f32(x));
    return values;
  };
  for (const auto& [p, row] : results) {
    std::vector<typename S::Row> k(kv), v(kv), q(static_cast<std::size_t>(S::heads.q_dim()));
    for (std::int64_t key = std::max(known + 1, S::oldest_seen(p)); key <= p; ++key) {
      prompt.put_k(key, k.data());
      prompt.put_v(key, v.data());
      history.append(key, floats(k), floats(v));
    }
    known = p;
    prompt.put_q(p, q.data());
    const std::vector<double> right = history.attend(floats(q), p, attention);
    const std::vector<float> values = floats(row);
    Difference worst;
    for (std::int64_t head = 0; head < S::heads.q; ++head) {
      const double allowed = bound<S>(prompt.dot_size(p, head), p - S::oldest_seen(p) + 1);
      const std::size_t from = static_cast<std::size_t>(head) * dims;
      const Difference difference = beyond(allowed, std::span(values).subspan(from, dims),
                                           std::span(right).subspan(from, dims));
      covering()->with_reference += static_cast<long>(difference.compared);
      if (difference && !worst) worst = difference;
    }
    CHECK_MESSAGE(!worst, "position ", p, ", against the reference: ", worst);
  }
}

/// The same rows, computed in another way. `what` says which.
template <class S>
void check_same(const std::string& what, const typename S::Prompt& prompt,
                const typename S::Results& results, const typename S::Results& right) {
  REQUIRE(!right.empty());
  CHECK_MESSAGE(results.size() == right.size(), what, ": ", results.size(), " rows instead of ",
                right.size());
  for (const auto& [p, row] : results) {
    const auto other = right.find(p);
    if (other == right.end()) {
      CHECK_MESSAGE(other != right.end(), what, ": nothing to compare position ", p, " with");
      continue;
    }
    Difference difference;
    if constexpr (S::same_bits) {
      difference = differing_bits(std::span(row), std::span(other->second));
    } else {
      double size = 0;  // of the head with the largest scores
      for (std::int64_t head = 0; head < S::heads.q; ++head) {
        size = std::max(size, prompt.dot_size(p, head));
      }
      difference = beyond(2 * bound<S>(size, p - S::oldest_seen(p) + 1), std::span(row),
                          std::span(other->second));
    }
    covering()->as_bits += static_cast<long>(difference.compared);
    CHECK_MESSAGE(!difference, what, ", position ", p, ": ", difference);
  }
}

}  // namespace kvring::testing::conformance
