// expect: kvring: the pattern does not fill the layer count
// also: PatternFillsLayers
// also: 19
#include "kvring/hybrid.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
using Layers = Hybrid<18, Repeat<5, Local>, Global>;
#else
using Layers = Hybrid<19, Repeat<5, Local>, Global>;
#endif
static_assert(Layers::layers >= 0);
