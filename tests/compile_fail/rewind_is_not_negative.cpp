// expect: kvring: rewind below 0
// also: RewindIsNotNegative
// also: -1
#include "kvring/chunk.hpp"

using namespace kvring;

#ifdef KVRING_FIXED
using Back = Rewind<0>;
#else
using Back = Rewind<-1>;
#endif
static_assert(Back::rows < 1);
