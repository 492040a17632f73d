// Decoder: one chunk of tokens through all layers of a model, over proved caches.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>

#include "kvring/block.hpp"
#include "kvring/cache.hpp"
#include "kvring/feed_forward.hpp"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/kernels/per_layer_input.hpp"
#include "kvring/kernels/rope.hpp"
#include "kvring/kernels/rows.hpp"
#include "kvring/kernels/stage.hpp"
#include "kvring/kernels/stages.hpp"
#include "kvring/model/new_batch.hpp"
#include "kvring/model/row_steps.hpp"
#include "kvring/model/weights.hpp"
#include "kvring/scratch.hpp"

namespace kvring {

template <class PlanType, Backend B>
class Decoder {
 public:
  using Plan = PlanType;
  using Model = typename Plan::Model;

  /// Allocates Plan::cache_bytes(context, sequences) and scratch_bytes(context, sequences) at once,
  /// and nothing later. `chunk` may shorten the plan's.
  Decoder(B backend, const Weights<Model, B>& weights, std::int64_t context,
          std::int64_t sequences = 1, std::int64_t chunk = Plan::chunk)
      : backend_(backend),
        row_(backend),
        weights_(&weights),
        chunk_(checked_chunk(chunk)),
        layout_(context, sequences, chunk),
        caches_(backend, context, sequences),
        stages_(backend, context, sequences, chunk),
        scratch_(backend, layout_.floats),
        segments_(backend, sequences + 1),
        ids_(backend, layout_.rows),
        new_(segments_.data(), ids_.data()) {}

  static constexpr std::int64_t scratch_bytes(std::int64_t context, std::int64_t sequences = 1,
                                              std::int64_t chunk = Plan::chunk) {
    const ScratchLayout<Plan> layout(context, sequences, chunk);
    return layout.bytes() + StagePlan<Plan>::bytes(context, sequences, chunk) +
           (sequences + 1) * static_cast<std::int64_t>(sizeof(Segment)) +
           layout.rows * static_cast<std::int64_t>(sizeof(std::int32_t));
  }

  std::int64_t chunk() const { return chunk_; }
  std::int64_t context() const { return caches_.context(); }
  std::int64_t vocabulary() const { return Model::vocabulary; }
  Caches<Plan, B>& caches() { return caches_; }
  Timeline<Plan>& timeline(std::int64_t sequence) { return caches_.timeline(sequence); }

  /// Appends and attends the new tokens, chunk() rows of them at most in all. Everything is checked
  /// before anything is written: what is refused has changed nothing.
  void forward(std::span<const NewTokens> batch, Wanted wanted) {
    new_.accept(backend_, caches_, batch, wanted, chunk_);
    const std::int64_t rows = new_.rows();

    weights_->embedding.embed(
        backend_, ids_.data(), rows,
        Model::block.scaled_embedding ? std::sqrt(static_cast<float>(Model::hidden)) : 1.0f,
        at(layout_.residual));
    if constexpr (input_width > 0) make_layer_inputs();
    for (int kind = 0; kind < Plan::kinds; ++kind) {
      Plan::with_kind(kind, [&](auto of) {
        for_each(backend_, rows,
                 RopeTable{.batch = new_.whole(),
                           .rope = decltype(of)::type::rope,
                           .table = at(layout_.rope[static_cast<std::size_t>(kind)])});
      });
    }
    for (std::int64_t layer = 0; layer < Plan::layers; ++layer) {
      const bool last = layer == Plan::layers - 1;
      Plan::with_kind(Plan::kind_of[static_cast<std::size_t>(layer)], [&](auto of) {
        attention_block<typename decltype(of)::type>(layer, last ? new_.first_wanted() : 0);
      });
      feed_forward_block(layer, last ? new_.first_wanted() : 0);
      if (probe) probe(layer, at(layout_.residual), rows);
    }
  }

  /// Logits [vocabulary] of a row of the last forward, one that was wanted, into host memory.
  void logits(std::int64_t row, float* out) {
    final_norm(row, 1);
    head().logits(backend_, at(layout_.normed), at(layout_.logits));
    row_.softcap(1, at(layout_.logits));
    backend_.to_host(out, at(layout_.logits),
                     static_cast<std::size_t>(vocabulary()) * sizeof(float));
  }

