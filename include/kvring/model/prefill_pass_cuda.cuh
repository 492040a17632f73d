// PrefillPass: a chunk of tokens through all layers on a GPU, with products by Gemm and attention
// on tensor cores. A row's bits depend on its own sequence alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kvring/cache.hpp"
#include "kvring/kernels/append_fused.cuh"
#include "kvring/kernels/attend_prefill.cuh"
#include "kvring/kernels/elementwise_cuda.cuh"
#include "kvring/kernels/rows_cuda.cuh"
#include "kvring/kernels/stage_rows.cuh"
#include "kvring/kernels/stages.hpp"
#include "kvring/kernels/step_rows.cuh"
#include "kvring/model/gemm_cuda.cuh"
#include "kvring/model/new_batch.hpp"
#include "kvring/model/scratch_cuda.hpp"
#include "kvring/model/weights_cuda.cuh"

namespace kvring {

/// What the passes of a decoder work with: all of it is owned by the decoder.
template <class Plan>
struct CudaWork {
  using Model = typename Plan::Model;
  using T = typename Plan::Element;
  using Activate =
      std::conditional_t<Model::block.activation == Activation::gelu_tanh, GeluTanh, Silu>;

  const CudaWeights<Model, T>& weights;
  Caches<Plan, Cuda>& caches;
  Stages<Plan, Cuda>& stages;
  const CudaScratch<Plan>& layout;
  std::byte* scratch;

  static constexpr float epsilon = static_cast<float>(Model::norm_epsilon);
  static constexpr std::int64_t hidden = Model::hidden;
  static constexpr std::int64_t input_width = Model::block.per_layer_width;
  static constexpr std::int64_t inputs_width = Plan::layers * input_width;

  float* singles(std::int64_t offset) const { return reinterpret_cast<float*>(scratch + offset); }
  T* elements(std::int64_t offset) const { return reinterpret_cast<T*>(scratch + offset); }
  static constexpr float embedding_scale() {
    return Model::block.scaled_embedding ? std::sqrt(static_cast<float>(hidden)) : 1.0f;
  }
  const CudaLayerWeights<T>& layer(std::int64_t i) const {
    return weights.layers[static_cast<std::size_t>(i)];
  }

  /// The embedding of ids, the angles of their positions, and the start of per-layer inputs.
  void begin(const Cuda& gpu, Batch batch, const std::int32_t* ids) const {
    embed_rows(gpu, weights.embedding.data(), ids, batch.rows, hidden, embedding_scale(),
               singles(layout.residual));
    for (std::size_t kind = 0; kind < Plan::kinds; ++kind) {
      Plan::with_kind(static_cast<int>(kind), [&](auto of) {
        rope_rows(gpu, batch, singles(layout.frequencies[kind]), decltype(of)::type::rope.rotated,
                  singles(layout.rope[kind]));
      });
    }
  }
  /// inputs = (norm(inputs) + rows of the per-layer table) / sqrt(2)
  void mix(const Cuda& gpu, const std::int32_t* ids, std::int64_t rows) const {
    mix_inputs<input_width, T>(gpu, {.table = weights.layer_inputs.data(),
                                     .ids = ids,
                                     .weight = weights.layer_input_norm.data(),
                                     .mixed = elements(layout.inputs),
                                     .rows = rows,
                                     .layers = Plan::layers,
                                     .scale = 1 / std::sqrt(static_cast<float>(hidden)),
                                     .table_scale = std::sqrt(static_cast<float>(input_width)),
                                     .epsilon = epsilon});
  }
  /// Norms, rotates and appends a projection [rows, out] of a layer to `view`; q goes to scratch.
  template <class Kind, class View, class In>
  void append(const Cuda& gpu, std::int64_t i, View view, Batch batch, const In* qkv,
              const float* angles) const {
    const CudaLayerWeights<T>& w = layer(i);
    append_fused(gpu, view, batch,
                 FusedAppend<In, T>{.qkv = qkv,
                                    .stride = w.qkv.out,
                                    .q = elements(layout.q),
                                    .q_norm = w.q_norm.data(),
                                    .k_norm = w.k_norm.data(),
                                    .v_norm = Model::block.v_norm,
                                    .value_from_key = value_from_key<Kind>,
                                    .append = Plan::owns_cache(i),
                                    .epsilon = epsilon,
                                    .angles = angles,
                                    .rotated = Kind::rope.rotated});
  }
  template <class Kind>
  static Scores scores() {
    return {.scale = static_cast<float>(1 / std::sqrt(Kind::query_scalar))};
  }
  /// residual = (residual + norm(added)) * scale, then normed = norm(residual), from row `first`;
  /// without a norm, the residual itself, rounded.
  void add(const Cuda& gpu, const float* added, const Buffer<float, Cuda>& post, float scale,
           const Buffer<float, Cuda>* next, std::int64_t first, std::int64_t rows) const {
    add_norm_rows(gpu, added, post.data(), singles(layout.residual) + first * hidden, scale,
                  next == nullptr ? nullptr : next->data(),
                  elements(layout.normed) + first * hidden, rows, hidden, epsilon);
  }
  /// The norm before layer i, or nullptr after the last.
  const Buffer<float, Cuda>* norm_before(std::int64_t i) const {
    return i < Plan::layers ? &layer(i).attention_norm : nullptr;
  }
};

template <class Plan>
struct PrefillPass {
  using Work = CudaWork<Plan>;
  using Model = typename Plan::Model;
  using T = typename Plan::Element;
  static constexpr std::int64_t hidden = Model::hidden;

  const Work& work;
  const Gemm<T>& gemm;
  const Cuda& gpu;
  const NewBatch<Plan, Cuda>& batch;

