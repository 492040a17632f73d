// expect: kvring: chunk longer than the headroom Slots - (Window - 1)
// also: ChunkFitsHeadroom
// also: 4098
// also: 4097
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
using Local = Layer<Swa<512>, heads, Ring<4608>>;
#ifdef KVRING_FIXED
using Rows = Chunk<4097>;
#else
using Rows = Chunk<4098>;
#endif
using Placed = Placement<Local, Rows, Rewind<64>, KeyTile<64>>;
static_assert(Placed::is_ring);
