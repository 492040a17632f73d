// expect: kvring: the pattern does not fill the layer count
// also: PatternFillsLayers
// also: 26
#include "kvring/hybrid.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
struct Local : Layer<Swa<512>, heads> {};
struct Global : Layer<Dense, heads> {};
#ifdef KVRING_FIXED
using Layers = Hybrid<26, Repeat<5, Local>, Global, Tail<Local, Local>>;
#else
using Layers = Hybrid<26, Repeat<5, Local>, Global, Tail<Local>>;
#endif
static_assert(Layers::layers >= 0);
