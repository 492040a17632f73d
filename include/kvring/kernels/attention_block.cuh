// AttentionBlock: what one block of threads does in the tensor-core kernels, from packed query rows
// to their softmax sums. Prefill and decode differ in who gets which tiles and in what happens to
// the sums, not in here.
#pragma once

#include <cmath>
#include <cstdint>

#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/kernels/shared_tile.cuh"
#include "kvring/kernels/softmax_cuda.cuh"
#include "kvring/kernels/tiles.hpp"

namespace kvring {

/// Packed query rows of one kv head of a segment: packed row x is query head x % group of position
/// start + x / group. A block takes rows begin ... end - 1, at most as many as its shape has.
struct PackedRows {
  std::int64_t sequence;
  Position start;  // of the segment
  int first_row;   // of the segment, in the launch
  int begin, end;
  int kv_head;
};

/// Flash attention (Dao, 2023) on mma.sync, a tile of keys at a time. K and V have one buffer each,
/// which is filled as soon as it is free: K(j + 1) is on its way while P V(j) is computed, V(j)
/// while Q K(j)^T is. Other blocks of the SM work while this one waits.
///
/// The arithmetic of a row is fixed by the absolute tiles of keys that it sees and by its own
/// numbers: a tile in which it sees nothing leaves every bit of its sums alone.
template <class View, LayerPolicy Policy, MmaShape shape>
class AttentionBlock {
 public:
  using T = typename View::Element;
  static constexpr Heads heads = View::heads;
  static constexpr int group = static_cast<int>(heads.group());
  static constexpr int head_dim = static_cast<int>(heads.dim);
  static constexpr int threads = shape.threads();
  static constexpr int rows = shape.rows, keys = shape.keys;
  static constexpr int row_warps = shape.row_warps, column_warps = shape.column_warps;
  static constexpr int band_rows = rows / row_warps;     // of a warp
  static constexpr int warp_keys = keys / column_warps;  // whose scores a warp computes
  static constexpr int columns = static_cast<int>(round_up(head_dim, 16 * column_warps));
  static constexpr int warp_columns = columns / column_warps;  // whose sums a warp holds
  static_assert(compiled_arch() >= 80,
                "kvring: tensor-core attention needs sm_80: name an architecture, such as nvcc "
                "-arch=native");
  static_assert(
      head_dim % 16 == 0 && head_dim <= 512,
      "kvring: tensor-core attention takes head dims that are multiples of 16, up to 512");
  static_assert(rows % (16 * row_warps) == 0 && keys % (16 * column_warps) == 0);
  static_assert(threads % 64 == 0, "rows that a thread copies must agree modulo 8");

  using HeadTile = SharedTile<columns>;      // Q, K, V
  using ProbabilityTile = SharedTile<keys>;  // P, where warps share it

  struct SharedStorage {
    alignas(128) unsigned char k[keys * HeadTile::pitch];
    alignas(128) unsigned char v[keys * HeadTile::pitch];
    alignas(128) unsigned char q[rows * HeadTile::pitch];
    alignas(128) unsigned char p[column_warps > 1 ? rows* ProbabilityTile::pitch : 16];
    float by_warp[column_warps > 1 ? column_warps : 1][rows];  // maxima, and at last denominators
    PackedRows packed;  // for the end: in the loop over tiles every register counts
  };

  __device__ AttentionBlock(SharedStorage& shared, Scores score)
      : shared_(shared),
        score_(score),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32),
        band_(warp_ / column_warps),
        column_warp_(warp_ % column_warps) {}