  /// Logits of `count` rows into host memory, [count, vocabulary], each with the bits that
  /// logits(row, out) gives. Only where the back end's Table can.
  void logits_of_each(std::int64_t row, std::int64_t count,
                      float* out) requires(std::derived_from<B, Host>) {
    final_norm(row, count);
    head().logits_of_each(backend_, at(layout_.normed), count, out);
    row_.softcap(count, out);
  }

  /// Logits of `count` rows at once, into memory of the back end with room for a multiple of four
  /// rows: [count, vocabulary].
  void logits(std::int64_t row, std::int64_t count, float* out) {
    final_norm(row, count);
    head().logits(backend_, at(layout_.normed), count, out);
    row_.softcap(count, out);
  }

  /// The rows of the last call of logits() after the final norm, [rows, hidden].
  const float* final_hidden() const { return scratch_.data() + layout_.normed; }

  /// For tests and progress bars: called after every layer with the residual stream [rows, hidden].
  std::function<void(std::int64_t layer, const float* residual, std::int64_t rows)> probe;

 private:
  static constexpr float epsilon = static_cast<float>(Model::norm_epsilon);
  static constexpr std::int64_t input_width = Model::block.per_layer_width;

  static std::int64_t checked_chunk(std::int64_t chunk) {
    require(chunk >= 1 && chunk <= Plan::chunk, "a chunk of ", chunk,
            " rows was asked for, but this plan is proved for chunks of 1 to ", Plan::chunk,
            "; ask for less, or compile a plan with a larger Chunk");
    return chunk;
  }

  const Table<B>& head() const {
    return Model::block.tied_head ? weights_->embedding : weights_->head;
  }

  void final_norm(std::int64_t row, std::int64_t count) {
    require(row >= new_.first_wanted() && row + count <= new_.rows(), "logits of rows ", row,
            " to ", row + count - 1, " were asked for, but rows ", new_.first_wanted(), " to ",
            new_.rows() - 1, " were computed");
    row_.norm(at(layout_.residual) + row * Model::hidden, weights_->final_norm, count,
              at(layout_.normed));
  }

  float* at(std::int64_t offset) { return scratch_.data() + offset; }

  /// The slice of each layer of the per-layer inputs, for all rows, in blocks.
  void make_layer_inputs() {
    constexpr std::int64_t width = Plan::layers * input_width;
    for (std::int64_t row = 0; row < new_.rows(); row += layout_.ffn_rows) {
      const std::int64_t rows = smaller(layout_.ffn_rows, new_.rows() - row);
      float* inputs = at(layout_.inputs) + row * width;
      weights_->layer_inputs.embed(backend_, ids_.data() + row, rows,
                                   std::sqrt(static_cast<float>(input_width)), at(layout_.table));
      weights_->layer_inputs_of_embedding(backend_, at(layout_.residual) + row * Model::hidden,
                                          rows, inputs);
      for_each(backend_, rows,
               MixPerLayerInputs{.table = at(layout_.table),
                                 .weight = weights_->layer_input_norm.data(),
                                 .mixed = inputs,
                                 .layers = Plan::layers,
                                 .width = input_width,
                                 .scale = 1 / std::sqrt(static_cast<float>(Model::hidden)),
                                 .epsilon = epsilon});
    }
  }

  /// residual += attention(norm(residual)), for the rows from `first` on; every row is appended,
  /// unless the layer reads the cache of a donor.
  template <class Kind>
  void attention_block(std::int64_t layer, std::int64_t first) {
    if constexpr (Plan::template PlacementOf<Kind>::is_staged) {
      if (new_.is_staged(Plan::kind_of[static_cast<std::size_t>(layer)])) {
        const auto staged = stages_.template view<Kind>(caches_, layer, new_.whole());
        if (Plan::owns_cache(layer)) open_stage(backend_, staged);
        attention_over<Kind>(staged, layer, first);
        if (layer == StagePlan<Plan>::Order::last_reader(layer)) commit_stage(backend_, staged);
        return;
      }
    }
    attention_over<Kind>(caches_.template view<Kind>(layer), layer, first);
  }

