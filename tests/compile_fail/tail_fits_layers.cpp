// expect: kvring: the pattern does not fill the layer count
// also: PatternFillsLayers
#include "kvring/hybrid.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
using Layers = Hybrid<2, Global, Tail<Local, Local>>;
#else
using Layers = Hybrid<1, Global, Tail<Local, Local>>;
#endif
static_assert(Layers::layers >= 0);