  /// Attends over the tiles whose index is `part` modulo `parts`. `parts` > 1 splits the keys of a
  /// row into sums that a caller combines.
  __device__ void attend(const View& cache, const PackedRows& packed, const T* q, int part,
                         int parts) {
    if (threadIdx.x == 0) shared_.packed = packed;
    begin_softmax(packed, part);
    const Position first = packed.start + packed.begin / group;
    const Position last = packed.start + (packed.end - 1) / group;
    const std::int64_t first_tile = visible_tiles<Policy, keys>(first, last).begin.value / keys;
    const int skipped = (part - static_cast<int>(first_tile % parts) + parts) % parts;
    const Position origin{(first_tile + skipped) * keys};
    // From here on positions count from the first tile: 32 bits hold them. Nothing that a row sees
    // in these tiles lies before it, so the policy says the same of them.
    remainder_ = packed.begin % group;
    first_ = static_cast<int>(first - origin);
    last_ = static_cast<int>(last - origin);
    begin_ = static_cast<int>(larger(0, Policy::first_visible(first) - origin));
    if (last_ < 0) return;

    const std::int64_t sequence =
        packed.sequence * cache.slots * heads.kv_dim() + packed.kv_head * heads.dim;
    k_ = cache.k + sequence;
    v_ = cache.v + sequence;
    slots_ = static_cast<int>(cache.slots);
    // One modulo for all tiles: a ring of whole tiles has none across its wrap.
    int slot = static_cast<int>(View::Storage::slot(origin, slots_).value);
    const int stride = parts * keys;
    load_tile(shared_.k, k_, 0, slot);
    load_queries(packed, q);
    arch::commit_copies();
    load_tile(shared_.v, v_, 0, slot);
    arch::commit_copies();
    arch::wait_for_copies<1>();
    __syncthreads();  // K and Q are here
    for (int tile = 0;;) {
      float scores[m_tiles][key_tiles][4];
      multiply_queries(scores);
      apply_softcap(scores);
      mask(scores, tile);
      std::uint32_t p[m_tiles][warp_keys / 16][4];
      update_softmax(scores, p);
      arch::wait_for_copies<0>();
      __syncthreads();  // V is here, P is shared, and nobody reads K any more
      tile += stride;
      const bool more = tile <= last_;
      if (more) {
        slot = advance(slot, stride);
        load_tile(shared_.k, k_, tile, slot);
        arch::commit_copies();
      }
      multiply_values(p);
      if (!more) break;
      arch::wait_for_copies<0>();
      __syncthreads();  // K is here, and nobody reads V or P any more
      load_tile(shared_.v, v_, tile, slot);
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
          for (int w = 0; w < column_warps; ++w) sum += shared_.by_warp[w][row_of(m, half)];
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
        const int row = row_of(m, half);
#pragma unroll
        for (int n = 0; n < column_tiles; ++n) {
          const int column = column_warp_ * warp_columns + 8 * n;
          // + 0: whether a masked tile added 0 to a -0 must not show.
          const std::uint32_t pair = arch::pack<T>(out_[m][n][2 * half] * scale + 0.0f,
                                                   out_[m][n][2 * half + 1] * scale + 0.0f);
          arch::store_shared(q + HeadTile::offset(row, column / 8) + lane_ % 4 * 4, pair);
        }
      }
    }
    __syncthreads();
    const PackedRows packed = shared_.packed;
    constexpr int chunks = head_dim / 8;
    for (int i = static_cast<int>(threadIdx.x); i < rows * chunks; i += threads) {
      const int row = i / chunks, chunk = i % chunks;
      if (packed.begin + row >= packed.end) break;
      *reinterpret_cast<uint4*>(out + query_offset(packed, row) + chunk * 8) =
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
        const int row = row_of(m, half);
        if (row >= count) continue;
#pragma unroll
        for (int n = 0; n < column_tiles; ++n) {
          const int column = column_warp_ * warp_columns + 8 * n + lane_ % 4 * 2;
          if (column < head_dim) f(row, column, out_[m][n][2 * half], out_[m][n][2 * half + 1]);
        }
      }
    }
  }
  /// f(row, maximum, denominator), once for each row that exists, after finish_denominators.
  /// Weights are 2^(softmax_exponent * (score - maximum)).
  template <class F>
  __device__ void each_softmax(F f) const {
    if (column_warp_ != 0 || lane_ % 4 != 0) return;
    const int count = valid_rows();
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(m, half);
        if (row < count) f(row, maximum_[m][half], denominator_[m][half]);
      }
    }
  }

  /// Rows that exist, and elements before one of them in q and out; after attend().
  __device__ int valid_rows() const { return shared_.packed.end - shared_.packed.begin; }
  __device__ std::int64_t query_offset(int row) const { return query_offset(shared_.packed, row); }

 private:
  static constexpr int m_tiles = band_rows / 16;
  static constexpr int key_tiles = warp_keys / 8;
  static constexpr int column_tiles = warp_columns / 8;

  __device__ static std::int64_t query_offset(const PackedRows& packed, int row) {
    const int x = packed.begin + row;
    return (std::int64_t{packed.first_row + x / group} * heads.q + packed.kv_head * group +
            x % group) *
           heads.dim;
  }

  /// Row of the block that this lane holds in half 0 or 1 of an m tile.
  __device__ int row_of(int m, int half) const {
    return band_ * band_rows + m * 16 + half * 8 + lane_ / 4;
  }

  __device__ int advance(int slot, int stride) const {
    slot += stride;
    if constexpr (View::Storage::is_ring) {
      // A split's stride may go round more than once, but only in a ring of few tiles.
      while (slot >= slots_) slot -= slots_;
    }
    return slot;
  }

  /// The sink is one part's: a score without a value, counted before the first key.
  __device__ void begin_softmax(const PackedRows& packed, int part) {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        maximum_[m][half] = -INFINITY;
        denominator_[m][half] = 0;
        if (score_.sinks != nullptr && part == 0) {
          const int x = packed.begin + row_of(m, half);
          maximum_[m][half] = sink_score(score_, packed.kv_head * group + x % group);
          denominator_[m][half] = column_warp_ == 0 && lane_ % 4 == 0;  // one lane of the row's
        }
      }
