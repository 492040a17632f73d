// expect: kvring: ring of no slots
// also: RingIsPositive
#include "kvring/storage.hpp"

using namespace kvring;

#ifdef KVRING_FIXED
using Storage = Ring<1>;
#else
using Storage = Ring<0>;
#endif
static_assert(Storage::is_ring);