  /// after_layer(i) is called when layer i has been queued.
  template <class AfterLayer>
  void run(AfterLayer after_layer) const {
    const CudaScratch<Plan>& layout = work.layout;
    const std::int64_t rows = batch.rows();
    work.begin(gpu, batch.whole(), batch.ids());
    if constexpr (Work::input_width > 0) {
      round_rows(gpu, work.singles(layout.residual), work.elements(layout.normed), rows, hidden);
      multiply(work.elements(layout.normed), rows, work.weights.layer_inputs_of_embedding,
               work.elements(layout.inputs));
      work.mix(gpu, batch.ids(), rows);
    }
    norm_rows(gpu, work.singles(layout.residual), work.layer(0).attention_norm.data(),
              work.elements(layout.normed), rows, hidden, Work::epsilon);
    for (std::int64_t i = 0; i < Plan::layers; ++i) {
      const std::int64_t first = i == Plan::layers - 1 ? batch.first_wanted() : 0;
      Plan::with_kind(Plan::kind_of[static_cast<std::size_t>(i)],
                      [&](auto of) { attention_block<typename decltype(of)::type>(i, first); });
      if (first < rows) feed_forward_block(i, first);
      after_layer(i);
    }
  }

 private:
  template <class Out>
  void multiply(const T* x, std::int64_t rows, const CudaMatrix<T>& w, Out* y) const {
    gemm(gpu, x, rows, w.data(), w.out, w.in, y);
  }

  /// residual += attention(normed), for the rows from `first` on; every row is appended, unless the
  /// layer reads the cache of a donor. Leaves normed for the feed-forward block.
  template <class Kind>
  void attention_block(std::int64_t i, std::int64_t first) const {
    if constexpr (Plan::template PlacementOf<Kind>::is_staged) {
      if (batch.is_staged(Plan::kind_of[static_cast<std::size_t>(i)])) {
        const auto staged = work.stages.template view<Kind>(work.caches, i, batch.whole());
        if (Plan::owns_cache(i)) open_stage(gpu, staged);
        attention_over<Kind>(staged, i, first);
        if (i == StagePlan<Plan>::Order::last_reader(i)) commit_stage(gpu, staged);
        return;
      }
    }
    attention_over<Kind>(work.caches.template view<Kind>(i), i, first);
  }

  template <class Kind, class View>
  void attention_over(View cache, std::int64_t i, std::int64_t first) const {
    const CudaLayerWeights<T>& w = work.layer(i);
    const CudaScratch<Plan>& layout = work.layout;
    const std::int64_t rest = batch.rows() - first;
    const auto kind = static_cast<std::size_t>(Plan::kind_of[static_cast<std::size_t>(i)]);
    const std::int64_t skipped = Plan::owns_cache(i) ? 0 : first;  // of the projection
    if (skipped == batch.rows()) return;
    float* qkv = work.singles(layout.qkv);
    multiply(work.elements(layout.normed) + skipped * hidden, batch.rows() - skipped, w.qkv, qkv);
    work.template append<Kind>(gpu, i, cache, batch.from(skipped), static_cast<const float*>(qkv),
                               work.singles(layout.rope[kind]) + skipped * Kind::rope.rotated);
    if (rest == 0) return;
    attend_prefill(gpu, typename Kind::Policy{}, cache, batch.from(first),
                   work.elements(layout.q) + (first - skipped) * Kind::heads.q_dim(),
                   work.elements(layout.attended), work.template scores<Kind>());
    float* added = work.singles(layout.added);
    multiply(work.elements(layout.attended), rest, w.out, added);
    work.add(gpu, added, w.post_attention_norm, 1, &w.ffn_norm, first, rest);
  }

  /// residual += feed-forward(normed); then what the layer's own input adds. Leaves normed for the
  /// next layer.
  void feed_forward_block(std::int64_t i, std::int64_t first) const {
    const CudaLayerWeights<T>& w = work.layer(i);
    const CudaScratch<Plan>& layout = work.layout;
    const std::int64_t ffn = w.down.in, rest = batch.rows() - first;
    T *normed = work.elements(layout.normed), *gated = work.elements(layout.gated);
    float* added = work.singles(layout.added);
    // Blocks of equal size, rounded up to a tile of rows.
    const std::int64_t blocks = ceil_div(rest, layout.ffn_rows);
    const std::int64_t block = smaller(round_up(ceil_div(rest, blocks), 128), layout.ffn_rows);
    for (std::int64_t row = 0; row < rest; row += block) {
      const std::int64_t rows = smaller(block, rest - row);
      T* gate_up = work.elements(layout.gate_up);
      multiply(normed + (first + row) * hidden, rows, w.gate_up, gate_up);
      gate_rows<typename Work::Activate>(gpu, gate_up, 2 * ffn, gate_up + ffn, 2 * ffn,
                                         gated + row * ffn, rows, ffn);
    }
    multiply(gated, rest, w.down, added);
    if constexpr (Work::input_width == 0) {
      work.add(gpu, added, w.post_ffn_norm, w.scalar, work.norm_before(i + 1), first, rest);
    } else {
      constexpr std::int64_t width = Work::input_width, all = Work::inputs_width;
      work.add(gpu, added, w.post_ffn_norm, 1, nullptr, first, rest);
      multiply(normed + first * hidden, rest, w.input_gate, gated);
      gate_rows<typename Work::Activate>(gpu, gated, width,
                                         work.elements(layout.inputs) + first * all + i * width,
                                         all, gated, rest, width);
      multiply(gated, rest, w.input_out, added);
      work.add(gpu, added, w.post_input_norm, w.scalar, work.norm_before(i + 1), first, rest);
    }
  }
};

}  // namespace kvring
