// AttentionBlock: what one block of threads does in the tensor-core kernels, from packed query rows
// to their softmax sums. Prefill and decode differ in who gets which tiles and in what happens to
// the sums, not in here.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/attention_copies.cuh"
#include "kvring/kernels/attention_layout.cuh"
#include "kvring/kernels/attention_products.cuh"
#include "kvring/kernels/attention_scores.cuh"
#include "kvring/kernels/softmax_cuda.cuh"
#include "kvring/kernels/tile_walk.cuh"
#include "kvring/kernels/tiles.hpp"

namespace kvring {

/// Flash attention (Dao, 2023) on mma.sync, a tile of keys at a time. K and V have one buffer each,
/// which is filled as soon as it is free: K(j + 1) is on its way while P V(j) is computed, V(j)
/// while Q K(j)^T is. Other blocks of the SM work while this one waits.
///
/// The arithmetic of a row is fixed by the absolute tiles of keys that it sees and by its own
/// numbers: a tile in which it sees nothing leaves every bit of its sums alone.
template <class View, LayerPolicy Policy, MmaShape shape>
class AttentionBlock {
 public:
  using Layout = AttentionLayout<View, shape>;
  using T = typename Layout::T;
  using HeadTile = typename Layout::HeadTile;
  using SharedStorage = typename Layout::SharedStorage;
  static constexpr Heads heads = Layout::heads;
  static constexpr int group = Layout::group;
  static constexpr int head_dim = Layout::head_dim;
  static constexpr int threads = Layout::threads;
  static constexpr int rows = Layout::rows;
  static constexpr int keys = Layout::keys;

  __device__ AttentionBlock(SharedStorage& shared, Scores score)
      : shared_(shared), score_(score), place_(Place::of_this_thread()) {}

  /// Attends over the tiles whose index is `part` modulo `parts`. `parts` > 1 splits the keys of a
  /// row into sums that a caller combines. `segment`: the number of the rows' segment.
  __device__ void attend(const View& cache, std::int64_t segment, const PackedRows& packed,
                         const T* q, int part, int parts) {
    if (threadIdx.x == 0) shared_.packed = packed;
    begin_softmax(packed, part);
    const Position first = packed.start + packed.begin / group;
    const Position last = packed.start + (packed.end - 1) / group;
    const std::int64_t first_tile = visible_tiles<Policy, keys>(first, last).begin.value / keys;
    const int skipped = (part - static_cast<int>(first_tile % parts) + parts) % parts;
    const Position origin{(first_tile + skipped) * keys};
    // From here on positions count from the first tile: 32 bits hold them. Nothing that a row sees
    // in these tiles lies before it, so the policy says the same of them.
    at_.remainder = packed.begin % group;
    at_.first = static_cast<int>(first - origin);
    at_.last = static_cast<int>(last - origin);
    at_.begin = static_cast<int>(larger(0, Policy::first_visible(first) - origin));
    if (at_.last < 0) return;

    tiles_.begin(cache.template of_segment<keys>(segment), packed.sequence, packed.kv_head, origin);
    const int stride = parts * keys;
    load_tile(shared_.k, tiles_.k(), 0);
    Copies::queries(shared_, packed, q);
    arch::commit_copies();
    load_tile(shared_.v, tiles_.v(), 0);
    arch::commit_copies();
    arch::wait_for_copies<1>();
    __syncthreads();  // K and Q are here
    for (int tile = 0;;) {
      float scores[m_tiles][key_tiles][4];
      Products::scores(shared_, place_, scores);
      Masked::cap(score_, scores);
      Masked::mask(place_, at_, tile, scores);
      std::uint32_t p[m_tiles][warp_keys / 16][4];
      update_softmax(scores, p);
      arch::wait_for_copies<0>();
      __syncthreads();  // V is here, P is shared, and nobody reads K any more
      tile += stride;
      const bool more = tile <= at_.last;
      if (more) {
        tiles_.advance(stride);
        load_tile(shared_.k, tiles_.k(), tile);
        arch::commit_copies();
      }
      Products::sums(shared_, place_, p, out_);
      if (!more) break;
      arch::wait_for_copies<0>();
      __syncthreads();  // K is here, and nobody reads V or P any more
      load_tile(shared_.v, tiles_.v(), tile);
      arch::commit_copies();
    }
  }

