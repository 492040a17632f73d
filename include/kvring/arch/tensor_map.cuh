// Tensor maps and the copies that follow them (TMA, sm_90 and later): boxes of a tensor between
// global and shared memory, in rows of 128 or 64 bytes whose 16-byte chunks are permuted by the
// row.
#pragma once

#include <cuda.h>  // types alone: nothing of the driver is linked
#include <cuda_runtime.h>

#include <cuda/ptx>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kvring/arch/barrier.cuh"
#include "kvring/backend_cuda.cuh"
#include "kvring/element.hpp"

namespace kvring::arch {

/// A tensor of five dimensions, innermost first, whose elements neighbour each other. Strides in
/// elements, of dimensions 1 ... 4; they need not grow.
struct TensorShape {
  std::array<std::int64_t, 5> size;
  std::array<std::int64_t, 4> stride;
};

/// The map of a tensor of bf16 or f16 for boxes of that many elements; box[0] must be 64 or 32, one
/// row of 128 or 64 bytes. What a box has outside of the tensor reads as 0 and is not written.
template <class T>
CUtensorMap tensor_map(const T* data, const TensorShape& shape, std::array<int, 5> box) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  static const auto encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                cudaEnableDefault, &found));
    require(found == cudaDriverEntryPointSuccess, "this driver encodes no tensor maps");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  }();
  CUtensorMap map;
  cuuint64_t sizes[5], strides[4];
  cuuint32_t boxes[5], steps[5] = {1, 1, 1, 1, 1};
  for (std::size_t i = 0; i < 5; ++i) {
    sizes[i] = static_cast<cuuint64_t>(shape.size[i]);
    boxes[i] = static_cast<cuuint32_t>(box[i]);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    strides[i] = static_cast<cuuint64_t>(shape.stride[i]) * sizeof(T);
  }
  const CUresult result = encode(
      &map,
      std::is_same_v<T, bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      5, const_cast<T*>(data), sizes, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      box[0] == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(result == CUDA_SUCCESS, "a tensor map was refused (CUresult ", static_cast<int>(result),
          "): pointers must be aligned to 16 bytes, and so must rows");
  return map;
}

/// Where in a row of `row_bytes` bytes, permuted by the row, its 16-byte chunk `chunk` lies, in
/// chunks.
template <int row_bytes>
__device__ constexpr int permuted(int chunk, int row) {
  return chunk ^ (row_bytes == 128 ? row % 8 : row / 2 % 4);
}

/// Brings a box whose first element is at `at` to shared memory, aligned to 1024 bytes; its bytes
/// are counted on the barrier. One thread.
__device__ inline void load_box(void* to, const CUtensorMap& map, const std::int32_t (&at)[5],
                                Barrier& barrier) {
  cuda::ptx::cp_async_bulk_tensor(cuda::ptx::space_cluster, cuda::ptx::space_global, to, &map, at,
                                  barrier.handle());
}
/// The same for the blocks of the cluster in `blocks`, bit i for block i: to the same place in the
/// shared memory of each, counted on the same barrier of each.
__device__ inline void load_box_for(std::uint16_t blocks, void* to, const CUtensorMap& map,
                                    const std::int32_t (&at)[5], Barrier& barrier) {
  cuda::ptx::cp_async_bulk_tensor(cuda::ptx::space_cluster, cuda::ptx::space_global, to, &map, at,
                                  barrier.handle(), blocks);
}
/// Brings a box to the L2.
__device__ inline void prefetch_box(const CUtensorMap& map, const std::int32_t (&at)[5]) {
  asm volatile(
      "cp.async.bulk.prefetch.tensor.5d.L2.global.tile [%0, {%1, %2, %3, %4, %5}];\n" ::"l"(&map),
      "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
      : "memory");
}
/// Writes a box from shared memory. The writes of other threads to it must have been fenced.
__device__ inline void store_box(const CUtensorMap& map, const std::int32_t (&at)[5],
                                 const void* from) {
  cuda::ptx::cp_async_bulk_tensor(cuda::ptx::space_global, cuda::ptx::space_shared, &map, at, from);
}
__device__ inline void commit_stores() { cuda::ptx::cp_async_bulk_commit_group(); }
/// Waits until the stores of this thread have read shared memory.
__device__ inline void wait_for_stores_to_read() {
  cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
}
__device__ inline void wait_for_stores() {
  cuda::ptx::cp_async_bulk_wait_group(cuda::ptx::n32_t<0>{});
}

/// Orders ordinary writes of this thread to shared memory before copies and matrix instructions.
__device__ inline void fence_shared_for_async() {
  cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
}

__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(&map) : "memory");
}

}  // namespace kvring::arch
