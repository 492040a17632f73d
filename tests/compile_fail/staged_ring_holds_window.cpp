// expect: kvring: ring too small for a staged chunk: Ring<Slots> must hold Window - 1 + max(Rewind,
// 1) slots also: StagedRingHoldsWindow also: 574 also: 575
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
#ifdef KVRING_FIXED
using Local = Layer<Swa<512>, heads, Ring<575>>;
#else
using Local = Layer<Swa<512>, heads, Ring<574>>;
#endif
using Placed = Placement<Local, StagedChunk<4096>, Rewind<64>, KeyTile<1>>;
static_assert(Placed::is_staged);
