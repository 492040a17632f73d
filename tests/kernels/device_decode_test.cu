// attend_decode: few rows of each sequence, the keys in parts.
#include <type_traits>

#include "kvring/kernels/decode.cuh"
#include "mma_sweep.cuh"

using namespace kvring;
using namespace kvring::test;

namespace {

/// Decodes in `plan`'s parts, or in as many as the shape of the cache asks for.
template <std::int64_t rows>
struct Decode {
  static constexpr std::int64_t most_rows = rows;
  DecodePlan plan{.parts = 0};

  template <class P, class View>
  void operator()(const Cuda& gpu, P policy, View view, Batch batch,
                  const typename View::Element* q, typename View::Element* out, Scores score) {
    const DecodePlan chosen =
        plan.parts > 0 ? plan : plan_decode<P, View::heads>(view.slots, batch.count, 132);
    Buffer<float, Cuda> scratch(gpu, chosen.scratch_floats(View::heads, batch.rows) + 4);
    fill_with<<<64, 256, 0, gpu.stream>>>(scratch.data(), scratch.size(), NAN);
    attend_decode<rows>(gpu, policy, view, batch, q, out, score, chosen, scratch.data());
  }
};

using Sinks = Attention<Swa<128>, Heads{.q = 16, .kv = 2, .dim = 64}>;
using Odd80 = Attention<Swa<65>, Heads{.q = 6, .kv = 2, .dim = 80}>;
using Causal96 = Attention<Dense, Heads{.q = 4, .kv = 1, .dim = 96}>;
using Causal128 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 128}>;
using Itself = Attention<Swa<1>, Heads{.q = 5, .kv = 1, .dim = 128}>;
using Local256 = Attention<Swa<512>, Heads{.q = 8, .kv = 2, .dim = 256}>;
using Causal256 = Attention<Dense, Heads{.q = 4, .kv = 1, .dim = 256}>;
using Sixteen512 = Attention<Dense, Heads{.q = 16, .kv = 1, .dim = 512}>;

/// Whether what is compiled for has clusters as wide as a plan wants, as sm_90 has.
constexpr bool has_cluster(DecodePlan plan) {
  return !plan.one_launch || plan.parts <= 8 || has_wide_clusters(compiled_arch());
}

// A window of 512 in clusters of 16, if the GPU has a block's room for each part; else of 8.
constexpr DecodePlan planned(std::int64_t sequences, int arch) {
  return plan_decode<Swa<512>, Heads{.q = 8, .kv = 2, .dim = 256}>(4608, sequences, 132, arch);
}
static_assert(planned(1, 90).parts == 16 && planned(4, 90).one_launch);
static_assert(planned(5, 90).parts == 8 && planned(1, 120).parts == 8);
static_assert(planned(1, 80).parts > 1 && !planned(1, 80).one_launch);

TEST_CASE_TEMPLATE("device decode: random cases", T, bf16, f16) {
  if (no_gpu("device decode: random cases")) return;
  for (const DecodePlan plan :
       {DecodePlan{.parts = 0}, DecodePlan{1}, DecodePlan{3}, DecodePlan{4, true},
        DecodePlan{8, true}, DecodePlan{16, true}, DecodePlan{33}}) {
    if (!has_cluster(plan)) continue;
    CAPTURE(plan.parts);
    const std::uint64_t seed = 100 + 10 * static_cast<std::uint64_t>(plan.parts);
    sweep<Sinks, T>(Decode<1>{plan}, seed + 1, 12);
    sweep<Odd80, T>(Decode<16>{plan}, seed + 2, 12);
    sweep<Causal96, T>(Decode<3>{plan}, seed + 3, 12);
    sweep<Causal128, T>(Decode<1>{plan}, seed + 4, 12);
    sweep<Itself, T>(Decode<16>{plan}, seed + 5, 12);
    sweep<Local256, T>(Decode<1>{plan}, seed + 6, 12);
    sweep<Local256, T>(Decode<9>{plan}, seed + 7, 12);
    sweep<Causal256, T>(Decode<4>{plan}, seed + 8, 12);
    sweep<Sixteen512, T>(Decode<2>{plan}, seed + 9, 12);
  }
}

/// One row at a time or sixteen, in a ring or a full cache, alone or beside others: the same bits.
template <class A, class T>
void same_bits(DecodePlan plan, std::int64_t length, std::int64_t first) {
  if (!has_cluster(plan)) return;
  CAPTURE(plan.parts);
  const Stream stream;
  const Cuda gpu = stream.backend();
  const DevicePrompt<A::heads, T> prompt(gpu, 7, length);
  const Scores score{.scale = 0.1f};
  const auto one = by_chunks<A, T>(gpu, Decode<1>{plan}, prompt, first, 1, length, score);
  invariance<A, T>(Decode<1>{plan}, 7, length, first, {1});
  invariance<A, T>(Decode<16>{plan}, 7, length, first, {1, 2, 7, 16});
  CHECK(differing_bytes(by_chunks<A, T>(gpu, Decode<16>{plan}, prompt, first, 16, length, score),
                        one) == 0);
}

TEST_CASE_TEMPLATE("device decode: rows, rings and neighbours change no bit", T, bf16, f16) {
  if (no_gpu("device decode: rows, rings and neighbours change no bit")) return;
  same_bits<Sinks, T>({4, true}, 400, 100);
  same_bits<Causal128, T>({33}, 700, 500);
  same_bits<Local256, T>({8, true}, 1300, 1000);
  same_bits<Local256, T>({16, true}, 1300, 1000);
  same_bits<Sinks, T>({16, true}, 400, 100);
  same_bits<Local256, T>({1}, 700, 600);
  same_bits<Itself, T>({4, true}, 200, 0);
}

}  // namespace