  /// Sums the denominators over lanes and warps; every thread must call it.
  __device__ void finish_denominators() {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float& sum = denominator_[m][half];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
      }
    }
    if constexpr (column_warps > 1) {
      __syncthreads();  // the last maxima have been read
      share_by_warp(denominator_);
      __syncthreads();
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float sum = 0;
#pragma unroll
          for (int w = 0; w < column_warps; ++w) sum += shared_.by_warp[w][place_.row(m, half)];
          denominator_[m][half] = sum;
        }
      }
    }
  }

  /// Writes the rows, divided by their denominators, to out [rows, q_heads, head_dim] of the
  /// launch, by way of the queries' shared memory.
  __device__ void store(T* out) {
    const std::uint32_t q = arch::shared_address(shared_.q);
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float scale = 1 / denominator_[m][half];
        const int row = place_.row(m, half);
#pragma unroll
        for (int n = 0; n < column_tiles; ++n) {
          const int column = place_.column_warp * warp_columns + 8 * n;
          // + 0: whether a masked tile added 0 to a -0 must not show.
          const std::uint32_t pair = arch::pack<T>(out_[m][n][2 * half] * scale + 0.0f,
                                                   out_[m][n][2 * half + 1] * scale + 0.0f);
          arch::store_shared(q + HeadTile::offset(row, column / 8) + place_.lane % 4 * 4, pair);
        }
      }
    }
    __syncthreads();
    const PackedRows packed = shared_.packed;
    constexpr int chunks = head_dim / 8;
    for (int i = static_cast<int>(threadIdx.x); i < rows * chunks; i += threads) {
      const int row = i / chunks, chunk = i % chunks;
      if (packed.begin + row >= packed.end) break;
      *reinterpret_cast<uint4*>(out + packed.template query_offset<heads>(row) + chunk * 8) =
          *reinterpret_cast<const uint4*>(shared_.q + HeadTile::offset(row, chunk));
    }
  }

  /// f(row, column, value0, value1) for each pair of neighbouring sums that this thread holds, of
  /// the rows that exist.
  template <class F>
  __device__ void each_sum(F f) const {
    const int count = valid_rows();
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = place_.row(m, half);
        if (row >= count) continue;
#pragma unroll
        for (int n = 0; n < column_tiles; ++n) {
          const int column = place_.column_warp * warp_columns + 8 * n + place_.lane % 4 * 2;
          if (column < head_dim) f(row, column, out_[m][n][2 * half], out_[m][n][2 * half + 1]);
        }
      }
    }
  }
  /// f(row, maximum, denominator), once for each row that exists, after finish_denominators.
  /// Weights are 2^(softmax_exponent * (score - maximum)).
  template <class F>
  __device__ void each_softmax(F f) const {
    if (place_.column_warp != 0 || place_.lane % 4 != 0) return;
    const int count = valid_rows();
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = place_.row(m, half);
        if (row < count) f(row, maximum_[m][half], denominator_[m][half]);
      }
    }
  }

  /// Rows that exist, and elements before one of them in q and out; after attend().
  __device__ int valid_rows() const { return shared_.packed.end - shared_.packed.begin; }
  __device__ std::int64_t query_offset(int row) const {
    return shared_.packed.template query_offset<heads>(row);
  }

 private:
  using Place = typename Layout::Place;
  using ProbabilityTile = typename Layout::ProbabilityTile;
  using Copies = AttentionCopies<Layout>;
  using Products = AttentionProducts<Layout>;
  using Masked = AttentionScores<Layout, Policy>;
  static constexpr int column_warps = Layout::column_warps;
  static constexpr int warp_keys = Layout::warp_keys;
  static constexpr int warp_columns = Layout::warp_columns;
  static constexpr int m_tiles = Layout::m_tiles;
  static constexpr int key_tiles = Layout::key_tiles;
  static constexpr int column_tiles = Layout::column_tiles;

  /// The sink is one part's: a score without a value, counted before the first key.
  __device__ void begin_softmax(const PackedRows& packed, int part) {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        maximum_[m][half] = -INFINITY;
        denominator_[m][half] = 0;
        if (score_.sinks != nullptr && part == 0) {
          const int x = packed.begin + place_.row(m, half);
          maximum_[m][half] = sink_score(score_, packed.kv_head * group + x % group);
          denominator_[m][half] =
              place_.column_warp == 0 && place_.lane % 4 == 0;  // one lane of the row's
        }
      }
