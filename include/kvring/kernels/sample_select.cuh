// Top-k and top-p on a GPU without sorting: the key of the last token that is in, by radix
// selection over counts or over weights. Weights are added as integers, so that no order of blocks
// shows.
#pragma once

#include <cstdint>

#include "kvring/arch/cluster.cuh"
#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/kernels/sample_keys.cuh"
#include "kvring/units.hpp"

namespace kvring::detail {

inline constexpr int digit_bits = 11;
static_assert(1 << digit_bits == SampleScratch::bins);

/// Tokens weigh 1: selects the k likeliest.
struct CountWeights {
  std::uint64_t k;

  __device__ std::uint64_t operator()(float, const SampleScratch*) const { return 1; }
  __device__ std::uint64_t target(std::uint64_t) const { return k; }
  /// Whether tokens of one bin, which weigh `sum` together, are all in if `remaining` is to be
  /// reached with them.
  __device__ bool are_all_in(std::uint64_t sum, std::uint64_t remaining, std::uint64_t, int,
                             const SampleScratch*) const {
    return sum == remaining;
  }
};

/// Tokens weigh exp((x - highest) / temperature) * 2^40, rounded: selects the fewest of the
/// likeliest that weigh p of all.
struct ProbabilityWeights {
  float inverse_temperature, p;

  __device__ std::uint64_t operator()(float x, const SampleScratch* scratch) const {
    const float weight = expf((x - scratch->highest) * inverse_temperature);
    return weight > 0 ? __float2ull_rn(fminf(weight, 1.0f) * 0x1p40f) : 0;
  }
  __device__ std::uint64_t target(std::uint64_t total) const {
    return __double2ull_ru(static_cast<double>(p) * static_cast<double>(total));
  }
  __device__ bool are_all_in(std::uint64_t sum, std::uint64_t remaining, std::uint64_t prefix,
                             int shift, const SampleScratch* scratch) const {
    if (shift != index_bits) return false;
    // They have one logit, and so one weight.
    const float logit = of_order(static_cast<std::uint32_t>(prefix >> index_bits));
    return sum - (*this)(logit, scratch) < remaining;
  }
};

/// One digit of the key: a histogram of the weights of tokens whose higher digits are found, and
/// the bin, counted from the likeliest, in which the target is reached.
template <class Weights>
struct SelectDigitKernel {
  struct Params {
    Weights weights;
    const float* logits;  // [count]
    std::int64_t count;
    int shift;         // of the digit
    bool above_floor;  // leave out tokens that an earlier selection left out
    SampleScratch* scratch;
  };
  static constexpr int threads = sample_threads, blocks_per_sm = 4;
  static constexpr int bins = SampleScratch::bins, bins_of_thread = bins / threads;
  struct SharedStorage {
    // 20 bits of a weight each: sums of a block's weights fit.
    unsigned low[bins], high[bins];
    unsigned long long parts[threads / 32];
  };
  static constexpr int half_bits = 20;
  static_assert((std::int64_t{sample_share} << (half_bits + 1)) <= std::int64_t{1} << 32);

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    SampleScratch* scratch = params.scratch;
    const bool first = params.shift + digit_bits >= key_bits;
    for (int i = threadIdx.x; i < bins; i += threads) shared.low[i] = shared.high[i] = 0;
    arch::let_successor_begin();
    arch::wait_for_predecessor();
    if (!first && scratch->remaining == 0) return;  // all is found
    const std::uint64_t prefix = first ? 0 : scratch->prefix;
    const std::uint64_t floor = params.above_floor ? scratch->floor : 0;
    __syncthreads();
    for_share(params.logits, params.count, [&](float x, std::int64_t index) {
      const std::uint64_t key = key_of(x, index);
      if (key < floor || (key ^ prefix) >> (params.shift + digit_bits) != 0) return;
      const std::uint64_t weight = params.weights(x, scratch);
      if (weight == 0) return;
      const auto bin = static_cast<int>(key >> params.shift) & (bins - 1);
      const auto low = static_cast<unsigned>(weight & ((1u << half_bits) - 1));
      const auto high = static_cast<unsigned>(weight >> half_bits);
      if (low != 0) atomicAdd(&shared.low[bin], low);
      if (high != 0) atomicAdd(&shared.high[bin], high);
    });
    __syncthreads();
    for (int i = threadIdx.x; i < bins; i += threads) {
      const unsigned long long sum =
          shared.low[i] + (static_cast<unsigned long long>(shared.high[i]) << half_bits);
      if (sum != 0) atomicAdd(&scratch->histogram[i], sum);
    }
    if (is_last_block(&scratch->arrived)) choose(params, shared, prefix, first);
  }

