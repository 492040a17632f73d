// expect: kvring: window below 1
// also: WindowIsPositive
#include "kvring/policy.hpp"

using namespace kvring;

#ifdef KVRING_FIXED
using Policy = Swa<1>;
#else
using Policy = Swa<0>;
#endif
static_assert(Policy::window >= 0);
