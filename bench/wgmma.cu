// Prefill attention by the kernels that sm_90a alone has. Rows are missing where attend_prefill
// would take attend_mma.
#include "kvring/kernels/attend_prefill.cuh"
#include "prefill_shapes.cuh"

using namespace kvring;

namespace {

struct Wgmma {
  template <class Policy, Heads heads>
  static constexpr bool exists = prefill_kernel<Policy, heads, bf16> != PrefillKernel::mma;

  void operator()(auto... arguments) const { attend_prefill(arguments...); }
};

}  // namespace

int main(int argc, char** argv) {
  const bench::PrefillShapes<Wgmma> shapes("wgmma");
  return bench::run(argc, argv);
}
