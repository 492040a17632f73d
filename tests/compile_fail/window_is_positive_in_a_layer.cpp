// expect: kvring: window below 1
// also: -512
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};
#ifdef KVRING_FIXED
using Local = Layer<Swa<512>, heads>;
#else
using Local = Layer<Swa<-512>, heads>;
#endif
static_assert(Local::heads.q == 4);
