// gemv: y = x w^T for one row, or a few: what decoding multiplies. Bound by reading w.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kvring/arch/cluster.cuh"
#include "kvring/arch/stream.cuh"
#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/elementwise_cuda.cuh"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/rows_cuda.cuh"
#include "kvring/kernels/vectors.cuh"
#include "kvring/units.hpp"

namespace kvring {

/// What becomes of a sum: y[row, i] = value, rounded to Out.
template <class Out>
struct StoreValue {
  static constexpr bool pairs = false;
  Out* y;  // [rows, width]
  std::int64_t width;

  __device__ void operator()(std::int64_t row, std::int64_t i, float value) const {
    y[row * width + i] = from_f32<Out>(value);
  }
};

/// Logits under a final softcap (0: none).
struct StoreLogit {
  static constexpr bool pairs = false;
  float* y;  // [rows, width]
  std::int64_t width;
  float softcap;

  __device__ void operator()(std::int64_t row, std::int64_t i, float value) const {
    y[row * width + i] = softcap == 0 ? value : softcap * tanh_f32(value / softcap);
  }
};

/// y[row, i] = activation(value) * factor[row, i].
template <class Activation, class Factor, class Out>
struct StoreGated {
  static constexpr bool pairs = false;
  const Factor* factor;  // [rows, stride]
  std::int64_t stride;
  Out* y;  // [rows, width]
  std::int64_t width;

  __device__ void operator()(std::int64_t row, std::int64_t i, float value) const {
    y[row * width + i] =
        from_f32<Out>(detail::activate<Activation>(value) * to_f32(factor[row * stride + i]));
  }
};

/// For merged matrices, gate rows first, then as many up rows: y[row, i] = activation(gate) * up.
template <class Activation, class Out>
struct StoreGatedPair {
  static constexpr bool pairs = true;
  Out* y;  // [rows, width]
  std::int64_t width;

  __device__ void operator()(std::int64_t row, std::int64_t i, float gate, float up) const {
    y[row * width + i] = from_f32<Out>(detail::activate<Activation>(gate) * up);
  }
};

/// x as it lies in memory.
template <class T>
struct PlainRows {
  static constexpr bool staged = false;
  const T* x;  // [rows, In]
};

/// x of a single row is what AddNorm makes of the residual stream: every block makes it, the first
/// one stores the new residual, which must not be where the old one is read.
template <class T>
struct AddedRow {
  static constexpr bool staged = true;
  AddNorm<float> task;
};

/// Rows of w are shared out to warps, long ones to several. A warp requests its part of some rows
/// of w in one go, before it waits for whatever x comes from, and then adds up one row of x after
/// the other: a row's bits do not depend on how many there are.
template <class T, std::int64_t In, class Input, class Store>
struct GemvKernel {
  static_assert(In % 8 == 0, "rows of weights must be aligned to 16 bytes");
  static constexpr int run = 8;  // values in 16 bytes
  static constexpr int row_runs = static_cast<int>(In / run);
  static constexpr int most_runs = 10;                  // of a lane, in all rows it has at once
  static constexpr int members = Store::pairs ? 2 : 1;  // rows of w that make one result
  static constexpr int runs_of(int split) { return (row_runs + 32 * split - 1) / (32 * split); }
  static constexpr int choose_split() {
    int split = 1;
    while (split < 8 && members * runs_of(split) > most_runs) split *= 2;
    return split;
  }
  static constexpr int split = choose_split();  // warps that share a row of w
  static constexpr int runs = runs_of(split);   // of a lane, in a row
  /// Results of a warp at once.
  static constexpr int results =
      static_cast<int>(larger(1, smaller(4, most_runs / (members * runs))));
  static constexpr int held = results * members;

  // What makes x needs registers too.
  static constexpr int threads = 256, blocks_per_sm = Input::staged ? 2 : 3;
  static constexpr int groups = threads / 32 / split;  // of warps, in a block
  static_assert(held * runs <= 24, "too much for the registers of a thread");

  struct Params {
    const T* w;  // [members * out, In]
    Input input;
    std::int64_t out, rows;
    Store store;
  };
  struct SharedStorage {
    alignas(16) T x[Input::staged ? In : 8];
    float parts[2][groups][split][held];
    float added_parts[threads / 32], next_parts[threads / 32];
  };

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int group = warp / split, part = warp % split;
    const std::int64_t stride = std::int64_t{gridDim.x} * groups * results;
    std::int64_t block_first = std::int64_t{blockIdx.x} * groups * results;
    const int first_run = part * 32 + lane;  // and every 32 * split from there

