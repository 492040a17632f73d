// CudaDecoder: the decoder for GPUs in bf16 or f16, with a residual stream in f32. What Decoder
// does, by other kernels; and decoding by a graph that is captured once and replayed for every
// token.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include "kvring/model/choices_cuda.cuh"
#include "kvring/model/decode_pass_cuda.cuh"
#include "kvring/model/gemm_check_cuda.cuh"
#include "kvring/model/gemm_shapes_cuda.cuh"
#include "kvring/model/graph_cuda.cuh"
#include "kvring/model/memory_cuda.cuh"
#include "kvring/model/prefill_pass_cuda.cuh"

namespace kvring {

/// forward() and logits() are the prefill phase, step() and generate() the decode phase. Within a
/// phase a row's bits depend on its own sequence alone: not on the chunk, the start, the ring, or
/// other sequences. The phases multiply by different kernels, so they round differently.
template <class PlanType>
class CudaDecoder {
 public:
  using Plan = PlanType;
  using Model = typename Plan::Model;
  using T = typename Plan::Element;
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>,
                "kvring: CudaDecoder is for bf16 and f16; Decoder<Plan, Cuda> has f32");
  static constexpr std::int64_t most_sequences = 16;

  /// Allocates Plan::cache_bytes(context, sequences) and scratch_bytes(context, sequences, chunk),
  /// and nothing later. `chunk` may shorten the plan's. `sampler`: what step() chooses by.
  CudaDecoder(const Cuda& backend, const CudaWeights<Model, T>& weights, std::int64_t context,
              std::int64_t sequences = 1, std::int64_t chunk = Plan::chunk,
              SampleOptions sampler = {.temperature = 0})
      : backend_(backend),
        shape_(GpuShape::of_current_device()),
        weights_(&weights),
        chunk_(checked(context, sequences, chunk)),
        sampler_(sampler),
        layout_(context, sequences, chunk),
        gemm_(backend, gemm_shapes(weights, layout_)),
        gemm_report_(check_gemms(backend, gemm_,
                                 [&](const GemmShape& s) { return weights_of(weights, s); })),
        caches_(backend, context, sequences),
        stages_(backend, context, sequences, chunk),
        scratch_(backend, layout_.bytes),
        parts_(backend, Pass::parts_floats(context, sequences, shape_)),
        sampling_(backend, 1),
        new_(reinterpret_cast<Segment*>(scratch_.data() + layout_.segments),
             reinterpret_cast<std::int32_t*>(scratch_.data() + layout_.ids)),
        stepped_to_(static_cast<std::size_t>(sequences), -1) {
    check_cuda(cudaMemsetAsync(parts_.data(), 0, parts_.bytes(), backend_.stream));
    clear(backend_, sampling_.data());
    for (std::size_t kind = 0; kind < Plan::kinds; ++kind) {
      Plan::with_kind(static_cast<int>(kind), [&](auto of) {
        const std::vector<float> values = rope_frequencies(decltype(of)::type::rope);
        backend_.from_host(singles(layout_.frequencies[kind]), values.data(),
                           values.size() * sizeof(float));
      });
    }
    check_cuda(cudaStreamSynchronize(backend_.stream));
  }
  CudaDecoder(const CudaDecoder&) = delete;
  CudaDecoder& operator=(const CudaDecoder&) = delete;

  /// On the current device: how attention is split in decoding depends on it.
  static std::int64_t scratch_bytes(std::int64_t context, std::int64_t sequences = 1,
                                    std::int64_t chunk = Plan::chunk) {
    const GpuShape shape = GpuShape::of_current_device();
    return CudaScratch<Plan>(context, sequences, chunk).bytes +
           StagePlan<Plan>::bytes(context, sequences, chunk) +
           Pass::parts_floats(context, sequences, shape) *
               static_cast<std::int64_t>(sizeof(float)) +
           sample_scratch_bytes();
  }

  std::int64_t chunk() const { return chunk_; }
  std::int64_t context() const { return caches_.context(); }
  std::int64_t vocabulary() const { return Model::vocabulary; }
  Caches<Plan, Cuda>& caches() { return caches_; }
  Timeline<Plan>& timeline(std::int64_t sequence) { return caches_.timeline(sequence); }
  /// Whether a row's bits are independent of the number of rows on this machine, as tried out.
  const GemmReport& gemm_report() const { return gemm_report_; }

