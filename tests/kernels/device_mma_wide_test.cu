// attend_mma at head_dim above 128.
#include "mma_sweep.cuh"

using namespace kvring;
using namespace kvring::test;

namespace {

using Odd144 = Attention<Swa<127>, Heads{.q = 2, .kv = 1, .dim = 144}>;
using Causal192 = Attention<Dense, Heads{.q = 6, .kv = 1, .dim = 192}>;
using Local256 = Attention<Swa<512>, Heads{.q = 8, .kv = 2, .dim = 256}>;
using Local256Two = Attention<Swa<1024>, Heads{.q = 4, .kv = 2, .dim = 256}>;
using Causal256 = Attention<Dense, Heads{.q = 4, .kv = 1, .dim = 256}>;
using Odd320 = Attention<Swa<500>, Heads{.q = 1, .kv = 1, .dim = 320}>;
using Causal512 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 512}>;
using Sixteen512 = Attention<Dense, Heads{.q = 16, .kv = 1, .dim = 512}>;
using Local512 = Attention<Swa<200>, Heads{.q = 3, .kv = 1, .dim = 512}>;

TEST_CASE_TEMPLATE("device mma: random cases, head_dim above 128", T, bf16, f16) {
  if (no_gpu("device mma: random cases, head_dim above 128")) return;
  sweep<Odd144, T>(Prefill{}, 31, 60);
  sweep<Causal192, T>(Prefill{}, 32, 60);
  sweep<Local256, T>(Prefill{}, 33, 60);
  sweep<Local256Two, T>(Prefill{}, 34, 60);
  sweep<Causal256, T>(Prefill{}, 35, 60);
  sweep<Odd320, T>(Prefill{}, 36, 60);
  sweep<Causal512, T>(Prefill{}, 37, 60);
  sweep<Sixteen512, T>(Prefill{}, 38, 60);
  sweep<Local512, T>(Prefill{}, 39, 60);
}

TEST_CASE_TEMPLATE("device mma: chunks, rings and neighbours change no bit, head_dim above 128", T,
                   bf16, f16) {
  if (no_gpu("device mma: chunks, rings and neighbours change no bit, head_dim above 128")) return;
  invariance<Odd144, T>(Prefill{}, 41, 400, 0, {1, 64, 65, 400});
  invariance<Local256, T>(Prefill{}, 42, 1300, 0, {1, 15, 16, 17, 577, 1300});
  invariance<Causal256, T>(Prefill{}, 43, 400, 0, {1, 7, 64, 400});
  invariance<Causal512, T>(Prefill{}, 44, 300, 0, {1, 16, 17, 300});
  invariance<Local512, T>(Prefill{}, 45, 600, 0, {1, 22, 600});
}

}  // namespace
