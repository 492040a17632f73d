// open_stage and commit_stage for a GPU, 16 bytes a thread.
#pragma once

#include <cstdint>

#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/kernels/stage.hpp"

namespace kvring {

/// 16 bytes, where rows are aligned to them; else a value.
template <class View>
struct CopyVector {
  using T = typename View::Element;
  static constexpr std::int64_t wide = 16 / sizeof(T);
  static constexpr std::int64_t values = View::heads.kv_dim() % wide == 0 ? wide : 1;

  KVRING_HD static void copy(T* to, const T* from) {
    if constexpr (values == wide) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      *to = *from;
    }
  }
};

/// Before the rows of view.fresh are appended to the view, or after.
template <class View>
void open_stage(const Cuda& backend, View view) {
  const OpenStage<View, CopyVector<View>> task{view};
  if (task.calls() > 0) for_each(backend, task.calls(), task);
}

/// Once the last layer that reads them has attended.
template <class View>
void commit_stage(const Cuda& backend, View view) {
  const CommitStage<View, CopyVector<View>> task{view};
  for_each(backend, task.calls(), task);
}

}  // namespace kvring
