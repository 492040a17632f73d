// cp.async (sm_80 and later): copies of 16 bytes from global to shared memory that pass by the
// registers. PTX ISA, "Data Movement and Conversion Instructions: Asynchronous copy, Non-bulk
// copy".
#pragma once

#include <cstdint>

namespace kvring::arch {

/// The address of shared memory, as instructions take it.
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Copies 16 bytes, or writes 16 zero bytes and reads nothing if not `valid`; `from` must then
/// still be a pointer into some allocation. Both addresses are multiples of 16.
__device__ inline void copy_async_16(std::uint32_t to, const void* from, bool valid) {
  const std::uint32_t bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from),
               "r"(bytes)
               : "memory");
}

/// Closes the group of copies that this thread issued since the last one; it may be empty.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

/// Waits until all but the newest `Pending` groups of this thread have arrived.
template <int Pending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
}

}  // namespace kvring::arch
