// Loads of data that is read once, and values that a compiler must not keep. PTX ISA, "Data
// Movement and Conversion Instructions: ld.global.nc".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace kvring::arch {

/// 16 bytes that no kernel writes while this one runs, past the L1 cache. Stays where it is
/// written: before a barrier, it is on its way while the barrier waits.
__device__ inline uint4 load_once_16(const void* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

/// Nothing, for the machine. The compiler must not reckon with what these bits were before: what it
/// derives from them it derives anew, instead of keeping it in registers.
__device__ inline void forget(uint4& bits) {
  asm volatile("" : "+r"(bits.x), "+r"(bits.y), "+r"(bits.z), "+r"(bits.w));
}

__device__ inline void forget(int& bits) { asm volatile("" : "+r"(bits)); }

}  // namespace kvring::arch
