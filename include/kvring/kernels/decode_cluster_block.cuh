// ClusterBlock: what a block of AttendInCluster does with its own tiles of keys.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/kernels/attention_copies.cuh"
#include "kvring/kernels/attention_layout.cuh"
#include "kvring/kernels/attention_scores.cuh"
#include "kvring/kernels/decode_cluster_layout.cuh"
#include "kvring/kernels/softmax_cuda.cuh"
#include "kvring/kernels/tile_walk.cuh"
#include "kvring/kernels/tiles.hpp"

namespace kvring {

/// Attends with 16 packed rows, of which the first `most_valid` may exist, over the tiles whose
/// index is `part` modulo `parts`. As in AttentionBlock, a row's arithmetic is fixed by the
/// absolute tiles that it sees: one in which it sees nothing leaves every bit of its sums alone.
template <class View, LayerPolicy Policy, int keys, int most_valid, int parts>
class ClusterBlock {
 public:
  using Layout = ClusterLayout<View, keys>;
  using T = typename Layout::T;
  using SharedStorage = typename Layout::SharedStorage;
  static constexpr Heads heads = Layout::heads;
  static constexpr int group = Layout::group, head_dim = Layout::head_dim;

  __device__ ClusterBlock(SharedStorage& shared, const Scores& score, const PackedRows& packed,
                          int part)
      : shared_(shared), score_(score), packed_(packed), part_(part) {}

  /// `segment`: the number of the rows' segment.
  __device__ void attend(const View& cache, std::int64_t segment, const T* q) {
    begin_softmax();
    const Position first = packed_.start + packed_.begin / group;
    const Position last = packed_.start + (packed_.end - 1) / group;
    const std::int64_t first_tile = visible_tiles<Policy, keys>(first, last).begin.value / keys;
    const int skipped = (part_ - static_cast<int>(first_tile % parts) + parts) % parts;
    const Position origin{(first_tile + skipped) * keys};
    at_.remainder = packed_.begin % group;
    at_.first = static_cast<int>(first - origin);
    at_.last = static_cast<int>(last - origin);
    at_.begin = static_cast<int>(larger(0, Policy::first_visible(first) - origin));
    if (at_.last < 0) return;

    constexpr int stride = parts * keys;
    Tiles tiles;
    tiles.begin(cache.template of_segment<keys>(segment), packed_.sequence, packed_.kv_head,
                origin);
    // All that the buffers hold is asked for at once: of a window, a part has two tiles at most.
#pragma unroll
    for (int i = 0; i < stages; ++i) load(tiles, q, i, i * stride);
    for (int i = 0, tile = 0;; i = (i + 1) % stages, tile += stride) {
      arch::wait_for_copies<2 * stages - 1>();
      __syncthreads();  // K and Q are here
      scores(shared_.tiles[i].k);
      __syncthreads();
      softmax(tile);
      arch::wait_for_copies<2 * stages - 2>();
      __syncthreads();  // V and P are here
      add_values(shared_.tiles[i].v);
      if (tile + stride > at_.last) break;
      __syncthreads();  // nobody reads the tile any more
      load(tiles, q, i, tile + stages * stride);
    }
  }

