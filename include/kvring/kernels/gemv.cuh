// gemv: y = x w^T for one row, or a few: what decoding multiplies. Bound by reading w.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kvring/arch/cluster.cuh"
#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/stream.cuh"
#include "kvring/backend_cuda.cuh"
#include "kvring/error.hpp"
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
  static constexpr bool staged = false, adds = false;
  const T* x;  // [rows, In]
};

/// x of a single row, copied to shared memory at once: else every first look at a part of it would
/// stand in line behind the weights.
template <class T>
struct PlainRow {
  static constexpr bool staged = true, adds = false;
  const T* x;  // [In]
};

/// x of a single row is what AddNorm makes of the residual stream: every block makes it, the first
/// one stores the new residual, which must not be where the old one is read.
template <class T>
struct AddedRow {
  static constexpr bool staged = true, adds = true;
  AddNorm<float> task;
};

/// A warp takes a result after the other. It requests a slice of a row of w in one go, at most ten
/// runs a lane, and adds up that slice for one row of x after the other, so that a row's bits do
/// not depend on how many there are. What it reads first it requests before it waits for whatever x
/// comes from. (To bring more to the L2 cache meanwhile was tried: x then stands in line behind
/// it.)
template <class T, std::int64_t In, class Input, class Store>
struct GemvKernel {
  static_assert(In % 8 == 0, "rows of weights must be aligned to 16 bytes");
  static constexpr int run = 8;  // values in 16 bytes
  static constexpr int row_runs = static_cast<int>(In / run);
  static constexpr int most_runs = 10;  // of a lane at once; eight, if a row is cut anyway
  static constexpr int slices =
      row_runs <= 32 * most_runs ? 1 : (row_runs + 32 * 8 - 1) / (32 * 8);   // of a row
  static constexpr int runs = (row_runs + 32 * slices - 1) / (32 * slices);  // of a lane, a slice
  static constexpr int members = Store::pairs ? 2 : 1;  // rows of w that make one result
  /// Short rows: several results at once.
  static constexpr int results =
      slices > 1 ? 1 : static_cast<int>(larger(1, smaller(4, most_runs / (members * runs))));
  static constexpr bool at_once = slices == 1 && results * members * runs <= most_runs;
  static constexpr int held = at_once ? results * members : 1;  // slices requested at once

  // What makes x needs registers too. Two blocks that have requested ten runs a lane keep 80 KB on
  // their way, more than the memory needs to be busy.
  static constexpr int threads = 256, blocks_per_sm = Input::adds || held * runs > 8 ? 2 : 3;
  static constexpr int warps = threads / 32;
  static constexpr int most_rows = 32;
  using Row = detail::RowOfBlock<threads, static_cast<int>(ceil_div(In, 4 * threads))>;

  struct Params {
    const T* w;  // [members * out, In]
    Input input;
    std::int64_t out, rows;
    Store store;
  };
  struct SharedStorage {
    alignas(16) T x[Input::staged ? In : 8];
    alignas(16) float post_weight[Input::adds ? In : 4], next_weight[Input::adds ? In : 4];
    float added_parts[warps], next_parts[warps];
  };

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const std::int64_t stride = std::int64_t{gridDim.x} * warps * results;
    std::int64_t first =
        (std::int64_t{blockIdx.x} * warps + static_cast<int>(threadIdx.x) / 32) * results;

    arch::let_successor_begin();
    if constexpr (Input::adds) request_norms(params.input.task, shared);
    uint4 w[held][runs];
    request(params, first, 0, 0, lane, w);
    arch::wait_for_predecessor();
    const T* x = make_input(params, shared);

