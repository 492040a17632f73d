// Choices: tokens on their way from a GPU to the host, a few at a time, so that the GPU never waits
// for the host.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kvring/backend_cuda.cuh"

namespace kvring {

class Choices {
 public:
  static constexpr std::int64_t slots = 8;
  Choices() {
    void* memory = nullptr;
    check_cuda(cudaMallocHost(&memory, slots * sizeof(std::int32_t)));
    ids_.reset(static_cast<std::int32_t*>(memory));
    for (Event& event : events_) {
      cudaEvent_t made = nullptr;
      check_cuda(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
      event.reset(made);
    }
  }
  void request(const Cuda& backend, const std::int32_t* id, std::int64_t i) {
    const auto slot = static_cast<std::size_t>(i % slots);
    check_cuda(
        cudaMemcpyAsync(ids_.get() + slot, id, sizeof *id, cudaMemcpyDeviceToHost, backend.stream));
    check_cuda(cudaEventRecord(events_[slot].get(), backend.stream));
  }
  std::int32_t wait(std::int64_t i) {
    const auto slot = static_cast<std::size_t>(i % slots);
    check_cuda(cudaEventSynchronize(events_[slot].get()));
    return ids_.get()[slot];
  }

 private:
  struct Free {
    void operator()(std::int32_t* memory) const { cudaFreeHost(memory); }
  };
  struct Destroy {
    void operator()(CUevent_st* event) const { cudaEventDestroy(event); }
  };
  using Event = std::unique_ptr<CUevent_st, Destroy>;
  std::unique_ptr<std::int32_t, Free> ids_;  // [slots], pinned
  std::array<Event, slots> events_;
};

}  // namespace kvring
