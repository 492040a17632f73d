// Embedding: rows of a table, scaled.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

/// One row a call.
struct Embed {
  const float* table;       // [vocabulary, width]
  const std::int32_t* ids;  // [rows], each within the vocabulary
  float* x;                 // [rows, width]
  std::int64_t width;
  float scale;

  KVRING_HD void operator()(std::int64_t row) const {
    const float* from = table + ids[row] * width;
    for (std::int64_t i = 0; i < width; ++i) x[row * width + i] = from[i] * scale;
  }
};

}  // namespace kvring
