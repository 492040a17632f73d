// The conformance suite in a .cu file, as users write it: on host and GPU, for the model that the
// consumer project brings, with heads of 80 values; and by the kernel that takes staged chunks.
#include "consumers/own_model/model.hpp"
#include "device_skips.cuh"
#include "kvring/testing/conformance.hpp"

namespace {

using OwnModel = own::Plan;
KVRING_CONFORMANCE_SUITE(OwnModel);

struct Mma {
  static constexpr bool takes_staged = true;
  template <class Backend, class View>
  using Row = typename View::Element;

  template <class View, class T>
  static void append(const kvring::Cuda& gpu, View cache, kvring::Batch batch, const T* k,
                     const T* v) {
    append_rows(gpu, cache, batch, k, v);
  }
  template <kvring::LayerPolicy Policy, std::int64_t Tile, class View, class T>
  static void attend(const kvring::Cuda& gpu, Policy policy, kvring::KeyTile<Tile>, View cache,
                     kvring::Batch, kvring::Batch batch, const T* q, T* out, kvring::Scores score) {
    attend_mma(gpu, policy, cache, batch, q, out, score);
  }
};
using StagedModel =
    kvring::Plan<own::Model, kvring::f16, kvring::StagedChunk<500>, kvring::Rewind<24>>;
KVRING_CONFORMANCE_SUITE_ON(kvring::Cuda, StagedModel, Mma);

}  // namespace