#pragma unroll
      for (int n = 0; n < column_tiles; ++n) {
        for (float& value : out_[m][n]) value = 0;
      }
    }
  }

  // A thread copies chunks t, t + 8 ... of rows r, r + threads / 8 ...: its XOR never changes.
  __device__ void load_queries(const PackedRows& packed, const T* q) const {
    const int first = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
    const std::uint32_t to = arch::shared_address(shared_.q) + HeadTile::offset(first, chunk);
#pragma unroll
    for (int i = 0; i < rows; i += threads / 8) {
      const int row = first + i;
      if (row >= rows) break;
      const bool exists = packed.begin + row < packed.end;
      const T* from = q + query_offset(packed, exists ? row : 0) + chunk * 8;
#pragma unroll
      for (int c = 0; c < head_dim / 8; c += 8) {
        if (chunk + c < head_dim / 8) {
          arch::copy_async_16(to + i * HeadTile::pitch + c * 16, from + c * 8, exists);
        }
      }
    }
  }

  /// Brings the rows of a tile that some query of the block sees; what lies outside is zeroed, so
  /// that neither a stale row nor NaN of an empty slot takes part: P is 0 there, and 0 * NaN is
  /// NaN.
  __device__ void load_tile(unsigned char* tile, const T* rows_of_head, int at, int slot) const {
    const T* from = rows_of_head + std::int64_t{slot} * heads.kv_dim();
    const int begin = begin_ - at, end = last_ + 1 - at;
    if (begin <= 0 && end >= keys) {
      copy_rows<true>(tile, from, 0, keys);
    } else {
      copy_rows<false>(tile, from, begin, end);
    }
  }
  template <bool Whole>
  __device__ void copy_rows(unsigned char* tile, const T* rows_of_head, int begin, int end) const {
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

  /// scores = Q K^T, for the rows of the band and this warp's keys.
  __device__ void multiply_queries(float (&scores)[m_tiles][key_tiles][4]) const {
    const std::uint32_t q = arch::shared_address(shared_.q) +
                            HeadTile::offset(band_ * band_rows + lane_ % 16, lane_ / 16);
    const std::uint32_t k =
        arch::shared_address(shared_.k) +
        HeadTile::offset(column_warp_ * warp_keys + lane_ % 8 + lane_ / 16 * 8, lane_ / 8 % 2);
    // Products wait for the sums before them. Where a warp has few, even and odd steps are summed
    // apart.
    constexpr int chains = shape.row_warps == 1 && head_dim >= 32 ? 2 : 1;
    float sums[chains][m_tiles][key_tiles][4] = {};
#pragma unroll
    for (int d = 0; d < head_dim / 16; ++d) {
      std::uint32_t a[m_tiles][4];
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        arch::load_matrices(a[m], HeadTile::step(q, 2 * d) + m * 16 * HeadTile::pitch);
      }
#pragma unroll
      for (int n = 0; n < key_tiles; n += 2) {
        std::uint32_t b[4];
        arch::load_matrices(b, HeadTile::step(k, 2 * d) + n * 8 * HeadTile::pitch);
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) {
          arch::mma<T>(sums[d % chains][m][n], a[m], b[0], b[1]);
          arch::mma<T>(sums[d % chains][m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          scores[m][n][e] = sums[0][m][n][e];
          if constexpr (chains == 2) scores[m][n][e] += sums[1][m][n][e];
        }
      }
    }
  }

  __device__ void apply_softcap(float (&scores)[m_tiles][key_tiles][4]) const {
    if (score_.softcap == 0) return;
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
        for (float& value : scores[m][n]) {
          value = softcapped(value, score_);
        }
      }
    }
  }

  /// Scores of keys that a row does not see become -infinity; most tiles have none. The two edges
  /// apart: a tile seldom has both, and bounds of rows take registers.
  __device__ void mask(float (&scores)[m_tiles][key_tiles][4], int tile) const {
    if (tile + keys - 1 > first_) {
      mask_rows(scores, [&](Position own, int key) {
        return key < static_cast<int>(visible_keys<Policy>(own).end.value) - tile;
      });
    }
    if (Policy::first_visible(Position{last_}) > Position{tile}) {
      mask_rows(scores, [&](Position own, int key) {
        return key >= static_cast<int>(visible_keys<Policy>(own).begin.value) - tile;
      });
    }
  }
  template <class Sees>
  __device__ void mask_rows(float (&scores)[m_tiles][key_tiles][4], Sees sees) const {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Position own{first_ + (remainder_ + row_of(m, half)) / group};
#pragma unroll
        for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int key = column_warp_ * warp_keys + 8 * n + lane_ % 4 * 2 + e;
            float& value = scores[m][n][2 * half + e];
            value = sees(own, key) ? value : -INFINITY;  // chosen, never added
          }
        }
      }
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
      arch::named_barrier(1 + band_, 32 * column_warps);
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int w = 0; w < column_warps; ++w) {
            highest[m][half] = fmaxf(highest[m][half], shared_.by_warp[w][row_of(m, half)]);
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

    const std::uint32_t to = arch::shared_address(shared_.p) + lane_ % 4 * 4 +
                             ProbabilityTile::offset(row_of(0, 0), column_warp_ * key_tiles);
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

  /// out += P V, for the rows of the band and this warp's columns.
  __device__ void multiply_values(const std::uint32_t (&p)[m_tiles][warp_keys / 16][4]) {
    constexpr int warp_chunks = warp_columns / 8;
    const std::uint32_t v_tile = arch::shared_address(shared_.v);
    const int v_chunk = column_warp_ * warp_chunks + lane_ / 16;
    const std::uint32_t v = v_tile + HeadTile::offset(lane_ % 16, v_chunk);
    const std::uint32_t shared_p =
        arch::shared_address(shared_.p) +
        ProbabilityTile::offset(band_ * band_rows + lane_ % 16, lane_ / 16);
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
      std::uint32_t a[m_tiles][4];
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        if constexpr (column_warps > 1) {
          arch::load_matrices(
              a[m], ProbabilityTile::step(shared_p, 2 * j) + m * 16 * ProbabilityTile::pitch);
        } else {
#pragma unroll
          for (int e = 0; e < 4; ++e) a[m][e] = p[m][j][e];
        }
      }
#pragma unroll
      for (int n = 0; n < column_tiles; n += 2) {
        std::uint32_t b[4];
        if constexpr (HeadTile::steps_within(warp_chunks)) {
          arch::load_matrices_transposed(b, HeadTile::step(v, n) + j * 16 * HeadTile::pitch);
        } else {
          arch::load_matrices_transposed(
              b, v_tile + HeadTile::offset(lane_ % 16, v_chunk + n) + j * 16 * HeadTile::pitch);
        }
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) {
          arch::mma<T>(out_[m][n], a[m], b[0], b[1]);
          arch::mma<T>(out_[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  __device__ void share_by_warp(const float (&values)[m_tiles][2]) {
    if (lane_ % 4 != 0) return;
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        shared_.by_warp[column_warp_][row_of(m, half)] = values[m][half];
      }
    }
  }

  SharedStorage& shared_;
  Scores score_;
  int warp_, lane_, band_, column_warp_;
  int slots_ = 0;
  const T* k_ = nullptr;  // [slots, kv_heads, head_dim] of the sequence, from this kv head on
  const T* v_ = nullptr;

  // Positions from the first tile on: of the first and the last row of the block, and of the first
  // key that one of them sees. Which head of its group the first row is.
  int first_ = 0, last_ = 0, begin_ = 0, remainder_ = 0;

  float out_[m_tiles][column_tiles][4];
  float maximum_[m_tiles][2], denominator_[m_tiles][2];
};

}  // namespace kvring
