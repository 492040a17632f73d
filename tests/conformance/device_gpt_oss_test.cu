// The conformance suite on a GPU: GPT-OSS 20B in f16, by the kernels of prefill and by the one of
// decode.
#include "device_skips.cuh"
#include "kvring/kernels/decode.cuh"
#include "kvring/models/gpt_oss.hpp"
#include "kvring/testing/conformance.hpp"

namespace {

using namespace kvring;

using GptOss_20B = Plan<models::GptOss_20B, f16, Chunk<512>, Rewind<16>>;
KVRING_CONFORMANCE_SUITE_ON(Cuda, GptOss_20B);

/// attend_decode, which takes up to `most` rows of a sequence: as many launches as the longest
/// segment needs, each of one segment.
struct Decode : testing::conformance::LibraryKernels {
  static constexpr std::int64_t most = 4;
  // Which part attends to a tile follows from its position: a window's three tiles have four parts.
  static constexpr std::int64_t start_step = 4 * 64;

  template <LayerPolicy Policy, std::int64_t Tile, class View, class Row>
  static void attend(const Cuda& gpu, Policy policy, KeyTile<Tile>, View cache, Batch host_batch,
                     Batch, const Row* q, Row* out, Scores score) {
    // Settled by the plan, not by the batch.
    constexpr DecodePlan plan = plan_decode<Policy, View::heads>(1024, 1, 132);
    static_assert(Policy::window == unbounded || plan.parts == 4);
    Buffer<float, Cuda> scratch(gpu, plan.scratch_floats(View::heads, most));
    for (std::int64_t s = 0; s < host_batch.count; ++s) {
      Segment segment = host_batch.segments[s];
      const std::int64_t end = segment.first_row + segment.rows;
      for (std::int64_t row = segment.first_row; row < end; row += most) {
        const Segment piece{.sequence = segment.sequence,
                            .start = segment.start + (row - segment.first_row),
                            .first_row = 0,
                            .rows = smaller(most, end - row)};
        Buffer<Segment, Cuda> there(gpu, 1);
        there.from_host(&piece, 1);
        attend_decode<most>(gpu, policy, cache,
                            {.segments = there.data(), .count = 1, .rows = piece.rows},
                            q + row * View::heads.q_dim(), out + row * View::heads.q_dim(), score,
                            plan, scratch.data());
      }
    }
  }
};
KVRING_CONFORMANCE_SUITE_ON(Cuda, GptOss_20B, Decode);

}  // namespace
