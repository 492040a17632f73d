// kvring-generate: reads a prompt and writes on.
//
// Standard output holds the text and nothing else; of a model without a tokenizer, a JSON array of
// ids. What is said about it goes to standard error.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "json_file.hpp"
#include "kvring/io/chat.hpp"
#include "kvring/io/tokenizer.hpp"
#include "kvring/model/sampler.hpp"
#include "model_choice.hpp"
#include "model_file.hpp"
#include "program.hpp"
#include "progress_bar.hpp"

using namespace kvring;
using namespace kvring::programs;

namespace {

struct Options {
  std::string model;
  std::optional<std::string> prompt;
  std::string prompt_file, ids, json;
  bool chat = false;
  std::int64_t tokens = 0;
  std::optional<std::int64_t> context;
  EngineOptions engine;
  SamplerOptions sampler;
};

void add_options(CLI::App& app, Options& o) {
  app.add_option("--model", o.model, "GGUF file, or folder of safetensors")->required();
  auto* prompt = app.add_option("--prompt", o.prompt, "the prompt itself");
  auto* file = app.add_option("--prompt-file", o.prompt_file, "file that holds the prompt");
  auto* ids = app.add_option("--ids", o.ids, "file that holds the prompt as a JSON array of ids");
  prompt->excludes(file)->excludes(ids);
  file->excludes(ids);
  app.add_flag("--chat", o.chat, "the prompt is what a user says; the model answers")
      ->excludes(ids);
  app.add_option("--tokens", o.tokens, "most tokens to generate")->required();
  app.add_option("--context", o.context, "positions to plan for; default: what is needed");
  app.add_option("--chunk", o.engine.chunk, "most rows of the prompt at a time")
      ->capture_default_str();
  app.add_option("--device", o.engine.device, "auto: the GPU, if there is one that can be used")
      ->check(CLI::IsMember({"host", "cuda", "auto"}))
      ->capture_default_str();
  app.add_option("--cache", o.engine.cache, "element type of the caches")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--temp", o.sampler.temperature, "temperature; 0: the likeliest token")
      ->capture_default_str();
  app.add_option("--top-k", o.sampler.top_k, "sample among the K likeliest; 0: all")
      ->capture_default_str();
  app.add_option("--top-p", o.sampler.top_p, "sample among the fewest that reach P")
      ->capture_default_str();
  app.add_option("--seed", o.sampler.seed)->capture_default_str();
  app.add_option("--json", o.json, "file for the ids and the figures");
  app.footer("Without --prompt, --prompt-file and --ids the prompt is read from standard input.");
}

void check_usage(const Options& o) {
  require_usage(o.tokens >= 0, "--tokens is ", o.tokens, ", wanted 0 or more");
  require_usage(!o.context || *o.context >= 1, "--context is ", o.context.value_or(1),
                ", wanted 1 or more");
  require_usage(o.engine.chunk >= 1, "--chunk is ", o.engine.chunk, ", wanted 1 or more");
  require_usage(std::isfinite(o.sampler.temperature) && o.sampler.temperature >= 0, "--temp is ",
                o.sampler.temperature, ", wanted 0 or more");
  require_usage(o.sampler.top_k >= 0, "--top-k is ", o.sampler.top_k, ", wanted 0 or more");
  require_usage(o.sampler.top_p > 0 && o.sampler.top_p <= 1, "--top-p is ", o.sampler.top_p,
                ", wanted more than 0 and at most 1");
}

std::string prompt_text(const Options& o) {
  if (o.prompt) return *o.prompt;
  if (!o.prompt_file.empty()) return read_file(o.prompt_file);
  if (::isatty(STDIN_FILENO) == 1) {
    std::fprintf(stderr, "reading the prompt from the terminal, up to ctrl-D\n");
  }
  return read_all(stdin, "the standard input");
}

/// The template that --chat asks for.
std::optional<ChatTemplate> wanted_chat(const Options& o, const ModelChoice& model) {
  require(!o.chat || model.chat, "--chat: ", model.name, " has no chat template");
  return o.chat ? model.chat : std::nullopt;
}

/// `tokenizer`: may be missing if the prompt is ids.
std::vector<std::int32_t> prompt_ids(const Options& o, const ModelChoice& model,
                                     const Tokenizer* tokenizer) {
  std::vector<std::int32_t> ids;
  if (!o.ids.empty()) {
    ids = parse_ids(read_file(o.ids), o.ids, model.vocabulary);
  } else if (const std::string text = prompt_text(o); !text.empty()) {
    const ChatTurn turn{ChatRole::user, text};
    const auto chat = wanted_chat(o, model);
    ids = tokenizer->encode(chat ? chat_prompt(*chat, {&turn, 1}) : text);
  }
  require(!ids.empty(), "the prompt is empty: give it one token or more");
  return ids;
}

/// The ids that end the text: the file's, and what closes a turn of the model's chat template.
std::vector<std::int32_t> end_ids(const Options& o, const ModelFile& file, const ModelChoice& model,
                                  const Tokenizer* tokenizer) {
  std::vector<std::int32_t> ids = file.end_ids(tokenizer);
  if (const auto chat = wanted_chat(o, model)) {
    ids.push_back(chat_stop(*chat, tokenizer->vocabulary()));
  } else if (model.chat && tokenizer != nullptr) {
    const auto stop = tokenizer->vocabulary().find(chat_markers(*model.chat).stop);
    if (stop) ids.push_back(*stop);
  }
  return ids;
}

/// The context to plan for; refuses what cannot fit.
std::int64_t choose_context(const Options& o, const ModelChoice& model, std::int64_t prompt) {
  const std::int64_t most = o.context.value_or(model.max_context);
  require(most <= model.max_context, "a context of ", most, " was asked for, but ", model.name,
          " goes up to ", model.max_context);
  require(prompt <= most && o.tokens <= most - prompt, "a prompt of ", prompt, " tokens and ",
          o.tokens, " to generate do not fit a context of ", most,
          o.context ? "" : ", the longest of the model");
  return o.context.value_or(std::min(most, round_up(prompt + o.tokens, 64)));
}

void generate(Options& o) {
  check_usage(o);
  settle_device(o.engine);
  require_compiled(o.engine);
  require_other_file(o.json, {o.model, o.prompt_file, o.ids});
  const JsonFile json(o.json, 16 * (o.tokens < (1 << 20) ? o.tokens : 0) + (1 << 16));
  const ModelFile file(o.model);
  const ModelChoice model = choose_model(file);
  const auto tokenizer = o.ids.empty() ? file.require_tokenizer() : file.load_tokenizer();
  const std::vector<std::int32_t> ends = end_ids(o, file, model, tokenizer.get());
  const std::vector<std::int32_t> ids = prompt_ids(o, model, tokenizer.get());
  const auto prompt = static_cast<std::int64_t>(ids.size());
  EngineOptions options = o.engine;
  options.context = choose_context(o, model, prompt);
  Sampler sampler(o.sampler);

  const MemoryReport memory = memory_report(file, options);
  std::fprintf(stderr, "%s", memory_table(memory).c_str());
  require_memory(file, options);
  const double start = seconds();
  const auto engine = make_engine(file, options);
  const double loaded = seconds();
  std::fprintf(stderr, "loaded in %.2f s\n", loaded - start);

  std::string path;
  std::int32_t next = 0;
  {
    ProgressBar bar(concat("prefilling ", prompt, " tokens"));
    path = engine->prefill(ids, std::ref(bar));
    if (o.tokens > 0) next = sampler(engine->logits());
  }
  const double prefilled = seconds();
  std::fprintf(stderr, "prefill: %s, %.2f s, %.1f tokens/s\n", path.c_str(), prefilled - loaded,
               static_cast<double>(prompt) / (prefilled - loaded));

  std::vector<std::int32_t> generated;
  std::string text;
  std::optional<StreamDecoder> decoder;
  if (tokenizer) decoder.emplace(*tokenizer);
  const auto emit = [&](const std::string& piece) {
    text += piece;
    print(piece);
  };
  bool ended = false;
  const auto take = [&](std::int32_t id) {
    generated.push_back(id);
    if (decoder) emit(decoder->push(id));
    ended = std::find(ends.begin(), ends.end(), id) != ends.end();
    return !ended && std::ssize(generated) < o.tokens;
  };
  if (o.tokens > 0 && take(next)) engine->generate(next, o.tokens - 1, sampler, take);
  if (decoder) emit(decoder->flush());
  const double finished = seconds();
  if (!decoder) print(nlohmann::json(generated).dump() + "\n");
  if (decoder && ::isatty(STDOUT_FILENO) == 1) print("\n");

  // The first token came from the prefill, and the last one was not appended.
  const std::int64_t steps = generated.empty() ? 0 : std::ssize(generated) - 1;
  const double decode = finished - prefilled;
  std::string outcome =
      concat("decode: ", generated.size(), generated.size() == 1 ? " token" : " tokens",
             ended ? ", ended by the model" : "");
  if (steps > 0) outcome += fmt::format(", {:.2f} s, {:.1f} tokens/s", decode, steps / decode);
  std::fprintf(stderr, "%s\n", outcome.c_str());
  if (!json.wanted()) return;
  json.commit(
      {{"model", model.name},
       {"device", options.device},
       {"cache", options.cache},
       {"context", options.context},
       {"chunk", options.chunk},
       {"cache_bytes", memory.cache_bytes},
       {"full_cache_bytes", memory.full_cache_bytes},
       {"scratch_bytes", memory.scratch_bytes},
       {"path", path},
       {"prompt_ids", ids},
       {"generated_ids", generated},
       {"text", decoder ? nlohmann::ordered_json(text) : nlohmann::ordered_json()},
       {"ended", ended},
       {"seconds", {{"load", loaded - start}, {"prefill", prefilled - loaded}, {"decode", decode}}},
       {"decode_steps", steps}});
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Prefills a prompt through proved rings and writes on.", "kvring-generate");
  add_options(app, options);
  return run(app, argc, argv, [&] { generate(options); });
}
