// attend_mma at head_dim up to 128.
#include "mma_sweep.cuh"

using namespace kvring;
using namespace kvring::test;

namespace {

using Sinks = Attention<Swa<128>, Heads{.q = 16, .kv = 2, .dim = 64}>;
using Causal64 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 64}>;
using Itself = Attention<Swa<1>, Heads{.q = 2, .kv = 2, .dim = 64}>;
using Tiny = Attention<Swa<4096>, Heads{.q = 16, .kv = 1, .dim = 16}>;
using Odd48 = Attention<Swa<3>, Heads{.q = 3, .kv = 1, .dim = 48}>;
using Odd80 = Attention<Swa<65>, Heads{.q = 6, .kv = 2, .dim = 80}>;
using Causal96 = Attention<Dense, Heads{.q = 4, .kv = 1, .dim = 96}>;
using Odd112 = Attention<Swa<63>, Heads{.q = 7, .kv = 1, .dim = 112}>;
using Causal128 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 128}>;
using Five = Attention<Swa<64>, Heads{.q = 5, .kv = 1, .dim = 128}>;
using Wide128 = Attention<Swa<1000>, Heads{.q = 4, .kv = 1, .dim = 128}>;

TEST_CASE_TEMPLATE("device mma: random cases, head_dim to 128", T, bf16, f16) {
  if (no_gpu("device mma: random cases, head_dim to 128")) return;
  sweep<Sinks, T>(Prefill{}, 1, 60);
  sweep<Causal64, T>(Prefill{}, 2, 60);
  sweep<Itself, T>(Prefill{}, 3, 60);
  sweep<Tiny, T>(Prefill{}, 4, 60);
  sweep<Odd48, T>(Prefill{}, 5, 60);
  sweep<Odd80, T>(Prefill{}, 6, 60);
  sweep<Causal96, T>(Prefill{}, 7, 60);
  sweep<Odd112, T>(Prefill{}, 8, 60);
  sweep<Causal128, T>(Prefill{}, 9, 60);
  sweep<Five, T>(Prefill{}, 10, 60);
  sweep<Wide128, T>(Prefill{}, 11, 60);
}

TEST_CASE_TEMPLATE("device mma: chunks, rings and neighbours change no bit, head_dim to 128", T,
                   bf16, f16) {
  if (no_gpu("device mma: chunks, rings and neighbours change no bit, head_dim to 128")) return;
  invariance<Sinks, T>(Prefill{}, 21, 700, 0, {1, 7, 63, 64, 65, 200, 700});
  invariance<Causal64, T>(Prefill{}, 22, 500, 0, {1, 7, 127, 128, 129, 500});
  invariance<Causal128, T>(Prefill{}, 23, 500, 0, {1, 16, 17, 64, 500});
  invariance<Five, T>(Prefill{}, 24, 500, 0, {1, 13, 77, 500});
  invariance<Odd80, T>(Prefill{}, 25, 400, 0, {1, 64, 65, 400});
}

}  // namespace
