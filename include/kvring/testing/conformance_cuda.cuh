// The conformance suite on a GPU.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/kernels/attend_prefill.cuh"
#include "kvring/kernels/stage_rows.cuh"
#include "kvring/testing/conformance_kernels.hpp"

namespace kvring::testing::conformance {

template <>
inline const char* why_not<Cuda>() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 ? nullptr : "no GPU";
}

/// attend_prefill with rows of the cache's type where it has a kernel; else attend, which takes
/// rows of f32 and any shape.
template <>
struct LibraryKernelsOf<Cuda> {
  /// Keys that every kernel takes at a time: what rings and stages must be multiples of.
  static constexpr std::int64_t kernel_tile = 64;
  static constexpr bool takes_staged(std::int64_t key_tile) { return key_tile % kernel_tile == 0; }

  template <class View>
  static constexpr bool has_prefill() {
    using T = typename View::Element;
    constexpr std::int64_t dim = View::heads.dim;
    if constexpr (View::Storage::is_ring) {
      if (View::Storage::slots % kernel_tile != 0) return false;
    }
    return (std::is_same_v<T, bf16> || std::is_same_v<T, f16>)&&dim % 16 == 0 && dim <= 512;
  }
  template <class View>
  using Row = std::conditional_t<has_prefill<View>(), typename View::Element, float>;

  template <class View, class RowType>
  static void append(const Cuda& gpu, View cache, Batch batch, const RowType* k, const RowType* v) {
    append_rows(gpu, cache, batch, k, v);
  }
  template <LayerPolicy Policy, std::int64_t Tile, class View, class RowType>
  static void attend(const Cuda& gpu, Policy policy, KeyTile<Tile> tile, View cache,
                     Batch host_batch, Batch batch, const RowType* q, RowType* out, Scores score) {
    if constexpr (std::is_same_v<RowType, float>) {
      kvring::attend(gpu, policy, tile, cache, host_batch, batch, q, out, score);
    } else {
      attend_prefill(gpu, policy, cache, batch, q, out, score);
    }
  }
};

}  // namespace kvring::testing::conformance
