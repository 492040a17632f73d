// expect: kvring: a sliding window stated for the whole model without a layer pattern
// also: WindowNeedsAPattern
// also: Model
#include "kvring/plan.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
struct Model {
  static constexpr int sliding_window = 512;
  using Layers = Hybrid<18, Repeat<5, Local>, Global>;
};
#else
struct Model {
  static constexpr int sliding_window = 512;
};
#endif
using Planned = Plan<Model, bf16, Chunk<4096>>;
static_assert(Planned::layers > 0);
