// Wgmma512Slots: the slots of a block of attend_wgmma512, as one attending warpgroup goes through
// them.
#pragma once

#include <cstdint>

#include "kvring/arch/cluster.cuh"
#include "kvring/arch/copy_async.cuh"
#include "kvring/arch/wgmma.cuh"

namespace kvring {

template <class Layout>
class Wgmma512Slots {
  using SharedStorage = typename Layout::SharedStorage;

 public:
  __device__ __forceinline__ Wgmma512Slots(SharedStorage& shared, int warpgroup)
      : shared_(shared),
        warpgroup_(warpgroup),
        thread_(static_cast<int>(threadIdx.x) % 128),
        empty_(arch::of_block(shared.empty, static_cast<unsigned>(thread_ % Layout::cluster))) {}

  /// Leaves slots to the other warpgroup.
  __device__ __forceinline__ void skip(int count) { slot_ = Layout::later(slot_, count); }
  /// Waits for the slot that comes next.
  __device__ __forceinline__ void wait() {
    shared_.full[warpgroup_][slot_].wait(parities_ >> slot_ & 1);
    parities_ ^= 1u << slot_;
  }
  __device__ __forceinline__ int next() const { return slot_; }
  __device__ __forceinline__ unsigned char* bytes() const { return shared_.slots[slot_]; }
  __device__ __forceinline__ std::uint32_t address() const { return arch::shared_address(bytes()); }

  /// Both blocks of the cluster wait for both.
  __device__ __forceinline__ void give_back(int slot) {
    if (thread_ < Layout::cluster) empty_[slot].arrive_in_cluster();
  }
  /// Ends a group of products with the slot that comes next: the one before it is then free.
  __device__ __forceinline__ void commit() {
    arch::commit_wgmma();
    arch::wait_for_wgmma<1>();
    if (in_use_ >= 0) give_back(in_use_);
    in_use_ = slot_;
  }
  /// Waits for all products.
  __device__ __forceinline__ void drain() {
    arch::wait_for_wgmma<0>();
    if (in_use_ >= 0) give_back(in_use_);
    in_use_ = -1;
  }

 private:
  SharedStorage& shared_;
  int warpgroup_, thread_;
  arch::Barrier* empty_;        // of the block that this thread tells of empty slots, if it does
  int slot_ = 0;                // that comes next
  std::uint32_t parities_ = 0;  // of the next phases of this warpgroup's barriers, by slot
  int in_use_ = -1;             // by the newest group of products that commit() ended
};

}  // namespace kvring
