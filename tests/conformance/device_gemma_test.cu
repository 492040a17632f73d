// The conformance suite on a GPU: Gemma 4 E4B by the kernels that attend_prefill chooses for head
// dims of 256 and 512, and Gemma 3 270M with f32 caches.
#include "device_skips.cuh"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/testing/conformance.hpp"

namespace {

using Gemma4_E4B =
    kvring::Plan<kvring::models::Gemma4_E4B, kvring::bf16, kvring::Chunk<4096>, kvring::Rewind<64>>;
KVRING_CONFORMANCE_SUITE_ON(kvring::Cuda, Gemma4_E4B);

using Gemma3_270M =
    kvring::Plan<kvring::models::Gemma3_270M, kvring::f32, kvring::Chunk<4096>, kvring::Rewind<64>>;
KVRING_CONFORMANCE_SUITE_ON(kvring::Cuda, Gemma3_270M);

}  // namespace