#pragma unroll
      for (int n = 0; n < column_tiles; ++n) {
        for (float& value : out_[m][n]) value = 0;
      }
    }
  }

  /// Brings the rows of a tile that some query of the block sees; what lies outside is zeroed, so
  /// that neither a stale row nor NaN of an empty slot takes part: P is 0 there, and 0 * NaN is
  /// NaN.
  __device__ void load_tile(unsigned char* tile, const T* rows_of_head, int at) const {
    const T* from = rows_of_head + std::int64_t{tiles_.slot()} * heads.kv_dim();
    const int begin = at_.begin - at, end = at_.last + 1 - at;
    if (begin <= 0 && end >= keys) {
      Copies::template rows_of_tile<true>(tile, from, 0, keys);
    } else {
      Copies::template rows_of_tile<false>(tile, from, begin, end);
    }
  }
  /// Takes the scores of a tile into the running softmax, and to probabilities: as operands of the
  /// next product if the warp holds all columns, else in shared memory.
  __device__ void update_softmax(float (&scores)[m_tiles][key_tiles][4],
                                 std::uint32_t (&p)[m_tiles][warp_keys / 16][4]) {
    float highest[m_tiles][2];
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float most = maximum_[m][half];
#pragma unroll
        for (int n = 0; n < key_tiles; ++n) {
          most = fmaxf(most, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
        }
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        highest[m][half] = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      }
    }
    if constexpr (column_warps > 1) {
      share_by_warp(highest);
      arch::named_barrier(1 + place_.band, 32 * column_warps);
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int w = 0; w < column_warps; ++w) {
            highest[m][half] = fmaxf(highest[m][half], shared_.by_warp[w][place_.row(m, half)]);
          }
        }
      }
    }

    const float to_power = softmax_exponent(score_);
    bool moved = false;
    float correction[m_tiles][2];
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float before = maximum_[m][half], now = highest[m][half];
        // A row that has seen nothing yet has no maximum to subtract: -inf - -inf is NaN.
        const float subtracted = now == -INFINITY ? 0 : __fmul_rn(now, to_power);
        const bool changed = before != now;
        correction[m][half] =
            changed ? arch::exp2_fast(__fmul_rn(before, to_power) - subtracted) : 1;
        moved |= changed;
        maximum_[m][half] = now;
        float sum = denominator_[m][half] * correction[m][half];
#pragma unroll
        for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& value = scores[m][n][2 * half + e];
            value = arch::exp2_fast(__fmaf_rn(value, to_power, -subtracted));
            sum += value;
          }
        }
        denominator_[m][half] = sum;
      }
    }
    if (__any_sync(~0u, moved)) {  // by 1 it would change nothing
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
        for (int n = 0; n < column_tiles; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) out_[m][n][e] *= correction[m][e / 2];
        }
      }
    }

    const std::uint32_t to =
        arch::shared_address(shared_.p) + place_.lane % 4 * 4 +
        ProbabilityTile::offset(place_.row(0, 0), place_.column_warp * key_tiles);
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < key_tiles; ++n) {
          const std::uint32_t pair =
              arch::pack<T>(scores[m][n][2 * half], scores[m][n][2 * half + 1]);
          if constexpr (column_warps > 1) {
            static_assert(ProbabilityTile::steps_within(key_tiles));
            const int below = (m * 16 + half * 8) * ProbabilityTile::pitch;
            arch::store_shared(ProbabilityTile::step(to, n) + below, pair);
          } else {
            p[m][n / 2][n % 2 * 2 + half] = pair;
          }
        }
      }
    }
  }

  __device__ void share_by_warp(const float (&values)[m_tiles][2]) {
    if (place_.lane % 4 != 0) return;
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        shared_.by_warp[place_.column_warp][place_.row(m, half)] = values[m][half];
      }
    }
  }

  SharedStorage& shared_;
  Scores score_;
  Place place_;
  using SegmentView =
      std::remove_cvref_t<decltype(std::declval<View>().template of_segment<keys>(0))>;
  TileWalk<SegmentView, int> tiles_;
  BlockPositions at_;

  float out_[m_tiles][column_tiles][4];
  float maximum_[m_tiles][2], denominator_[m_tiles][2];
};

}  // namespace kvring
