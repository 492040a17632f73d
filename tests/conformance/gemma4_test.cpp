// The conformance suite on Gemma 4 E4B: rings of 4,608 slots, head dims of 256 and 512, donors.
#include "kvring/models/gemma4.hpp"
#include "kvring/testing/conformance.hpp"

namespace {

using Gemma4_E4B =
    kvring::Plan<kvring::models::Gemma4_E4B, kvring::bf16, kvring::Chunk<4096>, kvring::Rewind<64>>;
KVRING_CONFORMANCE_SUITE(Gemma4_E4B);

}  // namespace
