// Which engine answers to a file and to the options, and whether there is memory for it.
#include "engine.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "kvring/io/state_file.hpp"
#include "kvring/model/config_json.hpp"
#include "kvring/model/decoder.hpp"
#include "kvring/model/differences.hpp"
#include "kvring/model/load_gguf.hpp"
#include "kvring/model/lookup.hpp"
#include "model_choice.hpp"

namespace kvring::programs {

namespace {

/// In what a file differs from a type that states no more than its plan needs.
template <class Model>
std::string plan_differences(const ModelFile& file) {
  detail::Differences differences;
  const auto compare = [&](const std::string& field, std::int64_t in_file, std::int64_t in_type) {
    differences.compare<std::int64_t>(field, in_file, {}, in_type);
  };
  if (const GgufFile* gguf = file.gguf()) {
    const std::string family(gguf->string("general.architecture"));
    differences.compare<std::string>("general.architecture", family, {}, Model::architecture);
    if (family != Model::architecture) return differences.text();
    const auto number = [&](const char* name, std::int64_t in_type) {
      const std::string key = concat(family, ".", name);
      compare(key, static_cast<std::int64_t>(gguf->u64(key)), in_type);
    };
    number("block_count", Model::Layers::layers);
    number("embedding_length", Model::hidden);
    return differences.text();
  }
  const JsonObject config(file.safetensors()->config());
  const std::string family = config.string("model_type").value_or("absent");
  differences.compare<std::string>("model_type", family, {},
                                   std::string(detail::model_type_of<Model>()));
  if (!differences.text().empty()) return differences.text();
  compare("num_hidden_layers", config.integer("num_hidden_layers").value_or(0),
          Model::Layers::layers);
  compare("hidden_size", config.integer("hidden_size").value_or(0), Model::hidden);
  return differences.text();
}

/// In what a file differs from a type: empty, or every field with both values.
template <class Model>
std::string differences(const ModelFile& file) {
  if constexpr (PlanOnly<Model>) {
    return plan_differences<Model>(file);
  } else {
    if (file.gguf() != nullptr) return gguf_differences<Model>(*file.gguf());
    return config_differences<Model>(file.safetensors()->config());
  }
}

bool of_another_family(std::string_view differences) {
  return differences.starts_with("general.architecture") || differences.starts_with("model_type");
}

template <class Model>
std::optional<ChatTemplate> chat_of() {
  if constexpr (requires { Model::chat; }) {
    constexpr std::string_view name = Model::chat;
    static_assert(name == "gemma" || name == "chatml" || name == "smollm2");
    return name == "gemma"    ? ChatTemplate::gemma
           : name == "chatml" ? ChatTemplate::chatml
                              : ChatTemplate::smollm2;
  }
  return std::nullopt;
}

std::int64_t count(std::string_view text, std::string_view word) {
  std::int64_t n = 0;
  for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) ++n;
  return n;
}

/// f(std::type_identity<Plan>{}) for the plan of the chosen model and element.
template <class F>
void with_plan(const ModelFile& file, const EngineOptions& options, F f) {
  const std::string name = choose_model(file).name;
  for_each_type(Models{}, [&]<class Model>(std::type_identity<Model>) {
    if (name != Model::name) return;
    for_each_type(TypeList<f32, f16, bf16>{}, [&]<class T>(std::type_identity<T>) {
      if (options.cache == element_name<T>) f(std::type_identity<PlanOf<Model, T>>{});
    });
  });
}

/// Bytes of the weights: as f32, but on a GPU as the cache's type. On the host, tables of tokens
/// stay in the file.
std::int64_t weight_bytes(const ModelFile& file, const EngineOptions& options) {
  const ModelFile::Values values = file.values();
  if (options.device == "host") return values.others * std::int64_t{sizeof(float)};
  return (values.others + values.tables) * (options.cache == "f32" ? 4 : 2);
}

/// The number after `label` in a file of lines "label: number kB", in bytes.
std::int64_t proc_bytes(const char* path, std::string_view label, std::int64_t otherwise) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(label)) return 1024 * std::atoll(line.c_str() + label.size());
  }
  return otherwise;
}

std::int64_t host_free_bytes() {
  constexpr auto unknown = std::numeric_limits<std::int64_t>::max();
  std::int64_t free = proc_bytes("/proc/meminfo", "MemAvailable:", unknown);
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    // Every thread takes addresses for its stack (8 MiB) and, in glibc, its heap (64 MiB, aligned).
    constexpr std::int64_t of_a_thread = (8 + 2 * 64) << 20;
    const std::int64_t used = proc_bytes("/proc/self/status", "VmSize:", 0);
    free = std::min(free, static_cast<std::int64_t>(limit.rlim_cur) - used -
                              of_a_thread * (std::thread::hardware_concurrency() - 1));
  }
  return std::max<std::int64_t>(free, 0);
}

std::int64_t free_bytes(const EngineOptions& options) {
#if defined(KVRING_CUDA)
  if (options.device == "cuda") return cuda_free_bytes();
#endif
  (void)options;
  return host_free_bytes();
}

template <class Plan>
std::int64_t scratch_bytes(const EngineOptions& options, std::int64_t context) {
  const std::int64_t logits =
      options.logit_rows * Plan::Model::vocabulary * std::int64_t{sizeof(float)};
#if defined(KVRING_CUDA)
  if (options.device == "cuda") {
    return logits +
           cuda_scratch_bytes<typename Plan::Element>(Plan::Model::name, context, options.chunk);
  }
#endif
  return logits + Decoder<Plan, Host>::scratch_bytes(context, 1, options.chunk);
}

}  // namespace

