// The conformance suite on GPT-OSS 20B: f16, windows of 128, eight query heads a kv head, and
// chunks that are staged beside rings of 192 slots.
#include "kvring/models/gpt_oss.hpp"
#include "kvring/testing/conformance.hpp"

namespace {

using GptOss_20B = kvring::Plan<kvring::models::GptOss_20B, kvring::f16, kvring::StagedChunk<512>,
                                kvring::Rewind<16>>;
static_assert(GptOss_20B::ring_slots<0>() == 192);
KVRING_CONFORMANCE_SUITE(GptOss_20B);

}  // namespace