  template <class Kind, class View>
  void attention_over(View cache, std::int64_t layer, std::int64_t first) {
    constexpr Heads heads = Kind::heads;
    const LayerWeights<B>& w = weights_->layers[static_cast<std::size_t>(layer)];
    const std::int64_t rows = new_.rows(), rest = rows - first;
    const auto kind = static_cast<std::size_t>(Plan::kind_of[static_cast<std::size_t>(layer)]);
    const float* angles = at(layout_.rope[kind]);
    float* normed = at(layout_.normed);
    float *q = at(layout_.q), *k = at(layout_.k), *v = at(layout_.v);

    row_.norm(at(layout_.residual), w.attention_norm, rows, normed);
    if (Plan::owns_cache(layer)) {
      w.k(backend_, normed, rows, k);
      if constexpr (value_from_key<Kind>) {
        for_each(backend_, rows, CopyRows{.from = k, .to = v, .width = heads.kv_dim()});
      } else {
        w.v(backend_, normed, rows, v);
      }
      if constexpr (Model::block.qk_norm) row_.norm_heads(w.k_norm, rows * heads.kv, heads.dim, k);
      if constexpr (Model::block.v_norm) {
        row_.plain_norm_heads(rows * heads.kv, heads.dim, v);
      }
      row_.template rotate<Kind>(angles, rows, heads.kv, k);
      append_rows(backend_, cache, new_.whole(), k, v);
    }
    if (rest == 0) return;

    if (first > 0) {
      for_each(
          backend_, rest,
          CopyRows{.from = normed + first * Model::hidden, .to = normed, .width = Model::hidden});
    }
    w.q(backend_, normed, rest, q);
    if constexpr (Model::block.qk_norm) row_.norm_heads(w.q_norm, rest * heads.q, heads.dim, q);
    row_.template rotate<Kind>(angles + first * Kind::rope.rotated, rest, heads.q, q);
    attend(backend_, typename Kind::Policy{}, KeyTile<Plan::key_tile>{}, cache,
           new_.host_from(first), new_.from(first), q, at(layout_.attended),
           Scores{.scale = static_cast<float>(1 / std::sqrt(Kind::query_scalar))});
    w.out(backend_, at(layout_.attended), rest, at(layout_.added));
    row_.add(at(layout_.added), w.post_attention_norm, rest,
             at(layout_.residual) + first * Model::hidden);
  }

  /// residual += feed-forward(norm(residual)), for the rows from `first` on, in blocks whose gates
  /// stay in the cache of the processor.
  void feed_forward_block(std::int64_t layer, std::int64_t first) {
    const LayerWeights<B>& w = weights_->layers[static_cast<std::size_t>(layer)];
    float *gate = at(layout_.gate), *up = at(layout_.up), *normed = at(layout_.normed);
    for (std::int64_t row = first; row < new_.rows(); row += layout_.ffn_rows) {
      const std::int64_t rows = smaller(layout_.ffn_rows, new_.rows() - row);
      float* residual = at(layout_.residual) + row * Model::hidden;
      row_.norm(residual, w.ffn_norm, rows, normed);
      w.gate(backend_, normed, rows, gate);
      w.up(backend_, normed, rows, up);
      row_.activate(up, gate, rows, ffn_width<Model>(layer), ffn_width<Model>(layer));
      w.down(backend_, gate, rows, at(layout_.added));
      row_.add(at(layout_.added), w.post_ffn_norm, rows, residual);
      if constexpr (input_width > 0) add_layer_input(layer, row, rows);
      if constexpr (Model::block.layer_scalar) {
        for_each(backend_, rows,
                 ScaleRows{.x = residual, .width = Model::hidden, .scale = w.scalar});
      }
    }
  }

  /// residual += norm(out(activation(gate(residual)) * the layer's slice of its inputs)).
  void add_layer_input(std::int64_t layer, std::int64_t row, std::int64_t rows) {
    const LayerWeights<B>& w = weights_->layers[static_cast<std::size_t>(layer)];
    constexpr std::int64_t width = Plan::layers * input_width;
    float* residual = at(layout_.residual) + row * Model::hidden;
    w.input_gate(backend_, residual, rows, at(layout_.gate));
    row_.activate(at(layout_.inputs) + row * width + layer * input_width, at(layout_.gate), rows,
                  input_width, width);
    w.input_out(backend_, at(layout_.gate), rows, at(layout_.added));
    row_.add(at(layout_.added), w.post_input_norm, rows, residual);
  }

  B backend_;
  RowSteps<Model, B> row_;
  const Weights<Model, B>* weights_;
  std::int64_t chunk_;
  ScratchLayout<Plan> layout_;
  Caches<Plan, B> caches_;
  Stages<Plan, B> stages_;
  Buffer<float, B> scratch_;
  Buffer<Segment, B> segments_;
  Buffer<std::int32_t, B> ids_;
  NewBatch<Plan, B> new_;  // of the last forward
};

}  // namespace kvring
