// expect: kvring: KV donor has no cache of its own
// also: DonorOwnsItsCache
// also: 10
// also: 9
#include "kvring/plan.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
using TwelveLayers = Hybrid<12, Repeat<5, Local>, Global>;
#ifdef KVRING_FIXED
using HowShared = Donors<Donor<9, 8>, Donor<10, 8>>;
#else
using HowShared = Donors<Donor<9, 8>, Donor<10, 9>>;
#endif

struct Model {
  using Layers = TwelveLayers;
  using Sharing = HowShared;
};
using Planned = Plan<Model, bf16, Chunk<4096>>;
static_assert(Planned::layers > 0);
