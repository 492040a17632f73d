// expect: kvring: chunk below 1
// also: ChunkIsPositive
#include "kvring/chunk.hpp"

using namespace kvring;

#ifdef KVRING_FIXED
using Rows = Chunk<1>;
#else
using Rows = Chunk<0>;
#endif
static_assert(Rows::rows >= 0);
