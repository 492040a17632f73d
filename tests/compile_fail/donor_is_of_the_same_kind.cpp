// expect: kvring: KV donor is of another kind
// also: DonorIsOfTheSameKind
// also: 11
// also: 6
#include "kvring/plan.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
using TwelveLayers = Hybrid<12, Repeat<5, Local>, Global>;
#ifdef KVRING_FIXED
using HowShared = Donors<Donor<11, 5>>;
#else
using HowShared = Donors<Donor<11, 6>>;
#endif

struct Model {
  using Layers = TwelveLayers;
  using Sharing = HowShared;
};
using Planned = Plan<Model, bf16, Chunk<4096>>;
static_assert(Planned::layers > 0);
