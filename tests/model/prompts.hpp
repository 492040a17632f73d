// Prompts for the model tests, and all logits of one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvring/model/prefill.hpp"

namespace kvring::test {

inline std::vector<std::int32_t> to_ids(const std::vector<std::int64_t>& values) {
  return {values.begin(), values.end()};
}

/// Logits of every position, [ids, vocabulary].
template <class DecoderType>
std::vector<float> all_logits(DecoderType& decoder, std::int64_t sequence,
                              std::span<const std::int32_t> ids) {
  const std::int64_t start = decoder.timeline(sequence).length();
  const auto vocabulary = static_cast<std::size_t>(decoder.vocabulary());
  std::vector<float> logits(ids.size() * vocabulary);
  prefill(decoder, sequence, ids, Wanted::all, [&](Span span) {
    for (std::int64_t row = 0; row < span.rows; ++row) {
      const auto position = static_cast<std::size_t>(span.start.value - start + row);
      decoder.logits(row, logits.data() + position * vocabulary);
    }
  });
  return logits;
}

/// The token generator of the project that this one began from: BOS, then a linear congruence.
inline std::vector<std::int32_t> seed_tokens(std::int64_t count, std::int32_t vocabulary) {
  std::vector<std::int32_t> ids{2};
  std::uint32_t state = 0x9E3779B9u;
  while (static_cast<std::int64_t>(ids.size()) < count) {
    state = state * 1664525u + 1013904223u;
    ids.push_back(static_cast<std::int32_t>(state % static_cast<std::uint32_t>(vocabulary - 5)) +
                  5);
  }
  return ids;
}

}  // namespace kvring::test
