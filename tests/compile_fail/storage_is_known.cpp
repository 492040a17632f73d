// expect: kvring: storage must be Full, Ring<Slots> or Deduced
// also: StorageIsKnown
// also: Paged
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Paged {};
#ifdef KVRING_FIXED
using Global = Layer<Dense, heads, Full>;
#else
using Global = Layer<Dense, heads, Paged>;
#endif
static_assert(Global::heads.q == 4);
