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
  // llama.cpp stores the query and key rows of a head of the Llama architecture with its two halves
  // interleaved, for another pairing of RoPE. Values of a head there; 0: rows are in their order.
  std::int64_t interleaved_head = 0;

  std::size_t row_bytes() const {
    return static_cast<std::size_t>(kvring::row_bytes(type, static_cast<std::uint64_t>(in)));
  }
  /// Where the file has row `row`.
  std::int64_t file_row(std::int64_t row) const {
    if (interleaved_head == 0) return row;
    const std::int64_t in_head = row % interleaved_head, half = interleaved_head / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
  }
  /// Row `row` as f32, into `values` [in].
  void read_row(std::int64_t row, float* values) const {
    dequantize(type, data + static_cast<std::size_t>(file_row(row)) * row_bytes(), values,
               static_cast<std::size_t>(in));
  }
};

}  // namespace kvring
