// expect: kvring: ring too small for a staged chunk: Ring<Slots> must hold Window - 1 + max(Rewind,
// 1) slots also: StagedRingHoldsWindow also: 511 also: 512
#include "kvring/layer.hpp"

using namespace kvring;

// Nothing is taken back, but a decoded token is appended to the ring before it attends.
constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
#ifdef KVRING_FIXED
using Local = Layer<Swa<512>, heads, Ring<512>>;
#else
using Local = Layer<Swa<512>, heads, Ring<511>>;
#endif
using Placed = Placement<Local, StagedChunk<4096>, Rewind<0>, KeyTile<1>>;
static_assert(Placed::is_staged);
