// Attention on the host, blocked: a tile of keys is staged once and serves a block of query rows,
// and every inner loop runs along vector lanes. The same bits as AttendScalar: each sum adds the
// same terms in the same order.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kvring/kernels/attend_scalar.hpp"

namespace kvring {

namespace detail {

/// A vector register of floats, and how many of them make the strip that a loop keeps in registers
/// for each of four rows.
#if defined(__AVX512F__)
inline constexpr int vector_floats = 16, strip_vectors = 4;
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr int vector_floats = 8, strip_vectors = 2;
#else
inline constexpr int vector_floats = 4, strip_vectors = 2;
#endif
using Vector = float __attribute__((vector_size(vector_floats * sizeof(float))));

/// mul_add in every lane. By intrinsics where they exist: no compiler finds them in a loop
/// reliably.
inline Vector mul_add_lanes(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  for (int lane = 0; lane < vector_floats; ++lane) {
    c[lane] = mul_add(a[lane], b[lane], c[lane]);
  }
  return c;
#endif
}

/// Vector number n after a pointer that need not be aligned.
inline Vector load(const float* from, int n) {
  Vector vector;
  std::memcpy(&vector, from + n * vector_floats, sizeof vector);
  return vector;
}
inline void store(Vector vector, float* to, int n) {
  std::memcpy(to + n * vector_floats, &vector, sizeof vector);
}

/// Columns that multiply_tile computes.
inline constexpr std::int64_t tile_columns = 64;

/// c[r][0 ... 63] += sum over i < depth of a[r][i] * b[i][0 ... 63], in the order of i.
template <int Rows>
inline void multiply_tile(const float* a, std::int64_t a_stride, const float* b,
                          std::int64_t b_stride, std::int64_t depth, float* c,
                          std::int64_t c_stride) {
  for (std::int64_t column = 0; column < tile_columns; column += vector_floats * strip_vectors) {
    Vector sums[Rows][strip_vectors];
    for (int r = 0; r < Rows; ++r) {
      for (int n = 0; n < strip_vectors; ++n) sums[r][n] = load(c + r * c_stride + column, n);
    }
    for (std::int64_t i = 0; i < depth; ++i) {
      Vector row[strip_vectors];
      for (int n = 0; n < strip_vectors; ++n) row[n] = load(b + i * b_stride + column, n);
      for (int r = 0; r < Rows; ++r) {
        const Vector factor = Vector{} + a[r * a_stride + i];
        for (int n = 0; n < strip_vectors; ++n)
          sums[r][n] = mul_add_lanes(factor, row[n], sums[r][n]);
      }
    }
    for (int r = 0; r < Rows; ++r) {
      for (int n = 0; n < strip_vectors; ++n) store(sums[r][n], c + r * c_stride + column, n);
    }
  }
}

}  // namespace detail

/// One block of query rows of one kv head a call: `positions` consecutive positions of a segment,
/// with all query heads of the group. Host only.
template <LayerPolicy Policy, std::int64_t Tile, class View>
struct AttendHost {
  View cache;
  Batch batch;
  const float* q;  // [rows, q_heads, head_dim]
  float* out;      // [rows, q_heads, head_dim], must not overlap q
  Scores score;

  static constexpr Heads heads = View::heads;
  static constexpr std::int64_t positions = larger(1, 128 / heads.group());
  static constexpr std::int64_t block_rows = positions * heads.group();
  static constexpr std::int64_t columns = detail::tile_columns;
  static constexpr std::int64_t keys = round_up(Tile, columns);
  static constexpr std::int64_t dims = round_up(heads.dim, columns);

  /// Calls that cover a batch.
  static std::int64_t blocks(const Batch& batch) {
    std::int64_t count = 0;
    for (std::int64_t s = 0; s < batch.count; ++s) {
      count += ceil_div(batch.segments[s].rows, positions) * heads.kv;
    }
    return count;
  }

  void operator()(std::int64_t block) const {
    const Segment* segment = batch.segments;
    for (std::int64_t n; block >= (n = ceil_div(segment->rows, positions) * heads.kv); ++segment) {
      block -= n;
    }
    const std::int64_t skipped = block / heads.kv * positions;
    attend({.segment = *segment,
            .cache = cache.template of_segment<Tile>(batch.index_of(*segment)),
            .first_row = segment->first_row + skipped,
            .first = segment->start + skipped,
            .count = smaller(positions, segment->rows - skipped),
            .kv_head = block % heads.kv});
  }

 private:
  using SegmentView = decltype(std::declval<View>().template of_segment<Tile>(0));
  struct Block {
    const Segment& segment;
    SegmentView cache;
    std::int64_t first_row;  // in the launch
    Position first;
    std::int64_t count;  // positions
    std::int64_t kv_head;