  /// Appends and attends the new tokens, chunk() rows of them at most in all. Everything is checked
  /// before anything is written: what is refused has changed nothing. Returns before it is done.
  void forward(std::span<const NewTokens> batch, Wanted wanted) {
    new_.accept(backend_, caches_, batch, wanted, chunk_);
    has_step_ = false;
    PrefillPass<Plan>{work(), gemm_, backend_, new_}.run([&](std::int64_t layer) {
      if (probe) probe(layer, singles(layout_.residual), new_.rows());
    });
  }

  /// Logits [vocabulary] of a row of the last forward, one that was wanted, or of a sequence after
  /// a step, into host memory.
  void logits(std::int64_t row, float* out) {
    float* from = singles(layout_.logits);
    if (has_step_) {
      require(row >= 0 && row < caches_.sequences(), "logits of sequence ", row, " of ",
              caches_.sequences());
      from += row * Model::vocabulary;
    } else {
      logits(row, 1, from);
    }
    backend_.to_host(out, from, static_cast<std::size_t>(vocabulary()) * sizeof(float));
  }
  /// Logits of `count` rows of the last forward at once, into device memory [count, vocabulary].
  void logits(std::int64_t row, std::int64_t count, float* out) {
    require(!has_step_, "logits of rows of a forward pass, but the last one was a step");
    require(row >= new_.first_wanted() && row + count <= new_.rows(), "logits of rows ", row,
            " to ", row + count - 1, " were asked for, but rows ", new_.first_wanted(), " to ",
            new_.rows() - 1, " were computed");
    T* normed = elements(layout_.normed);
    norm_rows(backend_, singles(layout_.residual) + row * Model::hidden,
              weights_->final_norm.data(), normed, count, Model::hidden, CudaWork<Plan>::epsilon);
    const CudaMatrix<T>& head = weights_->head();
    gemm_(backend_, normed, count, head.data(), head.out, head.in, out);
    if constexpr (Model::block.final_softcap > 0) {
      softcap_rows(backend_, out, count, Model::vocabulary,
                   static_cast<float>(Model::block.final_softcap));
    }
  }

  /// Appends one token to every sequence, makes logits and chooses the next tokens. Returns before
  /// it is done; what is refused has changed nothing.
  void step(std::span<const std::int32_t> ids) {
    const std::int64_t sequences = caches_.sequences();
    require(std::ssize(ids) == sequences, "a step of ", ids.size(), " tokens: there are ",
            sequences, " sequences");
    for (const std::int32_t id : ids) {
      require(id >= 0 && id < vocabulary(), "token id ", id, " is outside the vocabulary of ",
              vocabulary());
    }
    require_step();
    backend_.from_host(step_ids(), ids.data(), ids.size_bytes());
    run_step();
  }
  void step(std::int32_t id) { step({&id, 1}); }
  /// The same with the tokens that the last step chose.
  void step() {
    require(has_step_, "there is no token to append: the first step takes one");
    require_step();
    run_step();
  }
  /// The token that the last step chose for a sequence. Waits for it.
  std::int32_t chosen(std::int64_t sequence = 0) {
    std::int32_t id = 0;
    backend_.to_host(&id, step_ids() + sequence, sizeof id);
    return id;
  }

  /// Of one sequence: appends `first`, then what each step chooses, `count` tokens in all.
  /// take(id) gets each choice, a few steps late so that the GPU never waits; once it returns false
  /// the steps ahead of it are taken back. Returns how many tokens were appended.
  template <class Take>
  std::int64_t generate(std::int32_t first, std::int64_t count, Take take) {
    require(caches_.sequences() == 1, "generate() is for one sequence");
    const std::int64_t ahead = smaller(Plan::rewind, choices_.slots - 1);
    const std::int64_t start = timeline(0).length();
    std::int64_t taken = 0;
    for (std::int64_t queued = 0; taken < count;) {
      if (queued < count && queued - taken <= ahead) {
        queued == 0 ? step(first) : step();
        choices_.request(backend_, step_ids(), queued++);
        continue;
      }
      if (!take(choices_.wait(taken++))) {
        timeline(0).rewind_to({start + taken});
        break;
      }
    }
    return taken;
  }
  std::vector<std::int32_t> generate(std::int32_t first, std::int64_t count) {
    std::vector<std::int32_t> ids;
    generate(first, count, [&](std::int32_t id) {
      ids.push_back(id);
      return true;
    });
    return ids;
  }

