// argmax_row and sample_row: a token from the logits of a row, on the GPU. No host is waited for
// and nothing is allocated, so both can be captured.
#pragma once

#include <cstdint>

#include "kvring/arch/cluster.cuh"
#include "kvring/backend_cuda.cuh"
#include "kvring/error.hpp"
#include "kvring/kernels/launch_kernel.cuh"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/kernels/random.hpp"
#include "kvring/kernels/sample_keys.cuh"
#include "kvring/kernels/sample_select.cuh"
#include "kvring/units.hpp"

namespace kvring {

namespace detail {

/// The likeliest token.
struct ByLogit {
  __device__ auto begin(const SampleScratch*) const {
    return [](float x, std::int64_t index) { return key_of(x, index); };
  }
};

/// A token drawn by the weights exp(x / temperature): the largest of x / temperature + g, with a
/// random g of the Gumbel distribution for each token (Maddison, Tarlow and Minka, 2014).
struct ByChance {
  float inverse_temperature;
  std::uint64_t seed;
  const Position* position;
  bool above_floor;  // only tokens that were selected

  __device__ auto begin(const SampleScratch* scratch) const {
    const std::uint64_t stream = random_bits(seed, static_cast<std::uint64_t>(position->value));
    const std::uint64_t floor = above_floor ? scratch->floor : 0;
    return
        [stream, floor, scale = inverse_temperature](float x, std::int64_t index) -> std::uint64_t {
          if (key_of(x, index) < floor) return 0;
          // A number in (0, 1) of 40 bits; its small values, which the winners have, are exact.
          const std::uint64_t bits = random_bits(stream, static_cast<std::uint64_t>(index));
          const float uniform = static_cast<float>(bits >> 24) * 0x1p-40f + 0x1p-41f;
          const float exponential = -log1pf(-fminf(uniform, 1 - 0x1p-24f));
          return key_of(x * scale - logf(exponential), index);
        };
  }
};

}  // namespace detail

template <class Choice>
struct BestTokenKernel {
  struct Params {
    Choice choice;
    const float* logits;  // [count]
    std::int64_t count;
    std::int32_t* id;  // or nullptr: its logit to scratch->highest
    SampleScratch* scratch;
  };
  static constexpr int threads = detail::sample_threads, blocks_per_sm = 4;
  struct SharedStorage {
    unsigned long long best[threads / 32];
  };

  __device__ void operator()(const Params& params, SharedStorage& shared) const {
    SampleScratch* scratch = params.scratch;
    unsigned long long best = 0;
    arch::let_successor_begin();
    arch::wait_for_predecessor();
    const auto choose = params.choice.begin(scratch);
    detail::for_share(params.logits, params.count, [&](float x, std::int64_t index) {
      const unsigned long long key = choose(x, index);
      best = key > best ? key : best;
    });
    best = of_warp(best);
    if (threadIdx.x % 32 == 0) shared.best[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (const unsigned long long other : shared.best) best = other > best ? other : best;
      atomicMax(&scratch->best, best);
    }
    if (!detail::is_last_block(&scratch->arrived) || threadIdx.x != 0) return;
    best = atomicExch(&scratch->best, 0ull);
    if (params.id != nullptr) *params.id = detail::index_of(best);
    scratch->highest = detail::of_order(static_cast<std::uint32_t>(best >> detail::index_bits));
  }

 private:
  __device__ static unsigned long long of_warp(unsigned long long best) {
    for (int width = 16; width > 0; width /= 2) {
      const unsigned long long other = __shfl_xor_sync(~0u, best, width);
      best = other > best ? other : best;
    }
    return best;
  }
};

namespace detail {

template <class Choice>
void launch_best_token(const Cuda& backend, Choice choice, const float* logits, std::int64_t count,
                       std::int32_t* id, SampleScratch* scratch) {
  launch_kernel<BestTokenKernel<Choice>>(
      backend,
      {.grid = static_cast<unsigned>(ceil_div(count, sample_share)),
       .overlaps_predecessor = compiled_arch() >= 90},
      {.choice = choice, .logits = logits, .count = count, .id = id, .scratch = scratch});
}

inline void require_logits(std::int64_t count) {
  require(count >= 1 && count <= most_logits, "a row of ", count, " logits: there must be 1 to ",
          most_logits);
}

}  // namespace detail

/// *id = the largest of `count` logits, the first of equals. NaN is below everything else; of
/// nothing but NaN, 0.
inline void argmax_row(const Cuda& backend, const float* logits, std::int64_t count,
                       std::int32_t* id, SampleScratch* scratch) {
  detail::require_logits(count);
  detail::launch_best_token(backend, detail::ByLogit{}, logits, count, id, scratch);
}

/// How sample_row draws: temperature, then top-k, then top-p, as Sampler does.
struct SampleOptions {
  float temperature = 1;   // 0: the largest logit
  std::int64_t top_k = 0;  // 0: all
  float top_p = 1;         // the fewest tokens whose probabilities reach it
  std::uint64_t seed = 0;
};

/// *id = a token drawn from `count` logits, none of them NaN. It depends on the logits, the options
/// and the position, which is read from device memory, and on nothing else: the same bits always.
inline void sample_row(const Cuda& backend, const float* logits, std::int64_t count,
                       const SampleOptions& options, const Position* position, std::int32_t* id,
                       SampleScratch* scratch) {
  detail::require_logits(count);
  require(options.temperature >= 0, "a temperature of ", options.temperature, " is below 0");
  require(options.top_k >= 0, "top-k of ", options.top_k, " is below 0");
  require(options.top_p > 0 && options.top_p <= 1, "top-p of ", options.top_p, " is not in (0, 1]");
  if (options.temperature == 0) {
    return detail::launch_best_token(backend, detail::ByLogit{}, logits, count, id, scratch);
  }
  const float inverse_temperature = 1 / options.temperature;
  const bool some = options.top_k > 0 && options.top_k < count;
  if (some) detail::select_top_k(backend, logits, count, options.top_k, scratch);
  if (options.top_p < 1) {
    detail::launch_best_token(backend, detail::ByLogit{}, logits, count, nullptr, scratch);
    detail::select_top_p(backend, logits, count, some, inverse_temperature, options.top_p, scratch);
  }
  detail::launch_best_token(backend,
                            detail::ByChance{.inverse_temperature = inverse_temperature,
                                             .seed = options.seed,
                                             .position = position,
                                             .above_floor = some || options.top_p < 1},
                            logits, count, id, scratch);
}

}  // namespace kvring
