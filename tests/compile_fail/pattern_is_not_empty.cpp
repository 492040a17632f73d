// expect: kvring: empty layer pattern
// also: PatternIsNotEmpty
#include "kvring/hybrid.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
using Layers = Hybrid<18, Global>;
#else
using Layers = Hybrid<18>;
#endif
static_assert(Layers::layers >= 0);
