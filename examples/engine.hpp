// Engine: a model on a back end, its types hidden behind virtual functions, so that the programs
// choose model, cache and device at run time. Which combinations exist is decided when the engine_*
// files are compiled: one file for each element type of the caches, all Models in each.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvring/element.hpp"
#include "kvring/model/sampler.hpp"
#include "kvring/plan.hpp"
#include "published_models.hpp"

namespace kvring {
struct LookupReport;
struct PlanField;
class StateFile;
}  // namespace kvring

namespace kvring::programs {

class ModelFile;

/// The model types that the programs run. A type that is added here is compiled and chosen.
using Models = TypeList<models::Gemma3_270M, models::Gemma3_1B, models::SmolLM2_135M,
                        models::SmolLM2_360M, models::Qwen3_0_6B>;

template <class Model, Element T>
using PlanOf = Plan<Model, T, Chunk<4096>, Rewind<64>>;
inline constexpr std::int64_t compiled_chunk = 4096, compiled_rewind = 64;

struct EngineOptions {
  std::string device = "host";  // "cuda", or "auto": what settle_device makes of it
  std::string cache = "f32";    // or "f16", "bf16"
  std::int64_t context = 0;     // positions
  std::int64_t chunk = compiled_chunk;
  std::int64_t logit_rows = 0;  // rows whose logits are made at once by prefill_all
};

/// One sequence in a model. Token ids are checked, and so is whether they fit, before any work.
class Engine {
 public:
  /// Called with the share of a prompt that is done, 0...1.
  using Progress = std::function<void(double)>;
  /// Called with logits [rows, vocabulary], in host memory, of positions from `position` on.
  using Rows = std::function<void(std::int64_t position, std::int64_t rows, const float* logits)>;
  /// Called with each token that was chosen; false: no more.
  using Take = std::function<bool(std::int32_t id)>;

  virtual ~Engine() = default;

  /// Appends a prompt. Returns the path that it took, in words.
  virtual std::string prefill(std::span<const std::int32_t> ids, const Progress& progress) = 0;
  /// The same, and hands out the logits of every position, options.logit_rows of them at a time.
  virtual std::string prefill_all(std::span<const std::int32_t> ids, const Rows& rows,
                                  const Progress& progress) = 0;
  /// Appends one token.
  virtual void append(std::int32_t id) = 0;
  /// Logits [vocabulary] of the last position, in host memory; valid until the next call.
  virtual std::span<const float> logits() = 0;
  /// Appends `first`, then what is chosen after it, at most `count` tokens in all.
  virtual void generate(std::int32_t first, std::int64_t count, Sampler& sampler,
                        const Take& take) {
    for (std::int64_t i = 0; i < count; ++i) {
      append(first);
      first = sampler(logits());
      if (!take(first)) return;
    }
  }

  // Engines on the host have these; the others refuse.

  /// What generate() does greedily, with up to `drafts` guesses at a time. `text` ends with the
  /// token to append first; guesses come from it.
  virtual LookupReport generate_by_lookup(std::span<const std::int32_t> text, std::int64_t count,
                                          std::int64_t drafts, const Take& take);
  /// Writes the sequence, whose text `tokens` is or begins with; returns the bytes of its rows.
  /// `weights`: ModelFile::checksum().
  virtual std::int64_t save_state(const std::string& path, std::span<const std::int32_t> tokens,
                                  const std::string& weights);
  /// Goes on where the file's sequence stood, but for positions from `keep` on.
  virtual void load_state(const StateFile& state, const std::string& weights, std::int64_t keep);
};

/// What a state file holds besides the plan's fields.
std::vector<PlanField> state_fields(const std::string& weights);

/// Loads the weights of the model called `model` from `file`, which must outlive the engine, and
/// allocates all that the plan says. `T`: of the caches. In engine_host_T.cpp.
template <Element T>
std::unique_ptr<Engine> make_host_engine(std::string_view model, const ModelFile& file,
                                         const EngineOptions& options);

#if defined(KVRING_CUDA)
/// engine_cuda_T.cu: the same on the current device, and the bytes that it works in.
template <Element T>
std::unique_ptr<Engine> make_cuda_engine(std::string_view model, const ModelFile& file,
                                         const EngineOptions& options);
template <Element T>
std::int64_t cuda_scratch_bytes(std::string_view model, std::int64_t context, std::int64_t chunk);
/// engine_cuda.cu: why this program cannot run on a GPU here, or ""; and the bytes free on it.
std::string cuda_refusal();
std::int64_t cuda_free_bytes();
#endif

}  // namespace kvring::programs