 private:
  /// By the last block: the digit, and what remains to be found within its bin.
  __device__ static void choose(const Params& params, SharedStorage& shared, std::uint64_t prefix,
                                bool first) {
    SampleScratch* scratch = params.scratch;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int top = bins - 1 - static_cast<int>(threadIdx.x) * bins_of_thread;
    unsigned long long weights[bins_of_thread], own = 0;
#pragma unroll
    for (int i = 0; i < bins_of_thread; ++i) {
      weights[i] = __ldcg(&scratch->histogram[top - i]);
      scratch->histogram[top - i] = 0;
      own += weights[i];
    }
    unsigned long long reached = own;  // with all threads before this one
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const unsigned long long other = __shfl_up_sync(~0u, reached, step);
      if (lane >= step) reached += other;
    }
    if (lane == 31) shared.parts[warp] = reached;
    __syncthreads();
    unsigned long long total = 0;
#pragma unroll
    for (int i = 0; i < threads / 32; ++i) {
      if (i < warp) reached += shared.parts[i];
      total += shared.parts[i];
    }
    reached -= own;
    unsigned long long target = scratch->remaining;
    if (first) {
      target = params.weights.target(total);
      if (target > total) target = total;
      if (target == 0) target = 1;
    }
    __syncthreads();  // all have read what one of them will write
    if (threadIdx.x == 0 && total == 0) finish(params, prefix, 0);  // nothing to choose from
    if (reached >= target || reached + own < target) return;
#pragma unroll
    for (int i = 0; i < bins_of_thread; ++i) {
      if (reached < target && reached + weights[i] >= target) {
        const std::uint64_t key = prefix | static_cast<std::uint64_t>(top - i) << params.shift;
        const std::uint64_t remaining = target - reached;
        const bool done =
            params.weights.are_all_in(weights[i], remaining, key, params.shift, scratch);
        finish(params, key, done ? 0 : remaining);
      }
      reached += weights[i];
    }
  }
  /// `remaining` 0: whatever has the prefix is in.
  __device__ static void finish(const Params& params, std::uint64_t prefix,
                                std::uint64_t remaining) {
    SampleScratch* scratch = params.scratch;
    scratch->prefix = prefix;
    scratch->remaining = remaining;
    if (params.shift != 0 && remaining != 0) return;
    // Among equals an earlier selection may have drawn the line.
    const bool keeps = params.above_floor && scratch->floor > prefix;
    if (!keeps) scratch->floor = prefix;
  }
};

template <class Weights>
void select(const Cuda& backend, Weights weights, const float* logits, std::int64_t count,
            bool above_floor, SampleScratch* scratch) {
  using Kernel = SelectDigitKernel<Weights>;
  constexpr int digits = (key_bits + digit_bits - 1) / digit_bits;
  for (int digit = digits; digit-- > 0;) {
    launch_kernel<Kernel>(backend, {.grid = static_cast<unsigned>(ceil_div(count, sample_share))},
                          {.weights = weights,
                           .logits = logits,
                           .count = count,
                           .shift = digit * digit_bits,
                           .above_floor = above_floor,
                           .scratch = scratch});
  }
}

inline void select_top_k(const Cuda& backend, const float* logits, std::int64_t count,
                         std::int64_t k, SampleScratch* scratch) {
  select(backend, CountWeights{static_cast<std::uint64_t>(k)}, logits, count, false, scratch);
}

/// scratch->highest has been found. `above_floor`: of the tokens that select_top_k left.
inline void select_top_p(const Cuda& backend, const float* logits, std::int64_t count,
                         bool above_floor, float inverse_temperature, float p,
                         SampleScratch* scratch) {
  select(backend, ProbabilityWeights{inverse_temperature, p}, logits, count, above_floor, scratch);
}

}  // namespace kvring::detail