  /// f(row, column, value0, value1) for each pair of neighbouring sums that this thread holds, of
  /// the rows that exist.
  template <class F>
  __device__ void each_sum(F f) const {
#pragma unroll
    for (int i = 0; i < Layout::warp_pairs; ++i) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const int column = (warp_ + i * Layout::warps) * 16 + n * 8 + lane_ % 4 * 2;
#pragma unroll
        for (int half = 0; half < halves; ++half) {
          const int row = half * 8 + lane_ / 4;
          if (row < valid_rows() && column < head_dim) {
            f(row, column, out_[i][n][2 * half], out_[i][n][2 * half + 1]);
          }
        }
      }
    }
  }
  /// f(row, maximum, denominator) for each row that exists, by all lanes of one warp.
  template <class F>
  __device__ void each_softmax(F f) const {
#pragma unroll
    for (int i = 0; i < warp_rows; ++i) {
      const int row = warp_ + i * Layout::warps;
      if (row < valid_rows()) f(row, maximum_[i], denominator_[i]);
    }
  }

  __device__ int valid_rows() const { return packed_.end - packed_.begin; }
  __device__ std::int64_t query_offset(int row) const {
    return packed_.template query_offset<heads>(row);
  }

 private:
  using HeadTile = typename Layout::HeadTile;
  using ProbabilityTile = typename Layout::ProbabilityTile;
  using Copies = AttentionCopies<Layout>;
  using Tiles =
      TileWalk<std::remove_cvref_t<decltype(std::declval<View>().template of_segment<keys>(0))>,
               int>;

  /// The sink is one part's: a score without a value, counted before the first key.
  __device__ void begin_softmax() {
#pragma unroll
    for (int i = 0; i < warp_rows; ++i) {
      maximum_[i] = -INFINITY;
      denominator_[i] = 0;
      if (score_.sinks != nullptr && part_ == 0) {
        const int x = packed_.begin + warp_ + i * Layout::warps;
        maximum_[i] = sink_score(score_, packed_.kv_head * group + x % group);
        denominator_[i] = 1;
      }
    }
  }

  /// Asks for a tile in two groups of copies, K (at first with the queries) and V; past the last
  /// tile both are empty. What no query of the block sees is zeroed: see
  /// AttentionBlock::load_tile.
  __device__ void load(Tiles& tiles, const T* q, int buffer, int tile) {
    auto& to = shared_.tiles[buffer];
    const bool exists = tile <= at_.last;
    const int begin = at_.begin - tile, end = at_.last + 1 - tile;
    if (exists) load_rows(to.k, tiles.k(), tiles.slot(), begin, end);
    if (tile == 0) Copies::queries(shared_, packed_, q);
    arch::commit_copies();
    if (exists) load_rows(to.v, tiles.v(), tiles.slot(), begin, end);
    arch::commit_copies();
    tiles.advance(parts * keys);
  }
  __device__ static void load_rows(unsigned char* to, const T* rows_of_head, int slot, int begin,
                                   int end) {
    const T* from = rows_of_head + std::int64_t{slot} * heads.kv_dim();
    if (begin <= 0 && end >= keys) {
      Copies::template rows_of_tile<true>(to, from, 0, keys);
    } else {
      Copies::template rows_of_tile<false>(to, from, begin, end);
    }
  }

  /// Q K^T of 16 keys, over this warp's dims.
  __device__ void scores(const unsigned char* k) {
    const int key_group = warp_ % Layout::key_groups, dims = warp_ / Layout::key_groups;
    const std::uint32_t q = arch::shared_address(shared_.q);
    const std::uint32_t k_tile = arch::shared_address(k);
    float sums[2][4] = {};
#pragma unroll
    for (int i = 0; i < Layout::warp_dim_steps; ++i) {
      const int step = dims * Layout::warp_dim_steps + i;
      if (step >= Layout::steps) break;
      std::uint32_t a[4], b[4];
      arch::load_matrices(a, q + HeadTile::offset(lane_ % 16, 2 * step + lane_ / 16));
      arch::load_matrices(b, k_tile + HeadTile::offset(key_group * 16 + lane_ % 8 + lane_ / 16 * 8,
                                                       2 * step + lane_ / 8 % 2));
      arch::mma<T>(sums[0], a, b[0], b[1]);
      arch::mma<T>(sums[1], a, b[2], b[3]);
    }
#pragma unroll
    for (int half = 0; half < halves; ++half) {
      float* to = &shared_.scores[dims][half * 8 + lane_ / 4][key_group * 16 + lane_ % 4 * 2];
      *reinterpret_cast<float2*>(to) = {sums[0][2 * half], sums[0][2 * half + 1]};
      *reinterpret_cast<float2*>(to + 8) = {sums[1][2 * half], sums[1][2 * half + 1]};
    }
  }

  /// One row a warp, one key a lane: scores become probabilities.
  __device__ void softmax(int tile) {
    const float to_power = softmax_exponent(score_);
#pragma unroll
    for (int i = 0; i < warp_rows; ++i) {
      const int row = warp_ + i * Layout::warps;
      if (row >= valid_rows()) break;
      const KeyRange seen =
          visible_keys<Policy>(Position{at_.first + (at_.remainder + row) / group});
      const int from = static_cast<int>(seen.begin.value) - tile;
      const int to = static_cast<int>(seen.end.value) - tile;
      float score[keys / 32];
      float highest = maximum_[i];
#pragma unroll
      for (int e = 0; e < keys / 32; ++e) {
        const int key = e * 32 + lane_;
        float dot = shared_.scores[0][row][key];
#pragma unroll
        for (int d = 1; d < Layout::dim_groups; ++d) dot += shared_.scores[d][row][key];
        if (score_.softcap != 0) dot = softcapped(dot, score_);
        score[e] = key >= from && key < to ? dot : -INFINITY;
        highest = fmaxf(highest, score[e]);
      }
      highest = of_warp(highest, [](float a, float b) { return fmaxf(a, b); });
      // A row that has seen nothing yet has no maximum to subtract: -inf - -inf is NaN.
      const float subtracted = highest == -INFINITY ? 0 : __fmul_rn(highest, to_power);
      const float before = maximum_[i];
      const float correction =
          before != highest ? arch::exp2_fast(__fmaf_rn(before, to_power, -subtracted)) : 1;
      maximum_[i] = highest;
      float sum = 0;
#pragma unroll
      for (int e = 0; e < keys / 32; ++e) {
        const int key = e * 32 + lane_;
        const float p = arch::exp2_fast(__fmaf_rn(score[e], to_power, -subtracted));
        sum += p;
        *reinterpret_cast<T*>(shared_.p + ProbabilityTile::offset(row, key / 8) +
                              key % 8 * sizeof(T)) = from_f32<T>(p);
      }
      if (lane_ == 0) shared_.correction[row] = correction;
      sum = of_warp(sum, [](float a, float b) { return a + b; });
      denominator_[i] = __fmaf_rn(denominator_[i], correction, sum);
    }
  }

  /// out = out * correction + P V, of this warp's columns. Rows of P that don't exist hold
  /// anything: they end in sums that nobody reads.
  __device__ void add_values(const unsigned char* v) {
    const std::uint32_t v_tile = arch::shared_address(v);
    const std::uint32_t p_tile = arch::shared_address(shared_.p);
    float correction[2] = {1, 1};
#pragma unroll
    for (int half = 0; half < halves; ++half) {
      correction[half] = shared_.correction[half * 8 + lane_ / 4];
    }
    std::uint32_t p[keys / 16][4];
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
      arch::load_matrices(p[j], p_tile + ProbabilityTile::offset(lane_ % 16, 2 * j + lane_ / 16));
    }
