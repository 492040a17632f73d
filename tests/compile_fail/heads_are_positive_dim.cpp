// expect: kvring: q heads, kv heads and head dim must each be 1 or more
// also: HeadsArePositive
#include "kvring/layer.hpp"

using namespace kvring;

#ifdef KVRING_FIXED
constexpr Heads heads{.q = 4, .kv = 1, .dim = 1};
#else
constexpr Heads heads{.q = 4, .kv = 1, .dim = 0};
#endif
using Global = Layer<Dense, heads>;
static_assert(Global::heads == heads);