    const auto rows = static_cast<int>(params.rows);
#pragma unroll 1
    for (; first < params.out; first += stride) {
      float totals[results * members];  // lane n has those of row n of x
#pragma unroll
      for (int index = 0; index < results * members; index += held) {
#pragma unroll 1
        for (int part = 0; part < slices; ++part) {
#pragma unroll 1
          for (int row = 0; row < rows; ++row) {
            float sums[held];
            add_up(w, x + row * In, part, lane, sums);
#pragma unroll
            for (int h = 0; h < held; ++h) {
              float& total = totals[index + h];
              if (lane == row) total = part == 0 ? sums[h] : total + sums[h];
            }
          }
          const bool next_part = part + 1 < slices, next_index = index + held < results * members;
          request(params, next_part || next_index ? first : first + stride,
                  next_part    ? index
                  : next_index ? index + held
                               : 0,
                  next_part ? part + 1 : 0, lane, w);
        }
      }
      if (lane < rows) store(params, lane, first, totals);
    }
  }

 private:
  /// Where part `part` of row number `index` of some results begins. Past the end of the matrix: of
  /// its last result, for nobody.
  __device__ static const T* slice(const Params& params, std::int64_t first, int index, int part) {
    const std::int64_t result = smaller(first + index / members, params.out - 1);
    return params.w + (result + index % members * params.out) * In + part * (32 * runs * run);
  }
  __device__ static void request(const Params& params, std::int64_t first, int index, int part,
                                 int lane, uint4 (&w)[held][runs]) {
    if (first >= params.out) return;
#pragma unroll
    for (int h = 0; h < held; ++h) {
      const T* from = slice(params, first, index + h, part);
#pragma unroll
      for (int n = 0; n < runs; ++n) {
        const int at = n * 32 + lane;
        const bool inside = part * (32 * runs) + at < row_runs;
        w[h][n] = inside ? arch::load_once_16(from + at * run) : uint4{};
      }
    }
  }
  /// The weights of the norms: nobody wrote them, and nobody read them since the last token. A
  /// thread copies what it will read.
  __device__ static void request_norms(const AddNorm<float>& task, SharedStorage& shared) {
    Row::each(In, [&](int, std::int64_t i) {
      if (task.post_weight != nullptr) {
        arch::copy_async_16(arch::shared_address(shared.post_weight + i), task.post_weight + i,
                            true);
      }
      if (task.next_weight != nullptr) {
        arch::copy_async_16(arch::shared_address(shared.next_weight + i), task.next_weight + i,
                            true);
      }
    });
    arch::commit_copies();
  }

  /// Where the rows of x are.
  __device__ static const T* make_input(const Params& params, SharedStorage& shared) {
    if constexpr (Input::adds) {
      AddNorm<float> task = params.input.task;
      if (task.post_weight != nullptr) task.post_weight = shared.post_weight;
      if (task.next_weight != nullptr) task.next_weight = shared.next_weight;
      arch::wait_for_copies<0>();
      task.template operator()<threads, Row::held>(
          0, blockIdx.x == 0, true, shared.added_parts, shared.next_parts,
          [&](std::int64_t i, const float(&values)[4]) { detail::store(shared.x + i, values); });
      __syncthreads();
      return shared.x;
    } else if constexpr (Input::staged) {
      for (int at = static_cast<int>(threadIdx.x); at < row_runs; at += threads) {
        arch::copy_async_16(arch::shared_address(shared.x + at * run), params.input.x + at * run,
                            true);
      }
      arch::commit_copies();
      arch::wait_for_copies<0>();
      __syncthreads();
      return shared.x;
    } else {
      return params.input.x;
    }
  }

  __device__ static void add_up(uint4 (&w)[held][runs], const T* x, int slice, int lane,
                                float (&sums)[held]) {
    // Runs of x are read as they are needed: known to be inside, all would be read first.
    int end = row_runs;
    arch::forget(end);
    float parts[held][4];
#pragma unroll
    for (int h = 0; h < held; ++h) parts[h][0] = parts[h][1] = parts[h][2] = parts[h][3] = 0;
#pragma unroll
    for (int n = 0; n < runs; ++n) {
      const int at = (slice * runs + n) * 32 + lane;
      float values[run] = {};
      if (at < end) detail::load(values, x + at * run);
#pragma unroll
      for (int h = 0; h < held; ++h) {
        arch::forget(w[h][n]);  // or all of them would be widened before the first row
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

  __device__ static void store(const Params& params, std::int64_t row, std::int64_t first,
                               const float (&totals)[results * members]) {
#pragma unroll
    for (int r = 0; r < results; ++r) {
      if (first + r >= params.out) return;
      if constexpr (members == 2) {
        params.store(row, first + r, totals[2 * r], totals[2 * r + 1]);
      } else {
        params.store(row, first + r, totals[r]);
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
  require(rows >= 1 && rows <= Kernel::most_rows, "gemv of ", rows, " rows: it takes 1 to ",
          Kernel::most_rows);
  const std::int64_t units = ceil_div(out, Kernel::warps * Kernel::results);
  const std::int64_t blocks = smaller(units, multiprocessors * Kernel::blocks_per_sm);
  launch_kernel<Kernel>(backend,
                        {.grid = static_cast<unsigned>(blocks), .overlaps_predecessor = overlap},
                        {.w = w, .input = input, .out = out, .rows = rows, .store = store});
}

}  // namespace kvring
