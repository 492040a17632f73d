// Wgmma512Warpgroup: what one of the two attending warpgroups of attend_wgmma512 does.
#pragma once

#include <cstdint>

#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/mma.cuh"
#include "kvring/arch/stream.cuh"
#include "kvring/arch/wgmma.cuh"
#include "kvring/kernels/wgmma512_layout.cuh"
#include "kvring/kernels/wgmma512_slots.cuh"
#include "kvring/kernels/wgmma512_softmax.cuh"

namespace kvring {

/// Both warpgroups attend for the same 64 rows. Each owns one half of the columns of the sums, and
/// computes the scores of every second tile, beginning with its own number. P goes to the other
/// through shared memory: while one is in a softmax, the products of the other are under way.
///
/// Operands in shared memory are blocks of 64 columns, rows of 128 bytes permuted as tensor maps
/// do.
template <LayerPolicy Policy, class View>
class Wgmma512Warpgroup {
  using Layout = Wgmma512Layout<Policy, View>;
  using T = typename Layout::T;
  using SharedStorage = typename Layout::SharedStorage;
  static constexpr int keys = Layout::keys, rows = Layout::rows, row_bytes = Layout::row_bytes;
  static constexpr int block_bytes = rows * row_bytes;
  static constexpr int value_parts = Layout::value_parts;

 public:
  __device__ __forceinline__ Wgmma512Warpgroup(const Scores& score, SharedStorage& shared,
                                               int warpgroup)
      : shared_(shared),
        softmax_(score),
        warpgroup_(warpgroup),
        thread_(static_cast<int>(threadIdx.x) % 128),
        place_(first_place()),
        slots_(shared, warpgroup) {}

  /// All tiles of an item.
  __device__ __forceinline__ void attend(const WorkItem& item, int rank) {
    softmax_.begin(item.kv_head, item.first + rank * (rows / Layout::group));
#pragma unroll
    for (float& sum : sums_) sum = 0;
    // Tile i of the item in the order of the walk: `own` is the last one whose P this one made.
    const int tiles = item.tiles;
    const auto tile_of = [&](int i) { return (tiles - 1 - i) * keys; };
    const auto have_scores = [&](int i) {
      slots_.drain();
      if (i + 2 >= tiles && thread_ == 0) shared_.q_empty.arrive();  // they were the last
    };
    const auto take_and_make = [&](int i, bool first) {  // tile i is the other's, i + 1 this one's
      have_scores(i + 1);
      take(item, tile_of(i));
      softmax_.take_scores(scores_, tile_of(i + 1));
      make(true, first);
    };
    int own = warpgroup_;
    if (warpgroup_ == 0) {
      issue_scores();
      have_scores(0);
      softmax_.take_scores(scores_, tile_of(0));
      make(false, true);
    } else {
      slots_.skip(Layout::key_parts);
      if (tiles > 1) {
        issue_scores();
        take_and_make(0, true);
      } else {
        if (thread_ == 0) shared_.q_empty.arrive();
        take(item, tile_of(0));
        give_back_taken();
      }
    }
#pragma unroll 1
    for (; own + 2 < tiles; own += 2) {
      slots_.skip(Layout::key_parts);
      multiply_own(item, tile_of(own));
      issue_scores();
      take_and_make(own + 1, false);
    }
    if (own < tiles) {
      if (own + 1 < tiles) slots_.skip(Layout::key_parts);
      multiply_own(item, tile_of(own));
      slots_.drain();
      if (own + 1 < tiles) {
        take(item, tile_of(own + 1));
        give_back_taken();
      }
    }
  }

