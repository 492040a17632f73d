// expect: kvring: Repeat<Count, Kind> needs a count of 1 or more
// also: RepeatIsPositive
#include "kvring/hybrid.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
using Locals = Repeat<1, Local>;
#else
using Locals = Repeat<0, Local>;
#endif
static_assert(sizeof(Locals) > 0);
