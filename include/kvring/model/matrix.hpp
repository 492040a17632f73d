// Matrix: a weight as a file holds it, a view.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvring/io/quants.hpp"

namespace kvring {

/// `out` rows of `in` values, each row a whole number of blocks of `type`.
struct Matrix {
  GgmlType type{};
  const std::byte* data = nullptr;  // [out, in]
  std::int64_t out = 0, in = 0;

  std::size_t row_bytes() const {
    return static_cast<std::size_t>(kvring::row_bytes(type, static_cast<std::uint64_t>(in)));
  }
  /// Row `row` as f32, into `values` [in].
  void read_row(std::int64_t row, float* values) const {
    dequantize(type, data + static_cast<std::size_t>(row) * row_bytes(), values,
               static_cast<std::size_t>(in));
  }
};

}  // namespace kvring