  /// For tests and progress bars: called when a layer of a forward pass has been queued, with the
  /// residual stream [rows, hidden] on the device.
  std::function<void(std::int64_t layer, const float* residual, std::int64_t rows)> probe;
  /// For tests: false queues the kernels of a step one by one.
  bool replays_graph = true;
  /// For tests: false keeps norms and sums out of the products' kernels. Set it before the first
  /// step.
  bool fuses = true;

 private:
  using Pass = DecodePass<Plan>;

  static std::int64_t checked(std::int64_t context, std::int64_t sequences, std::int64_t chunk) {
    require(chunk >= 1 && chunk <= Plan::chunk, "a chunk of ", chunk,
            " rows was asked for, but this plan is proved for chunks of 1 to ", Plan::chunk,
            "; ask for less, or compile a plan with a larger Chunk");
    require(context >= 1, "a context of ", context, " positions; ask for 1 or more");
    require(sequences >= 1 && sequences <= most_sequences, "a decoder for ", sequences,
            " sequences: it takes 1 to ", most_sequences);
    require_cuda_memory(context, sequences, [&](std::int64_t length) {
      constexpr std::int64_t block = std::int64_t{2} << 20;  // the pool rounds allocations up
      return Plan::cache_bytes(length, sequences) + scratch_bytes(length, sequences, chunk) +
             (Plan::layers + 4) * block;
    });
    return chunk;
  }

  float* singles(std::int64_t offset) { return reinterpret_cast<float*>(scratch_.data() + offset); }
  T* elements(std::int64_t offset) { return reinterpret_cast<T*>(scratch_.data() + offset); }
  std::int32_t* step_ids() {
    return reinterpret_cast<std::int32_t*>(scratch_.data() + layout_.step_ids);
  }
  CudaWork<Plan> work() { return {*weights_, caches_, stages_, layout_, scratch_.data()}; }

  void require_step() {
    for (std::int64_t s = 0; s < caches_.sequences(); ++s) timeline(s).require_append(1);
  }

  /// The host keeps the timelines; the device its own positions, told when they differ.
  void run_step() {
    std::vector<Segment> segments;
    bool agree = true;
    for (std::int64_t s = 0; s < caches_.sequences(); ++s) {
      const std::int64_t length = timeline(s).length();
      std::int64_t& on_device = stepped_to_[static_cast<std::size_t>(s)];
      agree = agree && on_device == length;
      segments.push_back({.sequence = s, .start = {length}, .first_row = s, .rows = 1});
      on_device = length + 1;
      timeline(s).append(1);
    }
    if (!agree) {
      backend_.from_host(scratch_.data() + layout_.step_segments, segments.data(),
                         segments.size() * sizeof(Segment));
    }
    const auto queue = [&](const Cuda& gpu) {
      const CudaWork<Plan> w = work();
      Pass{w, shape_, caches_.sequences(), parts_.data(), sampling_.data(), sampler_, fuses}.run(
          gpu);
    };
    // The first step runs kernel by kernel: what is captured must have run before.
    if (!replays_graph || !has_run_) {
      queue(backend_);
    } else {
      if (!graph_.captured()) graph_.capture(queue);
      graph_.launch(backend_);
    }
    has_run_ = has_step_ = true;
  }

  Cuda backend_;
  GpuShape shape_;
  const CudaWeights<Model, T>* weights_;
  std::int64_t chunk_;
  SampleOptions sampler_;
  CudaScratch<Plan> layout_;
  Gemm<T> gemm_;
  GemmReport gemm_report_;
  Caches<Plan, Cuda> caches_;
  Stages<Plan, Cuda> stages_;
  Buffer<std::byte, Cuda> scratch_;
  Buffer<float, Cuda> parts_;
  Buffer<SampleScratch, Cuda> sampling_;
  NewBatch<Plan, Cuda> new_;
  Choices choices_;
  StepGraph graph_;
  std::vector<std::int64_t> stepped_to_;  // the position that the device will step from
  bool has_run_ = false;                  // a step, ever
  bool has_step_ = false;                 // the last pass was a step
};

}  // namespace kvring
