// kvring-score: how well a model predicts a text, token by token.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "json_file.hpp"
#include "kvring/io/tokenizer.hpp"
#include "model_choice.hpp"
#include "model_file.hpp"
#include "program.hpp"
#include "progress_bar.hpp"
#include "row_scores.hpp"

using namespace kvring;
using namespace kvring::programs;

namespace {

struct Options {
  std::string model, text, ids, json;
  std::optional<std::int64_t> tokens;
  std::int64_t top = 0;
  EngineOptions engine{.logit_rows = 64};
};

void add_options(CLI::App& app, Options& o) {
  app.add_option("--model", o.model, "GGUF file, or folder of safetensors")->required();
  auto* source = app.add_option_group("source");
  source->add_option("--text", o.text, "file that holds the text");
  source->add_option("--ids", o.ids, "file that holds a JSON array of ids");
  source->require_option(1);
  app.add_option("--tokens", o.tokens, "score only the first N");
  app.add_option("--top", o.top, "keep the K highest logits of each position")
      ->capture_default_str();
  app.add_option("--chunk", o.engine.chunk, "most rows of the text at a time")
      ->capture_default_str();
  app.add_option("--device", o.engine.device, "auto: the GPU, if there is one that can be used")
      ->check(CLI::IsMember({"host", "cuda", "auto"}))
      ->capture_default_str();
  app.add_option("--cache", o.engine.cache, "element type of the caches")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--json", o.json, "file for the figures of each position");
}

std::vector<std::int32_t> text_ids(const Options& o, const ModelFile& file,
                                   const ModelChoice& model) {
  std::vector<std::int32_t> ids = o.ids.empty()
                                      ? file.require_tokenizer()->encode(read_file(o.text))
                                      : parse_ids(read_file(o.ids), o.ids, model.vocabulary);
  if (o.tokens && *o.tokens < std::ssize(ids)) ids.resize(static_cast<std::size_t>(*o.tokens));
  require(ids.size() >= 2, "a text of ", ids.size(), ids.size() == 1 ? " token" : " tokens",
          " has no next token to score: give it 2 or more");
  require(std::ssize(ids) <= model.max_context, "a text of ", ids.size(),
          " tokens does not fit the longest context of ", model.name, ", ", model.max_context,
          ": score its first ones with --tokens");
  return ids;
}

/// The result, position by position.
struct Scores {
  std::vector<double> nll;                         // [n - 1]
  std::vector<double> logsumexp;                   // [n]
  std::vector<std::vector<std::int32_t>> top_ids;  // [n, K]
  std::vector<std::vector<float>> top_logits;      // [n, K]

  void add(const RowScores& rows, std::int64_t row, const float* logits,
           const std::vector<std::int32_t>& ids, std::int64_t top) {
    const auto next = logsumexp.size() + 1;
    logsumexp.push_back(rows.logsumexp(row));
    require(std::isfinite(logsumexp.back()), "the logits of position ", next - 1,
            " are not finite");
    if (next < ids.size()) nll.push_back(logsumexp.back() - logits[ids[next]]);
    if (top == 0) return;
    auto& best_ids = top_ids.emplace_back();
    auto& best_logits = top_logits.emplace_back();
    for (std::int64_t k = 0; k < top; ++k) {
      best_ids.push_back(rows.top(row)[k].id);
      best_logits.push_back(rows.top(row)[k].logit);
    }
  }

  double mean_nll() const {
    double sum = 0;
    for (const double value : nll) sum += value;
    return sum / static_cast<double>(nll.size());
  }
};

void score(Options& o) {
  require_usage(!o.tokens || *o.tokens >= 1, "--tokens is ", o.tokens.value_or(1),
                ", wanted 1 or more");
  require_usage(o.top >= 0, "--top is ", o.top, ", wanted 0 or more");
  require_usage(o.engine.chunk >= 1, "--chunk is ", o.engine.chunk, ", wanted 1 or more");
  settle_device(o.engine);
  require_compiled(o.engine);
  require_other_file("--json", o.json, {o.model, o.text, o.ids});
  JsonFile(o.json, 1);  // before the file is read; its size follows from the text
  const ModelFile file(o.model);
  const ModelChoice model = choose_model(file);
  require(o.top <= model.vocabulary, "the ", o.top, " highest logits were asked for, but ",
          model.name, " has a vocabulary of ", model.vocabulary);
  const std::vector<std::int32_t> ids = text_ids(o, file, model);
  const auto n = std::ssize(ids);
  const JsonFile json(o.json, n * (50 + 30 * o.top));
  EngineOptions options = o.engine;
  options.context = n;

  const MemoryReport memory = memory_report(file, options);
  std::fprintf(stderr, "%s", memory_table(memory).c_str());
  require_memory(file, options);
  const double start = seconds();
  const auto engine = make_engine(file, options);
  const double loaded = seconds();

  Scores scores;
  RowScores rows(options.logit_rows, model.vocabulary, o.top);
  std::string path;
  {
    ProgressBar bar(concat("scoring ", n, " tokens"));
    const auto take = [&](std::int64_t, std::int64_t count, const float* logits) {
      rows.compute(logits, count);
      for (std::int64_t row = 0; row < count; ++row) {
        scores.add(rows, row, logits + row * model.vocabulary, ids, o.top);
      }
    };
    path = engine->prefill_all(ids, take, std::ref(bar));
  }
  const double scored = seconds() - loaded;
  const double mean = scores.mean_nll(), perplexity = std::exp(mean);
  std::fprintf(stderr, "%s, loaded in %.2f s, scored in %.2f s, %.1f tokens/s\n", path.c_str(),
               loaded - start, scored, static_cast<double>(n) / scored);
  print(concat("tokens ", n, "  mean nll ", mean, "  perplexity ", perplexity, "\n"));
  if (!json.wanted()) return;
  nlohmann::ordered_json result{{"model", model.name},
                                {"device", options.device},
                                {"cache", options.cache},
                                {"chunk", options.chunk},
                                {"path", path},
                                {"seconds", {{"load", loaded - start}, {"score", scored}}},
                                {"mean_nll", mean},
                                {"perplexity", perplexity},
                                {"ids", ids},
                                {"nll", scores.nll},
                                {"logsumexp", scores.logsumexp}};
  if (o.top > 0) {
    result["top_ids"] = scores.top_ids;
    result["top_logits"] = scores.top_logits;
  }
  json.commit(result);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Perplexity of a text, and the figures of each position.", "kvring-score");
  add_options(app, options);
  return run(app, argc, argv, [&] { score(options); });
}
