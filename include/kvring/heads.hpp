// The head shape of a layer kind.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

/// Query heads, key/value heads and the width of each. Query head h reads kv head h / group().
struct Heads {
  std::int64_t q = 0;
  std::int64_t kv = 0;
  std::int64_t dim = 0;

  KVRING_HD constexpr std::int64_t group() const { return q / kv; }     // query heads of a kv head
  KVRING_HD constexpr std::int64_t q_dim() const { return q * dim; }    // values in a row of Q
  KVRING_HD constexpr std::int64_t kv_dim() const { return kv * dim; }  // values in a row of K or V
  friend constexpr bool operator==(Heads, Heads) = default;
};

}  // namespace kvring
