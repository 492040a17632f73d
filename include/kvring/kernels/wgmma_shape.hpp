// WgmmaShape: how a block of the Hopper kernel is cut, chosen at compile time.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kvring/element.hpp"
#include "kvring/heads.hpp"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/policy.hpp"

namespace kvring {

/// Two warpgroups attend with 64 packed query rows each over tiles of `keys` keys, which travel
/// through `slots` buffers, K and V in turn. `ordered`: the warpgroups issue their products in
/// turns, so that one's softmax meets the other's products.
struct WgmmaShape {
  int keys, slots;
  bool ordered;
  int loading_registers = 56;  // of a thread of the third warpgroup
};

/// Columns that lie together in shared memory: 64, or 32 where a head is no multiple of 64.
constexpr int block_columns(std::int64_t head_dim) { return head_dim % 64 == 0 ? 64 : 32; }

/// Queries, twice, and the slots fill an SM's shared memory. Measured on an H100
/// (docs/performance.md).
constexpr WgmmaShape wgmma_shape(std::int64_t head_dim, std::int64_t window) {
  if (head_dim == 64) return window <= 256 ? WgmmaShape{64, 12, false} : WgmmaShape{128, 8, true};
  if (head_dim == 96) return window <= 512 ? WgmmaShape{64, 14, false} : WgmmaShape{128, 7, true};
  if (head_dim == 128) return {128, 5, true};
  if (head_dim == 192) return {64, 5, false};
  return {64, 3, false, 40};
}

/// Head dims that attend_wgmma has a shape for.
constexpr bool has_wgmma_shape(std::int64_t head_dim) {
  return head_dim == 64 || head_dim == 96 || head_dim == 128 || head_dim == 192 || head_dim == 256;
}

/// Whether attend_wgmma exists for a kind of layer: one of its head dims, and groups that divide a
/// warpgroup's 64 rows.
template <Heads heads, class T>
inline constexpr bool wgmma_fits = has_wgmma_shape(heads.dim) && 64 % heads.group() == 0 &&
                                   (std::is_same_v<T, bf16> || std::is_same_v<T, f16>);

/// A block of attend_wgmma512 attends for `rows` packed query rows over tiles of `keys` keys; the
/// blocks of a cluster share tiles, which travel through `slots` buffers of 16 KiB.
struct Wgmma512Shape {
  int rows, cluster, keys, slots;
};
inline constexpr Wgmma512Shape wgmma512_shape{64, 2, 64, 9};

/// Whether attend_wgmma512 exists for a kind of layer: groups must divide a block's 64 rows.
template <Heads heads, class T>
inline constexpr bool wgmma512_fits = heads.dim == 512 &&
                                      wgmma512_shape.rows % heads.group() == 0 &&
                                      (std::is_same_v<T, bf16> || std::is_same_v<T, f16>);

}  // namespace kvring
