// Barriers in shared memory that count arrivals and bytes (mbarrier, sm_90 and later), by
// cuda::ptx.
#pragma once

#include <cuda/ptx>

#include <cstdint>

namespace kvring::arch {

/// Completes a phase when `arrivals` have come and all bytes that were announced. A waiter names
/// the parity of the phase that it waits for: 0 for the first, 1 for the second, 0 ...
class Barrier {
 public:
  __device__ void init(std::uint32_t arrivals) { cuda::ptx::mbarrier_init(&state_, arrivals); }

  /// Makes initialised barriers visible to copies; then the block must meet.
  __device__ static void fence_init() {
    cuda::ptx::fence_mbarrier_init(cuda::ptx::sem_release, cuda::ptx::scope_cluster);
  }

  __device__ void arrive() {
    cuda::ptx::mbarrier_arrive(cuda::ptx::sem_release, cuda::ptx::scope_cta,
                               cuda::ptx::space_shared, &state_);
  }
  /// Arrives at a barrier of any block of the cluster, where of_block() finds it. Orders nothing:
  /// for shared memory that was only read, and by instructions that have been waited for. To order
  /// writes across the cluster would cost more than the copies that this barrier admits.
  __device__ void arrive_in_cluster() {
    cuda::ptx::mbarrier_arrive(cuda::ptx::sem_relaxed, cuda::ptx::scope_cluster,
                               cuda::ptx::space_cluster, &state_);
  }
  /// Arrives, and announces bytes that copies will bring.
  __device__ void arrive_and_expect(std::uint32_t bytes) {
    cuda::ptx::mbarrier_arrive_expect_tx(cuda::ptx::sem_release, cuda::ptx::scope_cta,
                                         cuda::ptx::space_shared, &state_, bytes);
  }
  __device__ void wait(std::uint32_t parity) {
    while (!cuda::ptx::mbarrier_try_wait_parity(&state_, parity)) {
    }
  }

  /// What a copy counts its bytes on.
  __device__ std::uint64_t* handle() { return &state_; }

 private:
  std::uint64_t state_;
};

}  // namespace kvring::arch
