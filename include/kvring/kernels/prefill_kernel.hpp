// Which kernel attends in prefill, chosen at compile time.
#pragma once

#include "kvring/heads.hpp"
#include "kvring/kernels/mma_shape.hpp"
#include "kvring/kernels/wgmma_shape.hpp"
#include "kvring/policy.hpp"

namespace kvring {

/// attend_mma, attend_wgmma or attend_wgmma512.
enum class PrefillKernel { mma, wgmma, wgmma512 };

constexpr PrefillKernel fastest_prefill(bool hopper, bool wgmma, bool wgmma512) {
  if (hopper && wgmma) return PrefillKernel::wgmma;
  if (hopper && wgmma512) return PrefillKernel::wgmma512;
  return PrefillKernel::mma;
}

/// Which kernel attend_prefill takes: a function of the types and of the architectures that are
/// compiled for, never of a batch or of where the keys lie. attend_wgmma512 reads no staged keys:
/// layers with a window, which alone are ever staged, do not take it. Specialise it to override the
/// choice:
/// template <> inline constexpr kvring::PrefillKernel
///     kvring::prefill_kernel<MyPolicy, my_heads, kvring::bf16> = kvring::PrefillKernel::mma;
template <LayerPolicy Policy, Heads heads, class T>
inline constexpr PrefillKernel prefill_kernel =
    fastest_prefill(compiled_arch() == 90, wgmma_fits<heads, T>,
                    wgmma512_fits<heads, T>&& Policy::window == unbounded);

}  // namespace kvring
