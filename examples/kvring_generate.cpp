// kvring-generate: reads a prompt and writes on.
//
// Standard output holds the text and nothing else; of a model without a tokenizer, a JSON array of
// ids. What is said about it goes to standard error.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "json_file.hpp"
#include "kvring/io/chat.hpp"
#include "kvring/io/new_file.hpp"
#include "kvring/io/state_file.hpp"
#include "kvring/io/tokenizer.hpp"
#include "kvring/model/lookup.hpp"
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
  std::string prompt_file, ids, json, load_state, save_state;
  bool chat = false;
  std::int64_t tokens = 0;
  std::optional<std::int64_t> lookup;
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
  auto* chat = app.add_flag("--chat", o.chat, "the prompt is what a user says; the model answers");
  chat->excludes(ids);
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
  app.add_option("--lookup", o.lookup, "guess up to K tokens at a time from the text; same output");
  app.add_option("--load-state", o.load_state, "go on from this file; a prompt is appended to it")
      ->excludes(chat);
  app.add_option("--save-state", o.save_state, "file for the sequence as it ends");
  app.add_option("--json", o.json, "file for the ids and the figures");
  app.footer(
      "Without --prompt, --prompt-file, --ids and --load-state the prompt is read from standard "
      "input.");
}

void check_usage(const Options& o) {
  require_usage(o.tokens >= 0, "--tokens is ", o.tokens, ", wanted 0 or more");
  require_usage(!o.context || *o.context >= 1, "--context is ", o.context.value_or(1),
                ", wanted 1 or more");
  require_usage(o.engine.chunk >= 1, "--chunk is ", o.engine.chunk, ", wanted 1 or more");
  require_usage(std::isfinite(o.sampler.temperature) && o.sampler.temperature >= 0, "--temp is ",
                o.sampler.temperature, ", wanted 0 or more");
  require_usage(o.sampler.top_k >= 0, "--top-k is ", o.sampler.top_k, ", wanted 0 or more");
  require_usage(!o.lookup || *o.lookup >= 1, "--lookup is ", o.lookup.value_or(1),
                ", wanted 1 or more");
  require_usage(!o.lookup || o.sampler.temperature == 0,
                "--lookup takes the likeliest token, always: leave --temp out");
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

/// `tokenizer`: may be missing if the prompt is ids. A loaded text goes on without a token in
/// front, and needs no prompt.
std::vector<std::int32_t> prompt_ids(const Options& o, const ModelChoice& model,
                                     const Tokenizer* tokenizer, bool goes_on) {
  std::vector<std::int32_t> ids;
  if (goes_on && !o.prompt && o.prompt_file.empty() && o.ids.empty()) return ids;
  if (!o.ids.empty()) {
    ids = parse_ids(read_file(o.ids), o.ids, model.vocabulary);
  } else if (const std::string text = prompt_text(o); !text.empty()) {
    const ChatTurn turn{ChatRole::user, text};
    const auto chat = wanted_chat(o, model);
    ids = goes_on ? tokenizer->encode(text, false)
                  : tokenizer->encode(chat ? chat_prompt(*chat, {&turn, 1}) : text);
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

/// The context to plan for; refuses what cannot fit. `prompt`: with what was loaded.
std::int64_t choose_context(const Options& o, const ModelChoice& model, std::int64_t prompt) {
  const std::int64_t most = o.context.value_or(model.max_context);
  require(most <= model.max_context, "a context of ", most, " was asked for, but ", model.name,
          " goes up to ", model.max_context);
  require(prompt <= most && o.tokens <= most - prompt, "a prompt of ", prompt, " tokens and ",
          o.tokens, " to generate do not fit a context of ", most,
          o.context ? "" : ", the longest of the model");
  return o.context.value_or(std::min(most, round_up(prompt + o.tokens, 64)));
}

/// The sequence before and after: what is loaded, the prompt behind it, what is generated.
struct Text {
  std::optional<StateFile> state;
  std::int64_t kept = 0;  // positions that need not be computed again
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> all;  // tokens of the state, the prompt, and those generated

  /// What is to be appended. Logits are made by appending, so at least one token is.
  std::span<const std::int32_t> to_append() const {
    return std::span(all).subspan(static_cast<std::size_t>(kept));
  }
};

Text load_text(const Options& o, const ModelChoice& model, const Tokenizer* tokenizer) {
  Text text;
  if (!o.load_state.empty()) text.state.emplace(o.load_state);
  const bool goes_on = text.state && !text.state->tokens().empty();
  if (goes_on) text.all.assign(text.state->tokens().begin(), text.state->tokens().end());
  text.prompt = prompt_ids(o, model, tokenizer, goes_on);
  text.all.insert(text.all.end(), text.prompt.begin(), text.prompt.end());
  if (text.state) text.kept = smaller(text.state->length(), std::ssize(text.all) - 1);
  return text;
}

/// Reports what --lookup did. `plain`: seconds of a step without drafts.
std::string lookup_outcome(const LookupReport& report, double seconds, double plain) {
  std::string text = fmt::format("lookup: {} tokens in {} passes, {} drafted, {} of them accepted",
                                 report.tokens, report.passes, report.drafted, report.accepted);
  if (report.drafted > 0) {
    text += fmt::format(" ({:.0f}%)", 100.0 * static_cast<double>(report.accepted) /
                                          static_cast<double>(report.drafted));
  }
  const double rate = static_cast<double>(report.tokens) / seconds;
  if (report.tokens > 0) text += fmt::format(", {:.1f} tokens/s", rate);
  if (report.tokens > 0 && plain > 0) {
    text +=
        fmt::format(", {:.2f} times the {:.1f} of the steps before it", rate * plain, 1 / plain);
  }
  return text;
}

void generate(Options& o) {
  check_usage(o);
  settle_device(o.engine);
  require_compiled(o.engine);
  require_other_file("--json", o.json, {o.model, o.prompt_file, o.ids});
  require_other_file("--save-state", o.save_state, {o.model, o.prompt_file, o.ids});
  const bool host_only = o.lookup || !o.load_state.empty() || !o.save_state.empty();
  require(!host_only || o.engine.device == "host",
          "--lookup, --load-state and --save-state run on the host so far: add --device host");
  const std::int64_t most_drafts = smaller(o.engine.chunk, compiled_rewind) - 1;
  require(!o.lookup || *o.lookup <= most_drafts, "--lookup ", o.lookup.value_or(0),
          " is too much: with the token before them drafts must fit the chunk of ", o.engine.chunk,
          " rows and the rewind of ", compiled_rewind, "; ask for 1 to ", most_drafts);
  const JsonFile json(o.json, 16 * (o.tokens < (1 << 20) ? o.tokens : 0) + (1 << 16));
  const ModelFile file(o.model);
  const ModelChoice model = choose_model(file);
  const auto tokenizer = o.ids.empty() ? file.require_tokenizer() : file.load_tokenizer();
  const std::vector<std::int32_t> ends = end_ids(o, file, model, tokenizer.get());
  Text text = load_text(o, model, tokenizer.get());
  const auto prompt = std::ssize(text.to_append());
  EngineOptions options = o.engine;
  options.context = choose_context(
      o, model, larger(std::ssize(text.all), text.state ? text.state->written() : 0));
  Sampler sampler(o.sampler);
  std::string weights;
  if (!o.load_state.empty() || !o.save_state.empty()) weights = file.checksum();
  if (text.state) require_state(*text.state, file, options, weights);

  const MemoryReport memory = memory_report(file, options);
  std::fprintf(stderr, "%s", memory_table(memory).c_str());
  require_memory(file, options);
  if (!o.save_state.empty()) {  // before the work: is there room for what may be live at its end?
    EngineOptions at_most = options;
    at_most.context = smaller(options.context, std::ssize(text.all) + o.tokens);
    NewFile(o.save_state).reserve(memory_report(file, at_most).cache_bytes);
  }
  const double start = seconds();
  const auto engine = make_engine(file, options);
  const double loaded = seconds();
  std::fprintf(stderr, "loaded in %.2f s\n", loaded - start);
  if (text.state) {
    engine->load_state(*text.state, weights, text.kept);
    std::fprintf(stderr, "state: %lld positions from %s\n", static_cast<long long>(text.kept),
                 o.load_state.c_str());
  }

  std::string path;
  std::int32_t next = 0;
  {
    ProgressBar bar(concat("prefilling ", prompt, " tokens"));
    path = engine->prefill(text.to_append(), std::ref(bar));
    if (o.tokens > 0) next = sampler(engine->logits());
  }
  const double prefilled = seconds();
  std::fprintf(stderr, "prefill: %s, %.2f s, %.1f tokens/s\n", path.c_str(), prefilled - loaded,
               static_cast<double>(prompt) / (prefilled - loaded));

  std::vector<std::int32_t> generated;
  std::string written;
  std::optional<StreamDecoder> decoder;
  if (tokenizer) decoder.emplace(*tokenizer);
  const auto emit = [&](const std::string& piece) {
    written += piece;
    print(piece);
  };
  bool ended = false;
  const auto take = [&](std::int32_t id) {
    generated.push_back(id);
    text.all.push_back(id);
    if (decoder) emit(decoder->push(id));
    ended = std::find(ends.begin(), ends.end(), id) != ends.end();
    return !ended && std::ssize(generated) < o.tokens;
  };
  LookupReport lookup;
  double plain = 0, looked_up = 0;
  if (o.tokens > 0 && take(next)) {
    // A few steps without drafts tell how fast those are.
    const std::int64_t steps = o.tokens - 1, first = o.lookup ? smaller(8, steps / 4) : steps;
    const double before = seconds();
    engine->generate(next, first, sampler, take);
    const double middle = seconds();
    if (o.lookup && !ended && std::ssize(generated) == first + 1) {
      if (first > 0) plain = (middle - before) / static_cast<double>(first);
      const std::vector<std::int32_t> so_far = text.all;
      lookup = engine->generate_by_lookup(so_far, steps - first, *o.lookup, take);
      looked_up = seconds() - middle;
    }
  }
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
  if (o.lookup) {
    std::fprintf(stderr, "%s\n", lookup_outcome(lookup, looked_up, plain).c_str());
  }
  std::int64_t saved = 0;
  if (!o.save_state.empty()) {
    saved = engine->save_state(o.save_state, text.all, weights);
    std::fprintf(stderr, "state: %lld tokens, %s MiB of rows to %s\n",
                 static_cast<long long>(text.all.size()), mebibytes(saved).c_str(),
                 o.save_state.c_str());
  }
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
       {"prompt_ids", text.prompt},
       {"generated_ids", generated},
       {"text", decoder ? nlohmann::ordered_json(written) : nlohmann::ordered_json()},
       {"ended", ended},
       {"seconds", {{"load", loaded - start}, {"prefill", prefilled - loaded}, {"decode", decode}}},
       {"decode_steps", steps},
       {"loaded_positions", text.kept},
       {"saved_bytes", saved},
       {"lookup",
        {{"tokens", lookup.tokens},
         {"passes", lookup.passes},
         {"drafted", lookup.drafted},
         {"accepted", lookup.accepted},
         {"seconds", looked_up},
         {"plain_step_seconds", plain}}}});
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Prefills a prompt through proved rings and writes on.", "kvring-generate");
  add_options(app, options);
  return run(app, argc, argv, [&] { generate(options); });
}
