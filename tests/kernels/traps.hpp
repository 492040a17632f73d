// What the tests of the traps share: a ring without a slot to spare, prompts of noise for it, and
// what attention must give for them. docs/traps.md lists the traps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "attention.hpp"

namespace kvring::test::traps {

inline constexpr Heads heads{.q = 6, .kv = 2, .dim = 12};
inline constexpr Scores scores{.scale = 0.4f, .softcap = 0};
inline constexpr std::int64_t tile = 8, window = 20, chunk = 13;
using Policy = Swa<window>;
inline constexpr std::int64_t slots = 32;  // window - 1 + chunk: not one to spare
static_assert(slots == window - 1 + chunk && slots % tile == 0);

template <class T>
using Rows = Prompt<heads, T>;
template <class T>
using Cache = TestCache<heads, T>;
template <class T>
using Pieces = std::vector<Piece<Rows<T>>>;

/// Elements out of bound of rows `first` ... of a prompt.
template <class T>
long wrong(const std::vector<float>& results, const Rows<T>& prompt, std::int64_t first = 0) {
  const Expected expected(prompt, window, scores.scale, scores.softcap);
  const std::size_t width = heads.q_dim();
  long count = 0;
  for (std::size_t i = 0; i * width < results.size(); ++i) {
    const auto row = std::span(results).subspan(i * width, width);
    count += expected.wrong(row, first + static_cast<std::int64_t>(i), tile);
  }
  return count;
}

/// The rows of a whole prompt, over a full cache, one at a time.
template <class T>
std::vector<float> token_by_token(const Rows<T>& prompt) {
  TestCache<heads, T, Full> cache(1, prompt.end());
  return prefill<ByScalar, Policy, tile>(cache, 0, prompt, 1, scores);
}

inline bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

/// NaN included, unlike differing_bits.
template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Few and small, for tests that try everything.
inline constexpr Heads few{.q = 2, .kv = 1, .dim = 8};

}  // namespace kvring::test::traps