#pragma unroll
    for (int i = 0; i < Layout::warp_pairs; ++i) {
      const int pair = warp_ + i * Layout::warps;
      if (pair >= Layout::steps) break;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) out_[i][n][e] *= correction[e / 2];
      }
#pragma unroll
      for (int j = 0; j < keys / 16; ++j) {
        std::uint32_t b[4];
        arch::load_matrices_transposed(
            b, v_tile + HeadTile::offset(j * 16 + lane_ % 16, 2 * pair + lane_ / 16));
        arch::mma<T>(out_[i][0], p[j], b[0], b[1]);
        arch::mma<T>(out_[i][1], p[j], b[2], b[3]);
      }
    }
  }

  template <class Op>
  __device__ static float of_warp(float value, Op op) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      value = op(value, __shfl_xor_sync(~0u, value, lanes));
    }
    return value;
  }

  static constexpr int stages = Layout::stages;
  static constexpr int warp_rows = static_cast<int>(ceil_div(most_valid, Layout::warps));
  static constexpr int halves = most_valid > 8 ? 2 : 1;  // of 16 rows that may exist

  SharedStorage& shared_;
  const Scores& score_;
  PackedRows packed_;
  int part_;
  int warp_ = static_cast<int>(threadIdx.x) / 32, lane_ = static_cast<int>(threadIdx.x) % 32;
  float out_[Layout::warp_pairs][2][4] = {};                     // sums of columns
  float maximum_[warp_rows] = {}, denominator_[warp_rows] = {};  // of rows warp, warp + 8
  BlockPositions at_{};  // from the first tile on: 32 bits hold them
};

}  // namespace kvring
