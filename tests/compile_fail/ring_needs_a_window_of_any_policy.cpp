// expect: kvring: a Dense layer on a Ring would forget keys
// also: RingNeedsAWindow
// also: 4608
#include "kvring/layer.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 256};

/// No window, and not named Dense.
struct Everything {
  static constexpr std::int64_t window = unbounded;
  static constexpr Position first_visible(Position) { return {0}; }
};
#ifdef KVRING_FIXED
using Global = Layer<Everything, heads, Deduced>;
#else
using Global = Layer<Everything, heads, Ring<4608> >;
#endif
static_assert(Global::heads.q == 4);
