// Rope: the rotary embedding of a layer kind, as data.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

/// NeoX pairing: value i of a head rotates with value i + rotated / 2, by the angle
/// position / scaling * theta^(-2 i / rotated). Values from `rotated` on are left as they are.
struct Rope {
  double theta = 10'000;
  double scaling = 1;        // linear scaling: positions are divided by it
  std::int64_t rotated = 0;  // values of a head that are paired, even
  std::int64_t turning = 0;  // leading pairs that turn; the others keep angle 0 ("proportional"
                             // rotary of Gemma 4). 0: all of them
};

}  // namespace kvring
