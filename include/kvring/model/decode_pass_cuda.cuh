// DecodePass: one token of each sequence through all layers on a GPU, with products by gemv. What
// it queues is the same for every token, so it can be captured once: ids and positions are read
// from device memory, and written there for the next token.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kvring/kernels/decode.cuh"
#include "kvring/kernels/gemv.cuh"
#include "kvring/kernels/sample_cuda.cuh"
#include "kvring/model/prefill_pass_cuda.cuh"

namespace kvring {

/// How a GPU runs gemv: known when the decoder is made.
struct GpuShape {
  int multiprocessors = 1;
  bool overlaps_kernels = false;  // sm_90 and later

  static GpuShape of_current_device() {
    int device = 0, multiprocessors = 0, major = 0;
    check_cuda(cudaGetDevice(&device));
    check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    return {multiprocessors, major >= 9};
  }
};

template <class Plan>
struct DecodePass {
  using Work = CudaWork<Plan>;
  using Model = typename Plan::Model;
  using T = typename Plan::Element;
  static constexpr std::int64_t hidden = Model::hidden;

  const Work& work;
  const GpuShape& shape;
  std::int64_t sequences;
  float* parts;  // of attend_decode
  SampleScratch* sampling;
  SampleOptions sampler;
  bool fuses;  // what surrounds a product into its kernel, for one sequence

  /// How attention is split in layers of a kind.
  template <class Kind>
  static DecodePlan plan(std::int64_t context, std::int64_t sequences, const GpuShape& shape) {
    return plan_decode<typename Kind::Policy, Kind::heads>(
        Plan::template PlacementOf<Kind>::capacity(context), sequences, shape.multiprocessors);
  }
  /// Floats that `parts` must have room for.
  static std::int64_t parts_floats(std::int64_t context, std::int64_t sequences,
                                   const GpuShape& shape) {
    std::int64_t floats = 0;
    for (int kind = 0; kind < Plan::kinds; ++kind) {
      Plan::with_kind(kind, [&](auto of) {
        using Kind = typename decltype(of)::type;
        floats = larger(
            floats, plan<Kind>(context, sequences, shape).scratch_floats(Kind::heads, sequences));
      });
    }
    return floats;
  }

  void run(const Cuda& gpu) const {
    const CudaScratch<Plan>& layout = work.layout;
    auto* segments = reinterpret_cast<Segment*>(work.scratch + layout.step_segments);
    auto* ids = reinterpret_cast<std::int32_t*>(work.scratch + layout.step_ids);
    const Batch batch{segments, sequences, sequences};
    work.begin(gpu, batch, ids);
    Stream stream{work.singles(layout.residual), work.singles(layout.step_residual)};
    if constexpr (Work::input_width > 0) {
      // The embedding, rounded.
      multiply_added<hidden>(gpu, stream, {}, work.weights.layer_inputs_of_embedding,
                             StoreValue<T>{work.elements(layout.inputs), Work::inputs_width});
      work.mix(gpu, ids, sequences);
    }
    Pending pending{.next = &work.layer(0).attention_norm};
    for (std::int64_t i = 0; i < Plan::layers; ++i) {
      Plan::with_kind(Plan::kind_of[static_cast<std::size_t>(i)], [&](auto of) {
        pending = attention_block<typename decltype(of)::type>(gpu, i, batch, stream, pending);
      });
      pending = feed_forward_block(gpu, i, stream, pending);
    }
    pending.next = &work.weights.final_norm;
    float* logits = work.singles(layout.logits);
    multiply_added<hidden>(
        gpu, stream, pending, work.weights.head(),
        StoreLogit{logits, Model::vocabulary, static_cast<float>(Model::block.final_softcap)});
    for (std::int64_t s = 0; s < sequences; ++s) {
      sample_row(gpu, logits + s * Model::vocabulary, Model::vocabulary, sampler,
                 &segments[s].start, ids + s, sampling);
    }
    advance(gpu, segments, sequences);
  }

 private:
  using Norm = Buffer<float, Cuda>;

  /// The residual stream, and a second place for it: a fused product reads the one and writes the
  /// other.
  struct Stream {
    float *now, *other;
  };
  /// What is still to be done to the residual stream before the next product: += norm(added), times
  /// scale, then a norm for the product's sake.
  struct Pending {
    const float* added = nullptr;
    const Norm* post = nullptr;
    float scale = 1;
    const Norm* next = nullptr;
  };

