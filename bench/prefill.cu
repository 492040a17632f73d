// Prefill attention by attend_mma.
#include "kvring/kernels/attend_mma.cuh"
#include "prefill_shapes.cuh"

using namespace kvring;

namespace {

struct Mma {
  template <class Policy, Heads heads>
  static constexpr bool exists = true;

  void operator()(auto... arguments) const { attend_mma(arguments...); }
};

}  // namespace

int main(int argc, char** argv) {
  const bench::PrefillShapes<Mma> shapes("prefill");
  return bench::run(argc, argv);
}
