// attend_wgmma512, on a GPU of compute capability 9.0.
#include "hopper.cuh"
#include "mma_sweep.cuh"

using namespace kvring;
using namespace kvring::test;

namespace {

using Gemma = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 512}>;
using Sixteen = Attention<Dense, Heads{.q = 16, .kv = 1, .dim = 512}>;
using Local = Attention<Swa<100>, Heads{.q = 4, .kv = 1, .dim = 512}>;
using Alone = Attention<Swa<700>, Heads{.q = 2, .kv = 2, .dim = 512}>;

TEST_CASE_TEMPLATE("device wgmma 512: random cases", T, bf16, f16) {
  if (no_hopper("device wgmma 512: random cases")) return;
  sweep<Gemma, T>(Hopper{}, 241, 60);
  sweep<Sixteen, T>(Hopper{}, 242, 60);
  sweep<Local, T>(Hopper{}, 243, 60);
  sweep<Alone, T>(Hopper{}, 244, 60);
}

TEST_CASE_TEMPLATE("device wgmma 512: chunks, rings and neighbours change no bit", T, bf16, f16) {
  if (no_hopper("device wgmma 512: chunks, rings and neighbours change no bit")) return;
  invariance<Gemma, T>(Hopper{}, 251, 500, 0, {1, 15, 16, 17, 32, 65, 500});
  invariance<Sixteen, T>(Hopper{}, 252, 200, 0, {1, 4, 9, 200});
  invariance<Local, T>(Hopper{}, 253, 400, 0, {1, 16, 33, 64, 129, 400});
  invariance<Alone, T>(Hopper{}, 254, 1500, 0, {77, 128, 500, 1500});
}

}  // namespace
