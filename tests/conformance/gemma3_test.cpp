// The conformance suite on Gemma 3 270M with f32 caches, as the programs run it.
#include "kvring/models/gemma3.hpp"
#include "kvring/testing/conformance.hpp"

namespace {

using Gemma3_270M =
    kvring::Plan<kvring::models::Gemma3_270M, kvring::f32, kvring::Chunk<4096>, kvring::Rewind<64>>;
KVRING_CONFORMANCE_SUITE(Gemma3_270M);

}  // namespace
