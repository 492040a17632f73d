// SimtTile: what 256 threads compute together of a tile of queries and a tile of keys, both in
// shared memory, in f32.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/math.hpp"
#include "kvring/kernels/simt_shape.hpp"
#include "kvring/kernels/tiles.hpp"
#include "kvring/kernels/vectors.cuh"

namespace kvring {

template <class View, SimtShape Shape>
struct SimtTile {
  static constexpr Heads heads = View::heads;
  static constexpr int dim = static_cast<int>(heads.dim);
  static constexpr SimtShape shape = Shape;
  static constexpr int keys = shape.keys;

  // Threads form a square. One at (y, x) has the scores of rows y, y + 16 ... with keys x, x + 16
  // ..., and of the sums of those rows columns 4x ... 4x + 3 of every 64.
  static constexpr int side = 16, threads = side * side;
  static constexpr int all_rows = shape.rows / side, key_steps = keys / side;
  static constexpr int column_steps = (dim + 4 * side - 1) / (4 * side);

  // Of K a quarter of a warp reads 8 rows at once: an odd pitch, in units of 16 bytes, lets them
  // lie in different banks. Of Q a warp reads two neighbours: chunks 2i and 2i + 1 of odd rows are
  // swapped.
  static constexpr int chunks = dim / 4;  // of 16 bytes
  static constexpr int key_pitch = chunks % 2 == 0 ? dim + 4 : dim;
  static constexpr int weight_pitch = keys + 4;
  static constexpr bool swaps = chunks % 2 == 0;

  struct SharedStorage {
    alignas(16) float q[shape.rows * dim];
    alignas(16) float k[keys * key_pitch];
    alignas(16) float v[keys * dim];
    alignas(16) float weights[shape.rows * weight_pitch];
  };
  static_assert(dim % 4 == 0);
  static_assert(sizeof(SharedStorage) <= shared_bytes_per_block(compiled_arch()));

  /// A tile of K or V, of which the rows that no query sees become 0 unread: they may be anything,
  /// and 0 * NaN is NaN.
  template <int Pitch>
  __device__ static void copy_keys(float* to, const float* from, std::int64_t slot,
                                   std::int64_t slots, TileRange seen) {
    constexpr int pieces = keys * chunks, kv_dim = static_cast<int>(heads.kv_dim());
    const std::uint32_t begin = arch::shared_address(to);
    const int thread = static_cast<int>(threadIdx.x);
    if (pieces % threads == 0 && seen.begin == 0 && seen.end == keys && slot + keys <= slots) {
      const float* tile = from + slot * kv_dim;
#pragma unroll
      for (int n = 0; n < pieces; n += threads) {
        const int row = (n + thread) / chunks, chunk = (n + thread) % chunks;
        arch::copy_async_16(begin + 4 * (row * Pitch + chunk * 4), tile + row * kv_dim + chunk * 4,
                            true);
      }
      return;
    }
    // At the ends of what is seen; and round the wrap, which only rings that are not whole tiles
    // have within one.
#pragma unroll 1
    for (int n = thread; n < pieces; n += threads) {
      const int row = n / chunks, chunk = n % chunks;
      const bool visible = row >= seen.begin && row < seen.end;
      const std::int64_t at = visible ? (slot + row) % slots * kv_dim + chunk * 4 : 0;
      arch::copy_async_16(begin + 4 * (row * Pitch + chunk * 4), from + at, visible);
    }
  }

