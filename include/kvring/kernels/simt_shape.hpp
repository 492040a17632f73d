// SimtShape: how a block of attend_simt is cut, chosen at compile time.
#pragma once

#include <cstdint>

#include "kvring/kernels/mma_shape.hpp"

namespace kvring {

/// A block of 256 threads attends with `rows` packed query rows over tiles of `keys` keys. A
/// query's bits depend on `keys`, and not on `rows`.
struct SimtShape {
  int rows, keys;
  int blocks_per_sm = 1;
};

/// The largest that shared memory holds: the more rows, the more products for each load.
constexpr SimtShape simt_shape(std::int64_t head_dim, int arch) {
  const int shared = shared_bytes_per_block(arch);
  const bool small = shared<100 * 1024, large = shared> 200 * 1024;
  if (head_dim <= 128) return small ? SimtShape{64, 32} : SimtShape{128, 64};
  if (head_dim <= 256)
    return large ? SimtShape{64, 64} : small ? SimtShape{32, 16} : SimtShape{64, 32};
  return large ? SimtShape{32, 32} : SimtShape{16, 16};
}

}  // namespace kvring
