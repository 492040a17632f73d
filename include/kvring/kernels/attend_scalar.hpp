// Attention, stated plainly: one query head of one row a call, on host or device, for any shape and
// element type. The faster kernels must agree with it; AttendHost does to the bit.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/cache.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/math.hpp"
#include "kvring/kernels/tiles.hpp"

namespace kvring {

/// Online softmax (Milakov and Gimelshein, 2018) over tiles of Tile keys, in f32. Sums run over the
/// keys of a tile in `lanes` interleaved partial sums, so that a host compiler can vectorise them.
inline constexpr std::int64_t lanes = 16;

/// Running maximum and denominator of one row.
struct SoftmaxState {
  float maximum = -INFINITY;
  float denominator = 0;

  /// Takes a tile's scores within `range` to probabilities (0 outside of it) against the new
  /// maximum, and returns the factor that what was accumulated before must be multiplied by.
  template <std::int64_t Tile>
  KVRING_HD float update(float* scores, TileRange range) {  // scores: [round_up(Tile, lanes)]
    float highest[lanes], sums[lanes];
    for (std::int64_t i = 0; i < lanes; ++i) {
      highest[i] = maximum;
      sums[i] = 0;
    }
    for (std::int64_t block = 0; block < Tile; block += lanes) {
      for (std::int64_t i = 0; i < lanes; ++i) {
        const std::int64_t j = block + i;
        const float score = j >= range.begin && j < range.end ? scores[j] : -INFINITY;
        highest[i] = score > highest[i] ? score : highest[i];
      }
    }
    for (std::int64_t width = lanes / 2; width > 0; width /= 2) {
      for (std::int64_t i = 0; i < width; ++i) {
        highest[i] = highest[i + width] > highest[i] ? highest[i + width] : highest[i];
      }
    }
    for (std::int64_t block = 0; block < Tile; block += lanes) {
      for (std::int64_t i = 0; i < lanes; ++i) {
        const std::int64_t j = block + i;
        const float p = exp_f32(scores[j] - highest[0]);
        scores[j] = j >= range.begin && j < range.end ? p : 0.0f;
        sums[i] += scores[j];
      }
    }
    for (std::int64_t width = lanes / 2; width > 0; width /= 2) {
      for (std::int64_t i = 0; i < width; ++i) sums[i] += sums[i + width];
    }
    const float correction = exp_f32(maximum - highest[0]);  // 0 for the first tile: exp(-inf)
    denominator = mul_add(denominator, correction, sums[0]);
    maximum = highest[0];
    return correction;
  }
};

/// How scores are made of dot products, softcap * tanh(scale * q.k / softcap), or without a softcap
/// (0) scale * q.k; and what else a softmax counts.
struct Scores {
  float scale = 1;
  float softcap = 0;
  /// Attention sinks (GPT-OSS): a learned score of each query head that takes part in the softmax
  /// and brings no value. nullptr: none.
  const float* sinks = nullptr;  // [q_heads]

  KVRING_HD float operator()(float dot) const {
    const float score = dot * scale;
    return softcap == 0 ? score : softcap * tanh_f32(score / softcap);
  }
  /// The softmax of a head before its first key.
  KVRING_HD SoftmaxState start(std::int64_t head) const {
    if (sinks == nullptr) return {};
    return {.maximum = sinks[head], .denominator = 1};
  }
};

template <LayerPolicy Policy, std::int64_t Tile, class View>
struct AttendScalar {
  View cache;
  Batch batch;
  const float* q;  // [rows, q_heads, head_dim]
  float* out;      // [rows, q_heads, head_dim], must not overlap q
  Scores score;

  /// `i` = row * q_heads + head.
  KVRING_HD void operator()(std::int64_t i) const {
    constexpr Heads heads = View::heads;
    constexpr std::int64_t strip = 8;
    const std::int64_t row = i / heads.q;
    const std::int64_t kv_head = i % heads.q / heads.group();
    const Segment& segment = batch.segment_of(row);
    const auto view = cache.template of_segment<Tile>(batch.index_of(segment));
    const Position position = Batch::position(segment, row);
    const KeyRange keys = visible_keys<Policy>(position);
    const KeyRange tiles = visible_tiles<Policy, Tile>(position, position);
    const float* query = q + i * heads.dim;  // [head_dim]
    float* result = out + i * heads.dim;     // [head_dim]

    for (std::int64_t d = 0; d < heads.dim; ++d) result[d] = 0;
    SoftmaxState state = score.start(i % heads.q);
    float scores[round_up(Tile, lanes)] = {};
    std::int64_t at[Tile] = {};  // where the tile's rows of this head begin
    for (Position tile = tiles.begin; tile < tiles.end; tile = tile + Tile) {
      const TileRange range = within_tile(keys, tile, Tile);
      for (std::int64_t j = range.begin; j < range.end; ++j) {
        at[j] = view.row(segment.sequence, tile + j) + kv_head * heads.dim;
      }
      const auto [k, v] = view.base(tile);
      // A strip of sums at a time: they don't wait for each other.
      for (std::int64_t j = range.begin; j < range.end; j += strip) {
        std::int64_t rows[strip];
        float dots[strip] = {};
        for (std::int64_t n = 0; n < strip; ++n) rows[n] = at[smaller(j + n, range.end - 1)];
        for (std::int64_t d = 0; d < heads.dim; ++d) {
          for (std::int64_t n = 0; n < strip; ++n) {
            dots[n] = mul_add(query[d], to_f32(k[rows[n] + d]), dots[n]);
          }
        }
        for (std::int64_t n = 0; n < strip; ++n) {
          if (j + n < range.end) scores[j + n] = score(dots[n]);
        }
      }
      const float correction = state.template update<Tile>(scores, range);
      for (std::int64_t begin = 0; begin < heads.dim; begin += strip) {
        const auto inside = [&](std::int64_t n) {
          return heads.dim % strip == 0 || begin + n < heads.dim;
        };
        float sums[strip];
        for (std::int64_t n = 0; n < strip; ++n) {
          sums[n] = inside(n) ? result[begin + n] * correction : 0;
        }
        for (std::int64_t j = range.begin; j < range.end; ++j) {
          for (std::int64_t n = 0; n < strip; ++n) {
            if (inside(n)) {
              sums[n] = mul_add(scores[j], to_f32(v[at[j] + begin + n]), sums[n]);
            }
          }
        }
        for (std::int64_t n = 0; n < strip; ++n) {
          if (inside(n)) result[begin + n] = sums[n];
        }
      }
    }
    for (std::int64_t d = 0; d < heads.dim; ++d) result[d] /= state.denominator;
  }
};

}  // namespace kvring
