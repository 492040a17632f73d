// expect: kvring: shared layers below 0
// also: SharedCountIsNotNegative
// also: -1
#include "kvring/plan.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
using TwelveLayers = Hybrid<12, Repeat<5, Local>, Global>;
#ifdef KVRING_FIXED
using HowShared = SharedKv<0>;
#else
using HowShared = SharedKv<-1>;
#endif

struct Model {
  using Layers = TwelveLayers;
  using Sharing = HowShared;
};
using Planned = Plan<Model, bf16, Chunk<4096>>;
static_assert(Planned::layers > 0);