    uint4 w[held][runs];
    const auto request = [&](std::int64_t first) {
#pragma unroll
      for (int h = 0; h < held; ++h) {
        // The last results of a matrix may have no neighbours: they are summed, not stored.
        const std::int64_t result = smaller(first + h / members, params.out - 1);
        const T* from = params.w + (result + (h % members) * params.out) * In;
#pragma unroll
        for (int n = 0; n < runs; ++n) {
          const int at = first_run + n * 32 * split;
          w[h][n] = at < row_runs ? arch::load_once_16(from + at * run) : uint4{};
        }
      }
    };
    request(block_first + group * results);
    arch::wait_for_predecessor();
    arch::let_successor_begin();
    const T* x = make_input(params, shared);

    int turn = 0;
    while (true) {
      const std::int64_t first = block_first + group * results;
      for (std::int64_t row = 0; row < params.rows; ++row) {
        float sums[held];
        add_up(w, x + row * In, first_run, sums);
        if constexpr (split > 1) {
          if (lane == 0) {
#pragma unroll
            for (int h = 0; h < held; ++h) shared.parts[turn][group][part][h] = sums[h];
          }
          __syncthreads();
#pragma unroll
          for (int h = 0; h < held; ++h) {
            sums[h] = shared.parts[turn][group][0][h];
#pragma unroll
            for (int p = 1; p < split; ++p) sums[h] += shared.parts[turn][group][p][h];
          }
          turn ^= 1;
        }
        if (part == 0) store(params, row, first, sums, lane);
      }
      block_first += stride;
      if (block_first >= params.out) return;
      request(block_first + group * results);
    }
  }

 private:
  /// Where the rows of x are.
  __device__ static const T* make_input(const Params& params, SharedStorage& shared) {
    if constexpr (Input::staged) {
      params.input.task.template operator()<threads>(
          0, blockIdx.x == 0, true, shared.added_parts, shared.next_parts,
          [&](std::int64_t i, const float(&values)[4]) { detail::store(shared.x + i, values); });
      __syncthreads();
      return shared.x;
    } else {
      return params.input.x;
    }
  }

  __device__ static void add_up(const uint4 (&w)[held][runs], const T* x, int first_run,
                                float (&sums)[held]) {
    float parts[held][4];
#pragma unroll
    for (int h = 0; h < held; ++h) parts[h][0] = parts[h][1] = parts[h][2] = parts[h][3] = 0;
#pragma unroll
    for (int n = 0; n < runs; ++n) {
      const int at = first_run + n * 32 * split;
      float values[run] = {};
      if (at < row_runs) detail::load(values, x + at * run);
#pragma unroll
      for (int h = 0; h < held; ++h) {
        const auto& weights = reinterpret_cast<const detail::Run<T, run>&>(w[h][n]);
#pragma unroll
        for (int i = 0; i < run; ++i) {
          parts[h][i % 4] = mul_add(detail::widen(weights.at[i]), values[i], parts[h][i % 4]);
        }
      }
    }
#pragma unroll
    for (int h = 0; h < held; ++h) {
      sums[h] = detail::sum_of_lanes((parts[h][0] + parts[h][1]) + (parts[h][2] + parts[h][3]));
    }
  }

  /// Lane n stores result n.
  __device__ static void store(const Params& params, std::int64_t row, std::int64_t first,
                               const float (&sums)[held], int lane) {
#pragma unroll
    for (int r = 0; r < results; ++r) {
      if (lane != r || first + r >= params.out) continue;
      if constexpr (members == 2) {
        params.store(row, first + r, sums[2 * r], sums[2 * r + 1]);
      } else {
        params.store(row, first + r, sums[r]);
      }
    }
  }
};

/// store(row, i, sum) for every row of x [rows, In] and every row of w [out, In], or, if the store
/// takes pairs, w [2 * out, In]. With `overlap` the kernel may begin before those before it have
/// ended, but for what reads x.
template <std::int64_t In, class T, class Input, class Store>
void gemv(const Cuda& backend, const T* w, const Input& input, std::int64_t rows, std::int64_t out,
          const Store& store, int multiprocessors, bool overlap) {
  using Kernel = GemvKernel<T, In, Input, Store>;
  const std::int64_t units = ceil_div(out, Kernel::groups * Kernel::results);
  const std::int64_t blocks = smaller(units, multiprocessors * Kernel::blocks_per_sm);
  launch_kernel<Kernel>(backend,
                        {.grid = static_cast<unsigned>(blocks), .overlaps_predecessor = overlap},
                        {.w = w, .input = input, .out = out, .rows = rows, .store = store});
}

}  // namespace kvring
