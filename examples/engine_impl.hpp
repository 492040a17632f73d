// TypedEngine: an Engine made of a model, an element and a back end. Included by engine_host.hpp
// and engine_cuda.cuh, each beside the headers of its back end; nothing here may need fmt or Eigen.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine.hpp"
#include "kvring/io/state_file.hpp"
#include "kvring/model/decoder.hpp"
#include "kvring/model/load_gguf.hpp"
#include "kvring/model/load_safetensors.hpp"
#include "kvring/model/lookup.hpp"
#include "kvring/model/prefill.hpp"
#include "model_file.hpp"

namespace kvring::programs {

template <class Model, Backend B>
Weights<Model, B> load(B backend, const ModelFile& file) {
  if (file.gguf() != nullptr) return load_gguf<Model>(backend, *file.gguf());
  return load_safetensors<Model>(backend, *file.safetensors());
}

template <class Model, Element T, Backend B>
class TypedEngine final : public Engine {
 public:
  TypedEngine(B backend, const ModelFile& file, const EngineOptions& options)
      : backend_(backend),
        weights_(load<Model>(backend, file)),
        decoder_(backend, weights_, options.context, 1, options.chunk),
        block_rows_(options.logit_rows),
        block_(backend, block_rows_ * Model::vocabulary),
        logits_(static_cast<std::size_t>(Model::vocabulary)) {
    if constexpr (!on_host) {
      host_block_.resize(static_cast<std::size_t>(block_rows_ * Model::vocabulary));
    }
  }

  std::string prefill(std::span<const std::int32_t> ids, const Progress& progress) override {
    watch(ids, progress);
    return run(ids, Wanted::last, [&](Span span) { done_ += span.rows; });
  }

  std::string prefill_all(std::span<const std::int32_t> ids, const Rows& rows,
                          const Progress& progress) override {
    require(block_rows_ >= 1, "an engine without room for logits of all rows");
    decoder_.probe = nullptr;
    return run(ids, Wanted::all, [&](Span span) {
      for (std::int64_t row = 0; row < span.rows; row += block_rows_) {
        const std::int64_t count = smaller(block_rows_, span.rows - row);
        decoder_.logits(row, count, block_.data());
        rows(span.start.value + row, count, on_host_side(count));
        progress(static_cast<double>(done_ + row + count) / static_cast<double>(ids.size()));
      }
      done_ += span.rows;
    });
  }

  void append(std::int32_t id) override {
    const NewTokens token{.sequence = 0, .ids = {&id, 1}};
    decoder_.probe = nullptr;
    decoder_.forward({&token, 1}, Wanted::last);
    last_row_ = 0;
  }

  std::span<const float> logits() override {
    decoder_.logits(last_row_, logits_.data());
    return logits_;
  }

  LookupReport generate_by_lookup(std::span<const std::int32_t> text, std::int64_t count,
                                  std::int64_t drafts, const Take& take) override {
    decoder_.probe = nullptr;
    last_row_ = 0;
    return kvring::generate_by_lookup(decoder_, 0, text, count, {.drafts = drafts}, take);
  }

  std::int64_t save_state(const std::string& path, std::span<const std::int32_t> tokens,
                          const std::string& weights) override {
    const Snapshot<Plan> snapshot(decoder_.caches(), 0);
    write_state(path, snapshot, tokens, state_fields(weights));
    return static_cast<std::int64_t>(snapshot.bytes());
  }

  void load_state(const StateFile& state, const std::string& weights, std::int64_t keep) override {
    state.snapshot<Plan>(state_fields(weights)).restore(decoder_.caches(), 0);
    decoder_.timeline(0).rewind_to({keep});
  }

 private:
  using Plan = PlanOf<Model, T>;
  static constexpr bool on_host = std::derived_from<B, Host>;

  template <class AfterChunk>
  std::string run(std::span<const std::int32_t> ids, Wanted wanted, AfterChunk after_chunk) {
    done_ = 0;
    const auto note = [&](Span span) {
      last_row_ = span.rows - 1;
      after_chunk(span);
    };
    return kvring::prefill(decoder_, 0, ids, wanted, note).path;
  }

  /// Reports progress after every layer: chunks are few.
  void watch(std::span<const std::int32_t> ids, const Progress& progress) {
    decoder_.probe = [this, progress, all = static_cast<double>(ids.size())](
                         std::int64_t layer, const float*, std::int64_t rows) {
      const double share = static_cast<double>(layer + 1) / Model::Layers::layers;
      progress((static_cast<double>(done_) + share * static_cast<double>(rows)) / all);
    };
  }

  const float* on_host_side(std::int64_t rows) {
    if constexpr (on_host) return block_.data();
    const auto count = static_cast<std::size_t>(rows * Model::vocabulary);
    backend_.to_host(host_block_.data(), block_.data(), count * sizeof(float));
    return host_block_.data();
  }

  B backend_;
  Weights<Model, B> weights_;
  Decoder<Plan, B> decoder_;
  std::int64_t block_rows_;
  Buffer<float, B> block_;         // [block_rows, vocabulary]
  std::vector<float> host_block_;  // the same, unless block_ is host memory
  std::vector<float> logits_;      // [vocabulary]
  std::int64_t done_ = 0;          // rows of the prompt in earlier chunks
  std::int64_t last_row_ = 0;      // of the last chunk
};

/// The engine of the one of Models that is called `model`.
template <Element T, Backend B>
std::unique_ptr<Engine> make_typed_engine(B backend, std::string_view model, const ModelFile& file,
                                          const EngineOptions& options) {
  std::unique_ptr<Engine> engine;
  for_each_type(Models{}, [&]<class Model>(std::type_identity<Model>) {
    if (model != Model::name) return;
    engine = std::make_unique<TypedEngine<Model, T, B>>(backend, file, options);
  });
  return engine;
}

}  // namespace kvring::programs