    std::int64_t rows() const { return count * heads.group(); }
    KeyRange keys_of_row(std::int64_t row) const {
      return visible_keys<Policy>(first + row / heads.group());
    }
    /// Values before the head of a row in q and out.
    std::int64_t offset(std::int64_t row) const {
      return ((first_row + row / heads.group()) * heads.q + kv_head * heads.group() +
              row % heads.group()) *
             heads.dim;
    }
  };

  /// What a block works on; a row is one query head of one position.
  struct Scratch {
    alignas(64) float q[block_rows][heads.dim];
    alignas(64) float k[heads.dim][keys];  // transposed: keys along the lanes
    alignas(64) float v[Tile][dims];
    alignas(64) float out[block_rows][dims];
    SoftmaxState softmax[block_rows];
  };

  void attend(const Block& block) const {
    Scratch scratch;
    for (std::int64_t row = 0; row < block.rows(); ++row) {
      std::memcpy(scratch.q[row], q + block.offset(row), sizeof scratch.q[row]);
      std::memset(scratch.out[row], 0, sizeof scratch.out[row]);
      scratch.softmax[row] = score.start(block.kv_head * heads.group() + row % heads.group());
    }
    const Position last = block.first + (block.count - 1);
    const KeyRange tiles = visible_tiles<Policy, Tile>(block.first, last);
    for (Position tile = tiles.begin; tile < tiles.end; tile = tile + Tile) {
      stage(block, tile, within_tile({Policy::first_visible(block.first), last + 1}, tile, Tile),
            scratch);
      for (std::int64_t row = 0; row < block.rows();) {
        const TileRange range = within_tile(block.keys_of_row(row), tile, Tile);
        const bool four_alike = row + 4 <= block.rows() &&
                                within_tile(block.keys_of_row(row + 1), tile, Tile) == range &&
                                within_tile(block.keys_of_row(row + 2), tile, Tile) == range &&
                                within_tile(block.keys_of_row(row + 3), tile, Tile) == range;
        const int rows = four_alike ? 4 : 1;
        if (!range.empty()) {
          four_alike ? attend_rows<4>(row, range, scratch) : attend_rows<1>(row, range, scratch);
        }
        row += rows;
      }
    }
    for (std::int64_t row = 0; row < block.rows(); ++row) {
      float* result = out + block.offset(row);
      for (std::int64_t d = 0; d < heads.dim; ++d) {
        result[d] = scratch.out[row][d] / scratch.softmax[row].denominator;
      }
    }
  }

  /// Brings the keys of a tile that some row of the block sees, as f32. Nothing else is read: a
  /// slot out of sight may hold anything.
  void stage(const Block& block, Position tile, TileRange range, Scratch& scratch) const {
    const auto rows = block.cache.rows(block.segment.sequence, tile);  // one modulo a tile
    const auto* k = rows.k + block.kv_head * heads.dim;
    const auto* v = rows.v + block.kv_head * heads.dim;
    constexpr std::int64_t strip = 16;  // dims at a time: what is written stays in the L1 cache
    for (std::int64_t begin = 0; begin < heads.dim; begin += strip) {
      const std::int64_t end = smaller(heads.dim, begin + strip);
      for (std::int64_t j = range.begin; j < range.end; ++j) {
        for (std::int64_t d = begin; d < end; ++d) {
          scratch.k[d][j] = to_f32(k[j * heads.kv_dim() + d]);
        }
      }
    }
    for (std::int64_t j = range.begin; j < range.end; ++j) {
      for (std::int64_t d = 0; d < heads.dim; ++d) {
        scratch.v[j][d] = to_f32(v[j * heads.kv_dim() + d]);
      }
    }
  }

  /// `Rows` rows from `first`, which all see `range` of the staged tile.
  template <int Rows>
  void attend_rows(std::int64_t first, TileRange range, Scratch& scratch) const {
    alignas(64) float scores[Rows][keys] = {};
    for (std::int64_t column = 0; column < keys; column += columns) {
      detail::multiply_tile<Rows>(scratch.q[first], heads.dim, &scratch.k[0][column], keys,
                                  heads.dim, &scores[0][column], keys);
    }
    for (int r = 0; r < Rows; ++r) {
      for (std::int64_t j = 0; j < Tile; ++j) scores[r][j] = score(scores[r][j]);
      const float correction = scratch.softmax[first + r].template update<Tile>(scores[r], range);
      for (std::int64_t d = 0; d < dims; ++d) scratch.out[first + r][d] *= correction;
    }
    for (std::int64_t column = 0; column < heads.dim; column += columns) {
      detail::multiply_tile<Rows>(&scores[0][range.begin], keys, &scratch.v[range.begin][column],
                                  dims, range.end - range.begin, &scratch.out[first][column], dims);
    }
  }
};

}  // namespace kvring
