// Stages: the memory of a plan's stages, and the views over them.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kvring/buffer.hpp"
#include "kvring/cache.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/staged_view.hpp"
#include "kvring/stage_plan.hpp"

namespace kvring {

/// Takes exactly StagePlan<PlanType>::bytes(context, sequences, chunk): nothing, for a plan that is
/// not staged.
template <class PlanType, Backend BackendType>
class Stages {
 public:
  using Element = typename PlanType::Element;
  using Layout = StagePlan<PlanType>;
  template <class Kind>
  using View =
      StagedView<typename Caches<PlanType, BackendType>::template View<Kind>, PlanType::key_tile>;

  Stages(BackendType backend, std::int64_t context, std::int64_t sequences = 1,
         std::int64_t chunk = PlanType::chunk)
      : half_(PlanType::is_staged ? Layout::half(context, sequences, chunk) : 0),
        memory_(backend, 2 * half_ * Layout::stages) {}

  /// The cache that `layer`, of kind `Kind`, reads and the stage that its rows are in. `fresh`:
  /// the batch that is staged there.
  template <class Kind>
  View<Kind> view(Caches<PlanType, BackendType>& caches, std::int64_t layer, Batch fresh) {
    Element* k =
        memory_.data() + 2 * half_ * Layout::Order::stage_of[static_cast<std::size_t>(layer)];
    return {.ring = caches.template view<Kind>(layer), .k = k, .v = k + half_, .fresh = fresh};
  }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  std::int64_t half_;
  Buffer<Element, BackendType> memory_;
};

}  // namespace kvring
