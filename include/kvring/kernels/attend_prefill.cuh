// attend_prefill: attention of a batch by the fastest kernel there is for a kind of layer.
#pragma once

#include "kvring/kernels/attend_mma.cuh"
#include "kvring/kernels/attend_wgmma.cuh"
#include "kvring/kernels/attend_wgmma512.cuh"
#include "kvring/kernels/prefill_kernel.hpp"

namespace kvring {

/// out = attention of every row of a batch, whose keys and values have been appended, by the kernel
/// that prefill_kernel names, whose rules hold.
template <LayerPolicy Policy, class View>
void attend_prefill(const Cuda& backend, Policy policy, View cache, Batch batch,
                    const typename View::Element* q, typename View::Element* out, Scores score) {
  constexpr PrefillKernel kernel = prefill_kernel<Policy, View::heads, typename View::Element>;
  if constexpr (kernel == PrefillKernel::wgmma) {
    attend_wgmma(backend, policy, cache, batch, q, out, score);
  } else if constexpr (kernel == PrefillKernel::wgmma512) {
    attend_wgmma512(backend, policy, cache, batch, q, out, score);
  } else {
    attend_mma(backend, policy, cache, batch, q, out, score);
  }
}

}  // namespace kvring
