// A model that nobody has published: a dense layer first, two local ones for each, windows of 384
// keys, heads of 80 values; and the last three layers read caches of others.
#pragma once

#include "kvring/plan.hpp"

namespace own {

inline constexpr kvring::Heads heads{.q = 12, .kv = 3, .dim = 80};

struct Local : kvring::Layer<kvring::Swa<384>, heads> {};
struct Global : kvring::Layer<kvring::Dense, heads> {};

struct Model {
  using Layers = kvring::Hybrid<12, Global, kvring::Repeat<2, Local>>;
  using Sharing = kvring::SharedKv<3>;  // 9 reads the cache of 6; 10 and 11 that of 8
};

using Plan = kvring::Plan<Model, kvring::bf16, kvring::Chunk<500>, kvring::Rewind<24>>;
static_assert(Plan::ring_slots<1>() == 896);  // 384 - 1 + 500, rounded up to tiles of 64

}  // namespace own
