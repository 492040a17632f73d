// Which kernel attends in prefill, and the shapes of the one that has a shape for each head dim.
#include "kvring/kernels/prefill_kernel.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

using namespace kvring;

namespace {

constexpr PrefillKernel mma = PrefillKernel::mma, wgmma = PrefillKernel::wgmma;

template <std::int64_t dim>
constexpr Heads grouped{.q = 8, .kv = 2, .dim = dim};

// On a host, or where sm_90a alone is compiled for.
static_assert(prefill_kernel<Dense, grouped<64>, bf16> == wgmma);
static_assert(prefill_kernel<Dense, grouped<96>, bf16> == wgmma);
static_assert(prefill_kernel<Swa<128>, grouped<96>, f16> == wgmma);
static_assert(prefill_kernel<Dense, grouped<128>, bf16> == wgmma);
static_assert(prefill_kernel<Dense, grouped<192>, f16> == wgmma);
static_assert(prefill_kernel<Swa<1024>, grouped<192>, bf16> == wgmma);
static_assert(prefill_kernel<Dense, grouped<256>, bf16> == wgmma);
static_assert(prefill_kernel<Dense, grouped<512>, bf16> == PrefillKernel::wgmma512);
static_assert(prefill_kernel<Swa<512>, grouped<512>, bf16> == mma);
static_assert(prefill_kernel<Dense, grouped<80>, bf16> == mma);
static_assert(prefill_kernel<Dense, grouped<160>, bf16> == mma);
static_assert(prefill_kernel<Dense, Heads{.q = 6, .kv = 2, .dim = 96}, bf16> == mma);

TEST_CASE("prefill: the shapes of attend_wgmma fit a multiprocessor of Hopper") {
  std::vector<std::int64_t> dims;
  for (std::int64_t dim = 16; dim <= 512; dim += 16) {
    if (has_wgmma_shape(dim)) dims.push_back(dim);
  }
  CHECK(dims == std::vector<std::int64_t>{64, 96, 128, 192, 256});
  for (const std::int64_t dim : dims) {
    for (const std::int64_t window : {std::int64_t{128}, std::int64_t{1024}, unbounded}) {
      CAPTURE(dim);
      CAPTURE(window);
      const WgmmaShape shape = wgmma_shape(dim, window);
      const std::int64_t row = 2 * dim, queries = 2 * 128 * row;
      const std::int64_t slots = std::int64_t{shape.slots} * shape.keys * row;
      CHECK(queries + slots <= shared_bytes_per_block(90) - 1024);  // barriers and items
      CHECK(shape.slots >= 3);  // V of one item, K of the next, and one on its way
      // Sums, scores and probabilities of a thread, beside 32 of all else.
      const std::int64_t registers = (3 * 168 - shape.loading_registers) / 2;
      CHECK(dim / 2 + shape.keys / 2 + shape.keys / 4 + 32 <= registers);
      // Blocks of columns are whole boxes, and a tile is, or has, whole tiles of 64 slots.
      CHECK(dim % block_columns(dim) == 0);
      CHECK(shape.keys % 64 == 0);
    }
  }
}

}  // namespace
