// expect: kvring: ring too small: Ring<Slots> must hold Window - 1 + max(Chunk, Rewind) slots
// also: RingHoldsWindowAndChunk
// also: 1022
// also: 1023
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
#ifdef KVRING_FIXED
using Local = Layer<Swa<512>, heads, Ring<1023>>;
#else
using Local = Layer<Swa<512>, heads, Ring<1022>>;
#endif
using Placed = Placement<Local, Chunk<64>, Rewind<512>, KeyTile<1>>;
static_assert(Placed::is_ring);
