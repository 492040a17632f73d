// attend_wgmma, on a GPU of compute capability 9.0.
#include "hopper.cuh"
#include "mma_sweep.cuh"

using namespace kvring;
using namespace kvring::test;

namespace {

using Sinks = Attention<Swa<128>, Heads{.q = 64, .kv = 8, .dim = 64}>;
using Causal64 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 64}>;
using Itself = Attention<Swa<1>, Heads{.q = 2, .kv = 2, .dim = 64}>;
using Causal96 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 96}>;
using Narrow96 = Attention<Swa<100>, Heads{.q = 6, .kv = 3, .dim = 96}>;
using Wide96 = Attention<Swa<600>, Heads{.q = 4, .kv = 1, .dim = 96}>;
using Causal128 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 128}>;
using Wide128 = Attention<Swa<1000>, Heads{.q = 4, .kv = 1, .dim = 128}>;
using Causal192 = Attention<Dense, Heads{.q = 8, .kv = 2, .dim = 192}>;
using Local192 = Attention<Swa<100>, Heads{.q = 4, .kv = 1, .dim = 192}>;
using Local256 = Attention<Swa<512>, Heads{.q = 8, .kv = 2, .dim = 256}>;
using Local256Two = Attention<Swa<65>, Heads{.q = 4, .kv = 2, .dim = 256}>;
using Sixteen256 = Attention<Dense, Heads{.q = 16, .kv = 1, .dim = 256}>;

TEST_CASE_TEMPLATE("device wgmma: random cases", T, bf16, f16) {
  if (no_hopper("device wgmma: random cases")) return;
  sweep<Sinks, T>(Hopper{}, 201, 60);
  sweep<Causal64, T>(Hopper{}, 202, 60);
  sweep<Itself, T>(Hopper{}, 203, 60);
  sweep<Causal128, T>(Hopper{}, 204, 60);
  sweep<Wide128, T>(Hopper{}, 205, 60);
  sweep<Local256, T>(Hopper{}, 206, 60);
  sweep<Local256Two, T>(Hopper{}, 207, 60);
  sweep<Sixteen256, T>(Hopper{}, 208, 60);
  sweep<Causal96, T>(Hopper{}, 209, 60);
  sweep<Narrow96, T>(Hopper{}, 210, 60);
  sweep<Wide96, T>(Hopper{}, 211, 60);
  sweep<Causal192, T>(Hopper{}, 212, 60);
  sweep<Local192, T>(Hopper{}, 213, 60);
}

TEST_CASE_TEMPLATE("device wgmma: chunks, rings and neighbours change no bit", T, bf16, f16) {
  if (no_hopper("device wgmma: chunks, rings and neighbours change no bit")) return;
  invariance<Sinks, T>(Hopper{}, 221, 700, 0, {1, 7, 63, 64, 65, 200, 700});
  invariance<Causal64, T>(Hopper{}, 222, 500, 0, {1, 7, 127, 128, 129, 500});
  invariance<Causal128, T>(Hopper{}, 223, 500, 0, {1, 16, 17, 64, 500});
  invariance<Wide128, T>(Hopper{}, 224, 2200, 0, {77, 1500, 2200});
  invariance<Local256, T>(Hopper{}, 225, 1300, 0, {1, 15, 16, 17, 577, 1300});
  invariance<Local256Two, T>(Hopper{}, 226, 400, 0, {1, 64, 65, 400});
  invariance<Causal96, T>(Hopper{}, 227, 500, 0, {1, 7, 127, 128, 129, 500});
  invariance<Narrow96, T>(Hopper{}, 228, 700, 0, {1, 64, 65, 200, 700});
  invariance<Wide96, T>(Hopper{}, 229, 1300, 0, {31, 97, 400, 1300});
  invariance<Causal192, T>(Hopper{}, 230, 500, 0, {1, 16, 17, 64, 500});
  invariance<Local192, T>(Hopper{}, 231, 700, 0, {1, 31, 32, 33, 97, 700});
}

}  // namespace
