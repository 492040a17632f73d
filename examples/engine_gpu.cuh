// Engines on a GPU in bf16 and f16, by the fast decoder. Included by engine_cuda_bf16.cu and
// engine_cuda_f16.cu; caches of f32 have the engine of engine_cuda.cuh.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine.hpp"
#include "kvring/model/decoder_cuda.cuh"
#include "kvring/model/load_gguf.hpp"
#include "kvring/model/load_safetensors.hpp"
#include "kvring/model/prefill.hpp"
#include "model_file.hpp"

namespace kvring::programs {

template <class Model, Element T>
CudaWeights<Model, T> load_gpu_weights(const Cuda& backend, const ModelFile& file) {
  const auto load = [&](auto source) {
    auto weights = load_cuda_weights<Model, T>(backend, source);
    source.require_nothing_left();
    return weights;
  };
  if (file.gguf() != nullptr) return load(GgufSource<Model>(*file.gguf()));
  return load(SafetensorsSource<Model>(*file.safetensors()));
}

template <class Model, Element T>
class GpuEngine final : public Engine {
 public:
  GpuEngine(const ModelFile& file, const EngineOptions& options)
      : weights_(load_gpu_weights<Model, T>(stream_.backend(), file)),
        decoder_(stream_.backend(), weights_, options.context, 1, options.chunk),
        block_rows_(options.logit_rows),
        block_(stream_.backend(), block_rows_ * Model::vocabulary),
        host_block_(static_cast<std::size_t>(block_rows_ * Model::vocabulary)),
        logits_(static_cast<std::size_t>(Model::vocabulary)) {
    const GemmReport& report = decoder_.gemm_report();
    if (!report.rows_are_independent()) {
      std::fprintf(stderr, "on this GPU the chunk may change last bits: %s\n",
                   report.text().c_str());
    }
  }

  std::string prefill(std::span<const std::int32_t> ids, const Progress& progress) override {
    return run(ids, Wanted::last, [&](Span span) {
      check_cuda(cudaStreamSynchronize(stream_.backend().stream));
      progress(share(span, ids));
    });
  }

  std::string prefill_all(std::span<const std::int32_t> ids, const Rows& rows,
                          const Progress& progress) override {
    require(block_rows_ >= 1, "an engine without room for logits of all rows");
    return run(ids, Wanted::all, [&](Span span) {
      for (std::int64_t row = 0; row < span.rows; row += block_rows_) {
        const std::int64_t count = smaller(block_rows_, span.rows - row);
        decoder_.logits(row, count, block_.data());
        stream_.backend().to_host(
            host_block_.data(), block_.data(),
            static_cast<std::size_t>(count * Model::vocabulary) * sizeof(float));
        rows(span.start.value + row, count, host_block_.data());
        progress(share({span.start, row + count}, ids));
      }
    });
  }

  void append(std::int32_t id) override {
    decoder_.step(id);
    last_row_ = 0;
  }

  std::span<const float> logits() override {
    decoder_.logits(last_row_, logits_.data());
    return logits_;
  }

  void generate(std::int32_t first, std::int64_t count, Sampler& sampler,
                const Take& take) override {
    if (!sampler.greedy()) return Engine::generate(first, count, sampler, take);
    last_row_ = 0;
    decoder_.generate(first, count, take);
  }

 private:
  /// A stream of its own, on which steps can be captured.
  class Stream {
   public:
    Stream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream() { cudaStreamDestroy(stream_); }
    Cuda backend() const { return {stream_}; }

   private:
    cudaStream_t stream_ = nullptr;
  };

  template <class AfterChunk>
  std::string run(std::span<const std::int32_t> ids, Wanted wanted, AfterChunk after_chunk) {
    begin_ = decoder_.timeline(0).length();
    return kvring::prefill(decoder_, 0, ids, wanted,
                           [&](Span span) {
                             last_row_ = span.rows - 1;
                             after_chunk(span);
                           })
        .path;
  }
  double share(Span span, std::span<const std::int32_t> ids) const {
    return static_cast<double>(span.end().value - begin_) / static_cast<double>(ids.size());
  }

  Stream stream_;
  CudaWeights<Model, T> weights_;
  CudaDecoder<PlanOf<Model, T>> decoder_;
  std::int64_t block_rows_;
  Buffer<float, Cuda> block_;      // [block_rows, vocabulary]
  std::vector<float> host_block_;  // the same
  std::vector<float> logits_;      // [vocabulary]
  std::int64_t begin_ = 0;         // position of the prompt
  std::int64_t last_row_ = 0;      // of the last chunk
};

template <Element T>
std::unique_ptr<Engine> make_cuda_engine(std::string_view model, const ModelFile& file,
                                         const EngineOptions& options) {
  std::unique_ptr<Engine> engine;
  for_each_type(Models{}, [&]<class Model>(std::type_identity<Model>) {
    if (model != Model::name) return;
    engine = std::make_unique<GpuEngine<Model, T>>(file, options);
  });
  return engine;
}

template <Element T>
std::int64_t cuda_scratch_bytes(std::string_view model, std::int64_t context, std::int64_t chunk) {
  std::int64_t bytes = 0;
  for_each_type(Models{}, [&]<class Model>(std::type_identity<Model>) {
    if (model != Model::name) return;
    bytes = CudaDecoder<PlanOf<Model, T>>::scratch_bytes(context, 1, chunk);
  });
  return bytes;
}

}  // namespace kvring::programs
