// expect: kvring: KV donor does not exist
// also: DonorExists
// also: 12
#include "kvring/plan.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
using TwelveLayers = Hybrid<12, Repeat<5, Local>, Global>;
#ifdef KVRING_FIXED
using HowShared = Donors<Donor<10, 9>>;
#else
using HowShared = Donors<Donor<10, 12>>;
#endif

struct Model {
  using Layers = TwelveLayers;
  using Sharing = HowShared;
};
using Planned = Plan<Model, bf16, Chunk<4096>>;
static_assert(Planned::layers > 0);
