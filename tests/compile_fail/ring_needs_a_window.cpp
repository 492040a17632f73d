// expect: kvring: a Dense layer on a Ring would forget keys
// also: RingNeedsAWindow
// also: 4608
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
#ifdef KVRING_FIXED
using Global = Layer<Dense, heads, Full>;
#else
using Global = Layer<Dense, heads, Ring<4608> >;
#endif
static_assert(Global::heads.q == 4);