void settle_device(EngineOptions& options) {
  if (options.device != "auto") return;
#if defined(KVRING_CUDA)
  const std::string refusal = cuda_refusal();
#else
  const std::string refusal = "this program was built without CUDA";
#endif
  options.device = refusal.empty() ? "cuda" : "host";
  std::fprintf(stderr, "device: %s\n",
               refusal.empty() ? "the GPU" : concat("the host, since ", refusal).c_str());
}

void require_compiled(const EngineOptions& options) {
#if defined(KVRING_CUDA)
  if (options.device == "cuda") {
    const std::string refusal = cuda_refusal();
    require(refusal.empty(), refusal, ": use --device host");
  }
#else
  require(options.device == "host", "this program was built without CUDA: use --device host, or ",
          "configure with the preset cuda");
#endif
  require(options.chunk <= compiled_chunk, "a chunk of ", options.chunk,
          " rows was asked for, but this program is compiled for chunks of up to ", compiled_chunk);
}

LookupReport Engine::generate_by_lookup(std::span<const std::int32_t>, std::int64_t, std::int64_t,
                                        const Take&) {
  fail("drafts by lookup are for --device host");
}
std::int64_t Engine::save_state(const std::string&, std::span<const std::int32_t>,
                                const std::string&) {
  fail("state files are for --device host");
}
void Engine::load_state(const StateFile&, const std::string&, std::int64_t) {
  fail("state files are for --device host");
}

std::vector<PlanField> state_fields(const std::string& weights) { return {{"weights", weights}}; }

void require_state(const StateFile& state, const ModelFile& file, const EngineOptions& options,
                   const std::string& weights) {
  with_plan(file, options, [&]<class Plan>(std::type_identity<Plan>) {
    state.require_plan<Plan>(state_fields(weights));
  });
}

ModelChoice choose_model(const ModelFile& file) {
  ModelChoice chosen;
  for_each_type(Models{}, [&]<class Model>(std::type_identity<Model>) {
    if (chosen.name.empty() && differences<Model>(file).empty()) {
      const std::int64_t context = smaller(file.context(Model::max_context), Model::max_context);
      chosen = {Model::name, Model::vocabulary, context, chat_of<Model>()};
    }
  });
  if (!chosen.name.empty()) return chosen;

  std::string nearest, fields, plan_only;
  for_each_type(PublishedModels{}, [&]<class Model>(std::type_identity<Model>) {
    const std::string text = differences<Model>(file);
    const auto distance = [](std::string_view differences) {
      return of_another_family(differences) ? 1000 : count(differences, " in the type");
    };
    if (!nearest.empty() && distance(text) >= distance(fields)) return;
    nearest = Model::name;
    fields = text;
    plan_only.clear();
    if constexpr (PlanOnly<Model>) plan_only = Model::plan_only;
  });
  const std::string compiled =
      type_names(Models{}, [](auto type) { return decltype(type)::type::name; });
  const std::string_view place = " to `Models` in examples/engine.hpp";
  if (!plan_only.empty()) {
    fail(file.path(), " is no model that this program runs (", compiled, "); the nearest type is ",
         nearest, fields.empty() ? "" : ", but ", fields, ", and that is a plan only: ", plan_only);
  }
  if (fields.empty()) {
    fail(file.path(), " is a ", nearest, ", which this program is not compiled to run (it runs ",
         compiled, "): add `models::", nearest, "`", place);
  }
  fail(file.path(), " is no model that this program runs (", compiled, "); the nearest type is ",
       nearest, ", but ", fields, ". To run it, write its type beside models::", nearest,
       " and add `models::NAME`", place);
}

MemoryReport memory_report(const ModelFile& file, const EngineOptions& options) {
  MemoryReport report;
  with_plan(file, options, [&]<class Plan>(std::type_identity<Plan>) {
    report = kvring::memory_report<Plan>(options.context, 1,
                                         scratch_bytes<Plan>(options, options.context));
  });
  return report;
}

void require_memory(const ModelFile& file, const EngineOptions& options) {
  with_plan(file, options, [&]<class Plan>(std::type_identity<Plan>) {
    const std::int64_t weights = weight_bytes(file, options), free = free_bytes(options);
    const auto needed = [&](std::int64_t context) {
      return weights + Plan::cache_bytes(context) + scratch_bytes<Plan>(options, context);
    };
    if (needed(options.context) <= free) return;
    std::int64_t fits = 0, too_long = options.context;
    while (too_long - fits > 1) {
      const std::int64_t middle = fits + (too_long - fits) / 2;
      (needed(middle) <= free ? fits : too_long) = middle;
    }
    fail("not enough memory for a context of ", options.context, ": caches take ",
         Plan::cache_bytes(options.context), " bytes, scratch ",
         scratch_bytes<Plan>(options, options.context), " and weights ", weights, ", in all ",
         needed(options.context), ", but ", free, " are free; ",
         fits == 0 ? std::string("no context fits, the weights alone may be too much")
                   : concat("the longest context that fits is ", fits));
  });
}

std::unique_ptr<Engine> make_engine(const ModelFile& file, const EngineOptions& options) {
  require_compiled(options);
  const std::string model = choose_model(file).name;
  std::unique_ptr<Engine> engine;
  for_each_type(TypeList<f32, f16, bf16>{}, [&]<class T>(std::type_identity<T>) {
    if (options.cache != element_name<T>) return;
#if defined(KVRING_CUDA)
    if (options.device == "cuda") {
      engine = make_cuda_engine<T>(model, file, options);
      return;
    }
#endif
    engine = make_host_engine<T>(model, file, options);
  });
  require(engine != nullptr, "no engine of ", model, " with caches of ", options.cache);
  return engine;
}

}  // namespace kvring::programs
