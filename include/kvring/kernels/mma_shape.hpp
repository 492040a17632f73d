// MmaShape: how a block of the tensor-core kernels is cut, chosen at compile time.
#pragma once

#include <cstdint>

#include "kvring/heads.hpp"
#include "kvring/policy.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// A block attends with `rows` packed query rows over tiles of `keys` keys. Its warps form
/// row_warps x column_warps: a warp holds the sums of rows / row_warps rows and of its share of the
/// head's columns. A query's bits depend on `keys` and `column_warps`, and on
/// whether row_warps is 1.
struct MmaShape {
  int rows, keys;
  int row_warps, column_warps;
  int blocks_per_sm;

  constexpr int warps() const { return row_warps * column_warps; }
  constexpr int threads() const { return 32 * warps(); }
  friend constexpr bool operator==(const MmaShape&, const MmaShape&) = default;
};

/// Shared memory that one block may have, in bytes: CUDA C++ Programming Guide, "Technical
/// Specifications per Compute Capability". `arch` is 10 * major + minor.
constexpr int shared_bytes_per_block(int arch) {
  const bool small = arch == 86 || arch == 89 || arch >= 120;
  return (small ? 99 : arch < 90 ? 163 : 227) * 1024;
}

/// The smallest architecture that this translation unit is compiled for, and so the one whose
/// shared memory every shape must fit.
constexpr int compiled_arch() {
#if defined(__CUDA_ARCH_LIST__)
  constexpr int list[] = {__CUDA_ARCH_LIST__};
  int smallest = list[0];
  for (const int arch : list) {
    if (shared_bytes_per_block(arch / 10) < shared_bytes_per_block(smallest / 10)) smallest = arch;
  }
  return smallest / 10;
#else
  return 90;
#endif
}

/// Prefill shapes. The rules, measured on an H100 (docs/performance.md): a warp owns 32 rows, so
/// that each fragment of K and V feeds two products; sums stay within 128 registers a thread; two
/// blocks or more an SM hide each other's softmax, where shared memory has room for them.
constexpr MmaShape prefill_shape(std::int64_t head_dim, std::int64_t window, int arch) {
  const int shared = shared_bytes_per_block(arch);
  const bool small = shared<100 * 1024, large = shared> 200 * 1024;
  const bool narrow = window <= 256;
  if (head_dim <= 64) {
    if (narrow) return {64, 64, 4, 1, 5};
    return {128, window == unbounded ? 96 : 64, 4, 1, 2};
  }
  if (head_dim <= 96) return {128, 64, 4, 1, 2};
  if (head_dim <= 128) {
    return large   ? MmaShape{64, 64, 2, 1, 4}
           : small ? MmaShape{64, 64, 2, 1, 2}
                   : MmaShape{128, 64, 4, 1, 2};
  }
  if (head_dim <= 256) {
    return large   ? MmaShape{64, 64, 2, 2, 2}
           : small ? MmaShape{64, 64, 4, 1, 1}
                   : MmaShape{128, 64, 4, 2, 1};
  }
  return large   ? MmaShape{64, 64, 2, 4, 1}
         : small ? MmaShape{32, 32, 2, 2, 1}
                 : MmaShape{64, 32, 4, 2, 1};
}

/// The shape that attend_mma runs a kind of layer with. Specialise `shape` for a policy and heads
/// of your own to override the choice:
/// template <> struct kvring::PrefillShape<MyPolicy, my_heads> {
///   static constexpr kvring::MmaShape shape{64, 64, 4, 1, 2};
/// };
template <LayerPolicy Policy, Heads Shape>
struct PrefillShape {
  static constexpr MmaShape shape = prefill_shape(Shape.dim, Policy::window, compiled_arch());
};

}  // namespace kvring
