// Everything about a model that can be said before its weights are read: which compiled type
// answers to the file, what its plan takes, and whether that fits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine.hpp"
#include "kvring/io/chat.hpp"
#include "kvring/report.hpp"
#include "model_file.hpp"

namespace kvring::programs {

/// "auto" becomes the GPU, or the host, with a sentence on the standard error stream that says why.
void settle_device(EngineOptions& options);

/// Throws Error if this build or machine has no such device, or this build no such chunk.
void require_compiled(const EngineOptions& options);

struct ModelChoice {
  std::string name;
  std::int64_t vocabulary = 0;
  std::int64_t max_context = 0;
  std::optional<ChatTemplate> chat;  // that its instruction-tuned versions were trained on
};

/// The type of Models that answers to a file. Throws Error, with the nearest type, the fields in
/// which they differ and what to add to Models, if none does.
ModelChoice choose_model(const ModelFile& file);

/// What the plan of the chosen type takes.
MemoryReport memory_report(const ModelFile& file, const EngineOptions& options);

/// Throws Error, with what is wanted, what is free and the longest context that would fit, unless
/// there is memory for the weights and the plan.
void require_memory(const ModelFile& file, const EngineOptions& options);

/// Throws Error, with each differing field, unless the state is of this model in caches of this
/// type. `weights`: ModelFile::checksum().
void require_state(const StateFile& state, const ModelFile& file, const EngineOptions& options,
                   const std::string& weights);

/// Loads the model on the device that the options name.
std::unique_ptr<Engine> make_engine(const ModelFile& file, const EngineOptions& options);

}  // namespace kvring::programs
