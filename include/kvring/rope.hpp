// Rope: the rotary embedding of a layer kind, as data.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring {

/// Scaling by parts ("llama3" of transformers), for contexts longer than the one that a model was
/// first trained on: pairs that turn often within `original_context` stay as they are, those that
/// turn seldom are slowed by `factor`, and those between are mixed.
struct RopeParts {
  double factor = 1;
  double low = 1, high = 4;           // turns: at most so many are few, at least so many are many
  std::int64_t original_context = 0;  // 0: no scaling by parts
};

/// NeoX pairing: value i of a head rotates with value i + rotated / 2, by the angle
/// position / scaling * theta^(-2 i / rotated). Values from `rotated` on are left as they are.
struct Rope {
  double theta = 10'000;
  double scaling = 1;        // linear scaling: positions are divided by it
  std::int64_t rotated = 0;  // values of a head that are paired, even
  std::int64_t turning = 0;  // leading pairs that turn; the others keep angle 0 ("proportional"
                             // rotary of Gemma 4). 0: all of them
  RopeParts parts{};

  KVRING_HD constexpr bool turns(std::int64_t pair) const { return turning == 0 || pair < turning; }
  KVRING_HD constexpr bool by_parts() const { return parts.original_context > 0; }
};

}  // namespace kvring
