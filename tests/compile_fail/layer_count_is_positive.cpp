// expect: kvring: layer count below 1
// also: LayerCountIsPositive
#include "kvring/hybrid.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
using Layers = Hybrid<1, Global>;
#else
using Layers = Hybrid<0, Global>;
#endif
static_assert(Layers::layers >= 0);
