// Whole rows: added, scaled, copied.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

/// y += x, one row a call.
struct AddRows {
  const float* x;  // [rows, width]
  float* y;        // [rows, width]
  std::int64_t width;

  KVRING_HD void operator()(std::int64_t row) const {
    for (std::int64_t i = 0; i < width; ++i) y[row * width + i] += x[row * width + i];
  }
};

/// x *= scale, one row a call.
struct ScaleRows {
  float* x;  // [rows, width]
  std::int64_t width;
  float scale;

  KVRING_HD void operator()(std::int64_t row) const {
    for (std::int64_t i = 0; i < width; ++i) x[row * width + i] *= scale;
  }
};

/// One row a call. No row may be both read and written.
struct CopyRows {
  const float* from;  // [rows, width]
  float* to;          // [rows, width]
  std::int64_t width;

  KVRING_HD void operator()(std::int64_t row) const {
    for (std::int64_t i = 0; i < width; ++i) to[row * width + i] = from[row * width + i];
  }
};

}  // namespace kvring
