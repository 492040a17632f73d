// The conformance suite on plans at the edges: one key in sight, one row a chunk, tiles of one key,
// heads of one value, rings written out, a window on a full cache.
#include "kvring/testing/conformance.hpp"

namespace {

using namespace kvring;

struct Self : Layer<Swa<1>, Heads{.q = 1, .kv = 1, .dim = 1}> {};
struct Written : Layer<Swa<5>, Heads{.q = 3, .kv = 3, .dim = 7}, Ring<16>> {};
struct OnFull : Layer<Swa<7>, Heads{.q = 5, .kv = 1, .dim = 20}, Full> {};
struct Global : Layer<Dense, Heads{.q = 2, .kv = 1, .dim = 65}> {};

/// Rings alone: nothing but the context itself ends a sequence.
struct Windows {
  using Layers = Hybrid<4, Written, Self>;
  using Sharing = Donors<Donor<2, 0>>;
};
using TokenByToken = Plan<Windows, f32, Chunk<1>, Rewind<0>, KeyTile<1>>;
static_assert(TokenByToken::ring_slots<1>() == 1);
KVRING_CONFORMANCE_SUITE(TokenByToken);

struct Mixed {
  using Layers = Hybrid<6, Global, Self, OnFull>;
  using Sharing = Donors<Donor<3, 0>, Donor<5, 2>>;
};
using Staged = Plan<Mixed, bf16, StagedChunk<37>, Rewind<3>, KeyTile<8>>;
static_assert(Staged::ring_slots<1>() == 8);
KVRING_CONFORMANCE_SUITE(Staged);

}  // namespace
