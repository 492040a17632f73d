// expect: kvring: rewind deeper than the headroom Slots - (Window - 1)
// also: RewindFitsHeadroom
// also: 4098
// also: 4097
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
using Local = Layer<Swa<512>, heads, Ring<4608>>;
#ifdef KVRING_FIXED
using Back = Rewind<4097>;
#else
using Back = Rewind<4098>;
#endif
using Placed = Placement<Local, Chunk<4096>, Back, KeyTile<64>>;
static_assert(Placed::is_ring);
