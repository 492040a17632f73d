// attend_prefill: attention of a batch by the fastest kernel there is for a kind of layer.
#pragma once

#include <type_traits>

#include "kvring/kernels/attend_mma.cuh"
#include "kvring/kernels/attend_wgmma.cuh"

namespace kvring {

enum class PrefillKernel { mma, wgmma };

/// Which kernel attend_prefill takes: a function of the types and of the architectures that are
/// compiled for, never of a batch. Specialise it to override the choice:
/// template <> inline constexpr kvring::PrefillKernel
///     kvring::prefill_kernel<MyPolicy, my_heads, kvring::bf16> = kvring::PrefillKernel::mma;
template <LayerPolicy Policy, Heads heads, class T>
inline constexpr PrefillKernel prefill_kernel = compiled_arch() == 90 && wgmma_fits<heads, T>
                                                    ? PrefillKernel::wgmma
                                                    : PrefillKernel::mma;

/// out = attention of every row of a batch, whose keys and values have been appended: attend_wgmma
/// or attend_mma, whose rules hold.
template <LayerPolicy Policy, class View>
void attend_prefill(const Cuda& backend, Policy policy, View cache, Batch batch,
                    const typename View::Element* q, typename View::Element* out, Scores score) {
  using T = typename View::Element;
  if constexpr (prefill_kernel<Policy, View::heads, T> == PrefillKernel::wgmma) {
    attend_wgmma(backend, policy, cache, batch, q, out, score);
  } else {
    attend_mma(backend, policy, cache, batch, q, out, score);
  }
}

}  // namespace kvring
