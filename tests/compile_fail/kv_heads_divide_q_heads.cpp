// expect: kvring: q heads are no multiple of kv heads
// also: KvHeadsDivideQHeads
// also: 8
// also: 3
#include "kvring/layer.hpp"

using namespace kvring;

#ifdef KVRING_FIXED
constexpr Heads heads{.q = 9, .kv = 3, .dim = 64};
#else
constexpr Heads heads{.q = 8, .kv = 3, .dim = 64};
#endif
using Global = Layer<Dense, heads>;
static_assert(Global::heads == heads);
