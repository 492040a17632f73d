// expect: kvring: ring is no multiple of its key tile
// also: RingIsWholeTiles
// also: 4607
// also: 64
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
#ifdef KVRING_FIXED
using Local = Layer<Swa<512>, heads, Ring<4608>>;
#else
using Local = Layer<Swa<512>, heads, Ring<4607>>;
#endif
using Placed = Placement<Local, Chunk<4096>, Rewind<64>, KeyTile<64>>;
static_assert(Placed::is_ring);
