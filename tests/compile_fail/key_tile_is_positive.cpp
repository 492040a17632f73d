// expect: kvring: key tile below 1
// also: KeyTileIsPositive
#include "kvring/chunk.hpp"

using namespace kvring;

#ifdef KVRING_FIXED
using Tile = KeyTile<1>;
#else
using Tile = KeyTile<0>;
#endif
static_assert(Tile::keys >= 0);
