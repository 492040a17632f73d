// AttentionCopies: queries, keys and values on their way to shared memory, by cp.async.
#pragma once

#include <cstdint>

#include "kvring/arch/copy_async.cuh"
#include "kvring/kernels/attention_layout.cuh"

namespace kvring {

/// A thread copies chunks t, t + 8 ... of rows r, r + threads / 8 ...: its XOR never changes.
template <class Layout>
struct AttentionCopies {
  using T = typename Layout::T;
  using HeadTile = typename Layout::HeadTile;
  using SharedStorage = typename Layout::SharedStorage;
  static constexpr Heads heads = Layout::heads;
  static constexpr int head_dim = Layout::head_dim;
  static constexpr int threads = Layout::threads;
  static constexpr int rows = Layout::rows;
  static constexpr int keys = Layout::keys;

  /// The rows that exist; those that don't become zeros.
  __device__ static void queries(SharedStorage& shared, const PackedRows& packed, const T* q) {
    const int first = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
    const std::uint32_t to = arch::shared_address(shared.q) + HeadTile::offset(first, chunk);
#pragma unroll
    for (int i = 0; i < rows; i += threads / 8) {
      const int row = first + i;
      if (row >= rows) break;
      const bool exists = packed.begin + row < packed.end;
      const T* from = q + packed.template query_offset<heads>(exists ? row : 0) + chunk * 8;
#pragma unroll
      for (int c = 0; c < head_dim / 8; c += 8) {
        if (chunk + c < head_dim / 8) {
          arch::copy_async_16(to + i * HeadTile::pitch + c * 16, from + c * 8, exists);
        }
      }
    }
  }

  /// `rows_of_head`: of the tile's first slot. Rows begin ... end - 1, or all of them; the others
  /// become zeros.
  template <bool Whole>
  __device__ static void rows_of_tile(unsigned char* tile, const T* rows_of_head, int begin,
                                      int end) {
    constexpr int row_elements = static_cast<int>(heads.kv_dim());
    const int first = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
    const std::uint32_t to = arch::shared_address(tile) + HeadTile::offset(first, chunk);
    const T* from = rows_of_head + first * row_elements + chunk * 8;
#pragma unroll
    for (int i = 0; i < keys; i += threads / 8) {
      const int row = first + i;
      if (keys % (threads / 8) != 0 && row >= keys) break;
      const bool valid = Whole || (row >= begin && row < end);
      // A row that is not read still needs an address inside of the cache.
      const int moved = valid ? i : (begin > 0 ? begin : 0) - first;
#pragma unroll
      for (int c = 0; c < head_dim / 8; c += 8) {
        if (c + 8 <= head_dim / 8 || chunk + c < head_dim / 8) {
          arch::copy_async_16(to + i * HeadTile::pitch + c * 16,
                              from + moved * row_elements + c * 8, valid);
        }
      }
    }
  }
};

}  // namespace kvring
