// SharedTile: a matrix of 16-bit elements in shared memory, laid out so that ldmatrix, which reads
// eight rows at a time, meets no bank twice.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

/// Rows of `Columns` elements, a multiple of 16. The 16-byte chunks of a row are permuted within
/// atoms of 128 or 64 bytes, by XOR with bits of the row; where neither fits, rows are padded.
///
/// A lane computes the address of its first chunk once and goes on by step(): an XOR with a
/// constant. Addresses built from row and chunk each time cost registers that kernels don't have.
template <int Columns>
struct SharedTile {
  static_assert(Columns % 16 == 0);
  static constexpr int atom = Columns % 64 == 0 ? 8 : Columns % 32 == 0 ? 4 : 1;  // chunks
  static constexpr int pitch = Columns * 2 + (atom == 1 ? 16 : 0);                // bytes
  static constexpr int alignment = 128;

  /// Byte offset of a chunk.
  KVRING_HD static constexpr std::uint32_t offset(int row, int chunk) {
    const int mask = atom == 8 ? row & 7 : atom == 4 ? row >> 1 & 3 : 0;
    return static_cast<std::uint32_t>(row * pitch + (chunk ^ mask) * 16);
  }
  /// From the address of chunk c of a row to that of chunk c + `chunks` of that row. With what is
  /// left of `chunks` over whole atoms, c must have no bit in common.
  KVRING_HD static constexpr std::uint32_t step(std::uint32_t address, int chunks) {
    return (address ^ static_cast<std::uint32_t>(chunks % atom * 16)) +
           static_cast<std::uint32_t>(chunks / atom * atom * 16);
  }
  /// Whether a lane that begins at a multiple of `chunks` (or one further) may step through them.
  KVRING_HD static constexpr bool steps_within(int chunks) {
    return atom == 1 || chunks % atom == 0 || atom % chunks == 0;
  }
};

}  // namespace kvring
