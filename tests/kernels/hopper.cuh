// The kernels of sm_90a as the sweeps call them.
#pragma once

#include <cstdint>

#include "kvring/kernels/attend_wgmma.cuh"
#include "kvring/kernels/attend_wgmma512.cuh"

namespace kvring::test {

/// attend_wgmma, or attend_wgmma512 where the head dim is 512.
struct Hopper {
  static constexpr std::int64_t most_rows = 9000;
  template <class P, class View>
  void operator()(const Cuda& gpu, P policy, View view, Batch batch,
                  const typename View::Element* q, typename View::Element* out, Scores score) {
    if constexpr (View::heads.dim == 512) {
      attend_wgmma512(gpu, policy, view, batch, q, out, score);
    } else {
      attend_wgmma(gpu, policy, view, batch, q, out, score);
    }
  }
};

}  // namespace kvring::test
