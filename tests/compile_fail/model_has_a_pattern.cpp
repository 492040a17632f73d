// expect: kvring: the model names no layers
// also: ModelHasAPattern
// also: Model
#include "kvring/plan.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
struct Model {
  using Layers = Hybrid<18, Repeat<5, Local>, Global>;
};
#else
struct Model {};
#endif
using Planned = Plan<Model, bf16, Chunk<4096>>;
static_assert(Planned::layers > 0);
