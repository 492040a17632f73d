// expect: kvring: ring too small
// also: RingHoldsWindowAndChunk
// also: 511
// also: 512
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
#ifdef KVRING_FIXED
using Local = Layer<Swa<512>, heads, Ring<512>>;
#else
using Local = Layer<Swa<512>, heads, Ring<511>>;
#endif
using Placed = Placement<Local, Chunk<1>, Rewind<1>, KeyTile<1>>;
static_assert(Placed::is_ring);