  /// Writes this warpgroup's half of the columns of the rows that exist, 64 columns after the other
  /// by way of its P: a warp at a time has 16 rows there. `out`: of the block's first row.
  __device__ __forceinline__ void write(const WorkItem& item, int rank, T* out) {
    constexpr int group = Layout::group;
    if (warpgroup_ < item.tiles) arch::named_barrier(free_barrier(warpgroup_), 256);
    const int valid = item.valid - rank * rows;
    out += (std::int64_t{item.first_row + rank * (rows / group)} * Layout::heads.q +
            item.kv_head * group) *
               Layout::head_dim +
           warpgroup_ * Layout::half_dim;
    const float inverse[2] = {softmax_.inverse(0), softmax_.inverse(1)};
    unsigned char* staged = shared_.p[warpgroup_];
    const std::uint32_t to = arch::shared_address(staged);
    int thread = thread_;
    arch::forget(thread);  // nothing derived from it is worth a register over all items
#pragma unroll
    for (int block = 0; block < Layout::half_blocks; ++block) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        // + 0: whether a masked tile added 0 to a -0 must not show.
        const auto pair = [&](int i, int half) {
          const float* sums = sums_ + 32 * block + 8 * n + i;
          return arch::pack<T>(sums[0] * inverse[half] + 0.0f, sums[1] * inverse[half] + 0.0f);
        };
        arch::store_matrices(to + place(n), pair(0, 0), pair(2, 1), pair(4, 0), pair(6, 1));
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = thread / 32 * 16 + i * 4 + thread % 32 / 8, chunk = thread % 8;
        const auto value =
            *reinterpret_cast<const uint4*>(staged + row * row_bytes + (chunk ^ row % 8) * 16);
        T* at = out + (row / group * Layout::heads.q + row % group) * Layout::head_dim +
                block * 64 + chunk * 8;
        if (row < valid) *reinterpret_cast<uint4*>(at) = value;
      }
      __syncwarp();
    }
  }

 private:
  /// Barriers of both warpgroups: the P of `warpgroup` is there; has been used by the other.
  __device__ static int there_barrier(int warpgroup) { return 1 + warpgroup; }
  __device__ static int free_barrier(int warpgroup) { return 3 + warpgroup; }
  /// Of the threads of one warpgroup.
  __device__ int own_barrier() const { return 5 + warpgroup_; }

  /// Where this lane's row of columns 16 n ... 16 n + 15 lies, for store_matrices: its chunks are
  /// permuted by the row, so that a step of two chunks flips bits.
  __device__ __forceinline__ std::uint32_t place(int n) const {
    return static_cast<std::uint32_t>(n / 4 * block_bytes + (place_ ^ n % 4 * 32));
  }
  __device__ static int first_place() {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int row = warp % 4 * 16 + lane / 8 % 2 * 8 + lane % 8;
    return row * row_bytes + (lane / 16 ^ row % 8) * 16;
  }

  /// A descriptor of what lies so many bytes further. Only its lower half counts.
  __device__ static __forceinline__ std::uint64_t further(std::uint64_t descriptor, int bytes) {
    return (descriptor & ~std::uint64_t{0xffffffff}) |
           (static_cast<std::uint32_t>(descriptor) + static_cast<std::uint32_t>(bytes / 16));
  }
  /// Issues scores = Q K^T, part by part.
  __device__ __forceinline__ void issue_scores() {
    const std::uint64_t first_q = arch::matrix_descriptor(arch::shared_address(shared_.q), 16);
    constexpr int steps = 4 * Layout::key_part_blocks;
#pragma unroll
    for (int part = 0; part < Layout::key_parts; ++part) {
      slots_.wait();
      const std::uint64_t first_k = arch::matrix_descriptor(slots_.address(), 16);
      arch::fence_wgmma();
#pragma unroll
      for (int step = 0; step < steps; ++step) {
        const int d = part * steps + step;
        arch::Wgmma<T, keys>::scores(scores_, further(first_q, d / 4 * block_bytes + d % 4 * 32),
                                     further(first_k, step / 4 * keys * row_bytes + step % 4 * 32),
                                     d != 0);
      }
      slots_.commit();
      slots_.skip(1);
    }
  }

  /// Zeroes the rows of V in the slot that comes next that no row of the item sees: P is 0 there,
  /// but 0 * NaN is NaN. Only the first and the last tile of an item can have such rows.
  __device__ __forceinline__ void clear_unseen(const WorkItem& item, int tile, int part) {
    if (item.begin <= tile && item.last + 1 >= tile + keys) return;
    const int first = tile + part * Layout::value_keys;
    unsigned char* to = slots_.bytes();
    for (int i = thread_; i < Layout::slot_bytes / 16; i += 128) {
      const int key = first + i / 8 % Layout::value_keys;
      if (key < item.begin || key > item.last) {
        *reinterpret_cast<uint4*>(to + i * 16) = uint4{0, 0, 0, 0};
      }
    }
    arch::fence_shared_for_async();
    arch::named_barrier(own_barrier(), 128);
  }

  /// Issues sums += P V for this warpgroup's columns, in two parts of 32 keys. `own`: P is, and the
  /// slots with its half of V come first. `product`: called with a step of 16 keys and the
  /// descriptor of its V. `end`: ends a part.
  __device__ __forceinline__ void issue_sums(const WorkItem& item, int tile, bool own, auto product,
                                             auto end) {
    constexpr int steps = Layout::value_keys / 16;
    if (!own) slots_.skip(value_parts);
#pragma unroll
    for (int part = 0; part < value_parts; ++part) {
      slots_.wait();
      clear_unseen(item, tile, part);
      const std::uint64_t v =
          arch::matrix_descriptor(slots_.address(), Layout::value_keys * row_bytes);
      arch::fence_wgmma();
#pragma unroll
      for (int step = 0; step < steps; ++step) {
        product(part * steps + step, further(v, step * 16 * row_bytes));
      }
      end(part);
      slots_.skip(own && part + 1 == value_parts ? 1 + value_parts : 1);
    }
  }
  /// With this warpgroup's own P of a tile. Nothing else is under way.
  __device__ __forceinline__ void multiply_own(const WorkItem& item, int tile) {
    rescale();
    issue_sums(
        item, tile, true,
        [&](int step, std::uint64_t v) {
          arch::Wgmma<T, Layout::half_dim>::sums(sums_, p_[step], v);
        },
        [&](int) { slots_.commit(); });
  }
  /// With the other's P of a tile, once it is there.
  __device__ __forceinline__ void take(const WorkItem& item, int tile) {
    arch::named_barrier(there_barrier(1 - warpgroup_), 256);
    softmax_.take(shared_.softmax[thread_]);
    rescale();
    const std::uint64_t p =
        arch::matrix_descriptor(arch::shared_address(shared_.p[1 - warpgroup_]), 16);
    issue_sums(
        item, tile, false,
        [&](int step, std::uint64_t v) {
          arch::Wgmma<T, Layout::half_dim>::sums_of_shared(sums_, further(p, step * 32), v);
        },
        [&](int part) {
          arch::commit_wgmma();
          taken_[part] = slots_.next();
        });
  }
  /// Gives back part of what take() took, once it has been used.
  __device__ __forceinline__ void give_back_part(int part) {
    if (part + 1 < value_parts) {
      arch::wait_for_wgmma<1>();
      slots_.give_back(taken_[part]);
    } else {
      arch::wait_for_wgmma<0>();
      slots_.give_back(taken_[part]);
      arch::arrive_at_named_barrier(free_barrier(1 - warpgroup_), 256);
    }
  }
  __device__ __forceinline__ void give_back_taken() {
#pragma unroll
    for (int part = 0; part < value_parts; ++part) give_back_part(part);
  }

  /// Scores to probabilities and to operands, for both. `taken`: products with what take() took are
  /// under way, and its slots are given back in between, as soon as they may be. Stores of P keep
  /// compilers from computing all of it after the last wait. `first`: of the item.
  __device__ __forceinline__ void make(bool taken, bool first) {
    if (!first) arch::named_barrier(free_barrier(warpgroup_), 256);
    const std::uint32_t to = arch::shared_address(shared_.p[warpgroup_]);
#pragma unroll
    for (int n = 0; n < keys / 16; ++n) {
      softmax_.exponentiate(scores_, n);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        p_[n][i] = arch::pack<T>(scores_[8 * n + 2 * i], scores_[8 * n + 2 * i + 1]);
      }
      arch::store_matrices(to + place(n), p_[n][0], p_[n][1], p_[n][2], p_[n][3]);
      if (taken && n % 2 == 0) give_back_part(n / 2);
    }
    shared_.softmax[thread_] = softmax_.state();
    arch::fence_shared_for_async();
    arch::arrive_at_named_barrier(there_barrier(warpgroup_), 256);
  }

  __device__ __forceinline__ void rescale() {
    if (!softmax_.moved()) return;
#pragma unroll
    for (int n = 0; n < Layout::half_dim / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums_[4 * n + e] *= softmax_.correction(e / 2);
    }
  }

  SharedStorage& shared_;
  Wgmma512Softmax<Policy, View, keys> softmax_;
  int warpgroup_, thread_, place_;
  Wgmma512Slots<Layout> slots_;
  int taken_[value_parts];  // slots
  float scores_[keys / 2];
  float sums_[Layout::half_dim / 2];
  std::uint32_t p_[keys / 16][4];
};

}  // namespace kvring
