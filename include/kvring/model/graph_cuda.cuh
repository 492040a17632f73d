// StepGraph: work that was queued on a stream once, to be queued again by one call.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <type_traits>

#include "kvring/backend_cuda.cuh"

namespace kvring {

namespace detail {

struct DestroyStream {
  void operator()(CUstream_st* stream) const { cudaStreamDestroy(stream); }
};
struct DestroyGraph {
  void operator()(CUgraph_st* graph) const { cudaGraphDestroy(graph); }
};
struct DestroyExecutable {
  void operator()(CUgraphExec_st* graph) const { cudaGraphExecDestroy(graph); }
};

}  // namespace detail

class StepGraph {
 public:
  bool captured() const { return executable_ != nullptr; }

  /// Records what `work(backend)` queues, without running it. Every kernel in it must have run
  /// before: code may not be loaded while a stream is recorded.
  template <class Work>
  void capture(Work work) {
    executable_.reset();
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const std::unique_ptr<CUstream_st, detail::DestroyStream> recorder(stream);
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t recorded = nullptr;
    try {
      work(Cuda{stream});
    } catch (...) {
      cudaStreamEndCapture(stream, &recorded);
      if (recorded != nullptr) cudaGraphDestroy(recorded);
      cudaGetLastError();
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream, &recorded));
    const std::unique_ptr<CUgraph_st, detail::DestroyGraph> graph(recorded);
    cudaGraphExec_t executable = nullptr;
    check_cuda(cudaGraphInstantiate(&executable, recorded, 0));
    executable_.reset(executable);
  }

  void launch(const Cuda& backend) const {
    check_cuda(cudaGraphLaunch(executable_.get(), backend.stream));
  }

 private:
  std::unique_ptr<CUgraphExec_st, detail::DestroyExecutable> executable_;
};

}  // namespace kvring