  /// scores = q k^T, each a chain of fused steps over the head's columns.
  template <int Rows>
  __device__ static void multiply_keys(float (&scores)[Rows][key_steps],
                                       const SharedStorage& shared, int x, int y) {
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
#pragma unroll
      for (int c = 0; c < key_steps; ++c) scores[i][c] = 0;
    }
    const int swap = swaps ? y % 2 : 0;
    const float* q = shared.q + y * dim;
    const float* q_of[2] = {q + 4 * swap, q + 4 * (1 - swap)};
    const float* k = shared.k + x * key_pitch;
#pragma unroll 4
    for (int chunk = 0; chunk < chunks; ++chunk) {
      float a[Rows][4], b[key_steps][4];
#pragma unroll
      for (int i = 0; i < Rows; ++i) {
        detail::load(a[i], q_of[chunk % 2] + i * side * dim + chunk / 2 * 8);
      }
#pragma unroll
      for (int c = 0; c < key_steps; ++c) detail::load(b[c], k + c * side * key_pitch + chunk * 4);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int i = 0; i < Rows; ++i) {
#pragma unroll
          for (int c = 0; c < key_steps; ++c) {
            scores[i][c] = mul_add(a[i][j], b[c][j], scores[i][c]);
          }
        }
      }
    }
  }

  /// sums += weights v, in the order of the keys.
  template <int Rows>
  __device__ static void multiply_values(float (&sums)[Rows][column_steps][4],
                                         const SharedStorage& shared, int x, int y) {
    const float* weights = shared.weights + y * weight_pitch;
    int columns[column_steps];
#pragma unroll
    for (int c = 0; c < column_steps; ++c) {
      const int column = 4 * x + c * 4 * side;
      columns[c] = column < dim ? column : 0;
    }
#pragma unroll 2
    for (int key = 0; key < keys; key += 4) {
      float a[Rows][4];
#pragma unroll
      for (int i = 0; i < Rows; ++i) detail::load(a[i], weights + i * side * weight_pitch + key);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int c = 0; c < column_steps; ++c) {
          float b[4];
          detail::load(b, shared.v + (key + n) * dim + columns[c]);
#pragma unroll
          for (int i = 0; i < Rows; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) sums[i][c][j] = mul_add(a[i][n], b[j], sums[i][c][j]);
          }
        }
      }
    }
  }

  /// Dot products to scores.
  template <int Rows>
  __device__ static void score(float (&scores)[Rows][key_steps], const Scores& score) {
    if (score.softcap == 0) {
#pragma unroll
      for (int i = 0; i < Rows; ++i) {
#pragma unroll
        for (int c = 0; c < key_steps; ++c) scores[i][c] *= score.scale;
      }
    } else {
#pragma unroll
      for (int i = 0; i < Rows; ++i) {
#pragma unroll
        for (int c = 0; c < key_steps; ++c) scores[i][c] = score(scores[i][c]);
      }
    }
  }

  /// A step of the online softmax: scores to weights against the new maximum, into `weights`; what
  /// was accumulated before is corrected.
  template <int Rows>
  __device__ static void weigh(float (&scores)[Rows][key_steps], float (&m)[Rows], float (&l)[Rows],
                               float (&sums)[Rows][column_steps][4], float* weights) {
    float highest[Rows];
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      highest[i] = m[i];
#pragma unroll
      for (int c = 0; c < key_steps; ++c) highest[i] = fmaxf(highest[i], scores[i][c]);
    }
#pragma unroll
    for (int width = side / 2; width > 0; width /= 2) {
#pragma unroll
      for (int i = 0; i < Rows; ++i) {
        highest[i] = fmaxf(highest[i], __shfl_xor_sync(~0u, highest[i], width));
      }
    }
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      // A row that has seen no key yet: all its weights are 0, and nothing is infinite.
      const float base = highest[i] == -INFINITY ? 0 : highest[i];
      const float correction = exponential(m[i] - base);  // 1 if the maximum stays
      m[i] = highest[i];
      l[i] *= correction;
#pragma unroll
      for (int c = 0; c < key_steps; ++c) {
        const float weight = exponential(scores[i][c] - base);
        l[i] = __fadd_rn(l[i], weight);
        weights[i * side * weight_pitch + c * side] = weight;
      }
#pragma unroll
      for (int c = 0; c < column_steps; ++c) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][c][j] *= correction;
      }
    }
  }

 private:
  __device__ static float exponential(float x) {
    constexpr float log2_e = 1.44269504f;
    return arch::exp2_fast(x * log2_e);
  }
};

}  // namespace kvring
