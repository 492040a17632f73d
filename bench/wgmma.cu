// Prefill attention by attend_wgmma, on sm_90a. Rows are missing where attend_prefill would take
// another kernel.
#include "kvring/kernels/attend_prefill.cuh"
#include "prefill_shapes.cuh"

using namespace kvring;

namespace {

struct Wgmma {
  template <class Policy, Heads heads>
  static constexpr bool exists = prefill_kernel<Policy, heads, bf16> == PrefillKernel::wgmma;

  void operator()(auto... arguments) const { attend_wgmma(arguments...); }
};

}  // namespace

int main(int argc, char** argv) {
  const bench::PrefillShapes<Wgmma> shapes("wgmma");
  return bench::run(argc, argv);
}