  template <std::int64_t In, class Input, class Store>
  void multiply_input(const Cuda& gpu, const Input& input, const CudaMatrix<T>& w,
                      const Store& store) const {
    gemv<In>(gpu, w.data(), input, sequences, w.out / (Store::pairs ? 2 : 1), store,
             shape.multiprocessors, shape.overlaps_kernels);
  }
  template <std::int64_t In, class Store>
  void multiply(const Cuda& gpu, const T* x, const CudaMatrix<T>& w, const Store& store) const {
    if (sequences == 1 && fuses) return multiply_input<In>(gpu, PlainRow<T>{x}, w, store);
    multiply_input<In>(gpu, PlainRows<T>{x}, w, store);
  }

  /// Does what is pending, then the product with what comes of it. In one kernel for one sequence,
  /// if a row fits its registers; the bits are the same.
  template <std::int64_t In, class Store>
  void multiply_added(const Cuda& gpu, Stream& stream, const Pending& pending,
                      const CudaMatrix<T>& w, const Store& store) const {
    const auto data = [](const Norm* norm) { return norm == nullptr ? nullptr : norm->data(); };
    if constexpr (In <= detail::RowOfBlock<256>::most) {
      if (sequences == 1 && fuses) {
        multiply_input<In>(gpu,
                           AddedRow<T>{{.added = pending.added,
                                        .post_weight = data(pending.post),
                                        .residual = stream.now,
                                        .to_residual = stream.other,
                                        .scale = pending.scale,
                                        .next_weight = data(pending.next),
                                        .width = In,
                                        .epsilon = Work::epsilon}},
                           w, store);
        if (pending.added != nullptr) std::swap(stream.now, stream.other);
        return;
      }
    }
    T* normed = work.elements(work.layout.normed);
    add_norm_rows(gpu, pending.added, data(pending.post), stream.now, pending.scale,
                  data(pending.next), normed, sequences, In, Work::epsilon);
    multiply<In>(gpu, normed, w, store);
  }

  template <class Kind>
  Pending attention_block(const Cuda& gpu, std::int64_t i, Batch batch, Stream& stream,
                          const Pending& pending) const {
    const CudaLayerWeights<T>& w = work.layer(i);
    const CudaScratch<Plan>& layout = work.layout;
    const auto kind = static_cast<std::size_t>(Plan::kind_of[static_cast<std::size_t>(i)]);
    float *qkv = work.singles(layout.step_qkv), *added = work.singles(layout.added);
    multiply_added<hidden>(gpu, stream, pending, w.qkv, StoreValue<float>{qkv, w.qkv.out});
    work.template append<Kind>(gpu, i, work.caches.template view<Kind>(i), batch,
                               static_cast<const float*>(qkv), work.singles(layout.rope[kind]));
    attend_decode<1>(gpu, typename Kind::Policy{}, work.caches.template view<Kind>(i), batch,
                     work.elements(layout.q), work.elements(layout.attended),
                     work.template scores<Kind>(),
                     plan<Kind>(work.caches.context(), sequences, shape), parts);
    multiply<Kind::heads.q_dim()>(gpu, work.elements(layout.attended), w.out,
                                  StoreValue<float>{added, hidden});
    return {.added = added, .post = &w.post_attention_norm, .scale = 1, .next = &w.ffn_norm};
  }

  Pending feed_forward_block(const Cuda& gpu, std::int64_t i, Stream& stream,
                             const Pending& pending) const {
    // Feed-forward blocks have one width, or two.
    constexpr std::int64_t first = ffn_width<Model>(0), last = ffn_width<Model>(Plan::layers - 1);
    if (work.layer(i).down.in == first) {
      return feed_forward_block<first>(gpu, i, stream, pending);
    }
    return feed_forward_block<last>(gpu, i, stream, pending);
  }

  template <std::int64_t Ffn>
  Pending feed_forward_block(const Cuda& gpu, std::int64_t i, Stream& stream,
                             const Pending& pending) const {
    using Activate = typename Work::Activate;
    const CudaLayerWeights<T>& w = work.layer(i);
    const CudaScratch<Plan>& layout = work.layout;
    T* gated = work.elements(layout.gated);
    float* added = work.singles(layout.added);
    multiply_added<hidden>(gpu, stream, pending, w.gate_up,
                           StoreGatedPair<Activate, T>{gated, Ffn});
    multiply<Ffn>(gpu, gated, w.down, StoreValue<float>{added, hidden});
    Pending next{added, &w.post_ffn_norm, w.scalar, work.norm_before(i + 1)};
    if constexpr (Work::input_width > 0) {
      constexpr std::int64_t width = Work::input_width;
      multiply_added<hidden>(gpu, stream, {added, &w.post_ffn_norm, 1, nullptr}, w.input_gate,
                             StoreGated<Activate, T, T>{work.elements(layout.inputs) + i * width,
                                                        Work::inputs_width, gated, width});
      multiply<width>(gpu, gated, w.input_out, StoreValue<float>{added, hidden});
      next.post = &w.post_input_norm;
    }
    return next;
  }
};

}  // namespace kvring
