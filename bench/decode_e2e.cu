// bench-decode-e2e: a whole model on a GPU, by the fast decoder: tokens a second of prefill and of
// decode, after a warm-up, several times. With --random no file is needed: weights of the model's
// shape.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "kvring/model/decoder_cuda.cuh"
#include "kvring/model/load_gguf.hpp"
#include "kvring/model/prefill.hpp"
#include "kvring/models/dense.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"

using namespace kvring;

namespace {

#if !defined(KVRING_BENCH_MODELS)
#define KVRING_BENCH_MODELS                                                         \
  models::Gemma4_E4B, models::Gemma3_270M, models::Gemma3_1B, models::SmolLM2_135M, \
      models::Qwen3_0_6B
#endif
using Models = TypeList<KVRING_BENCH_MODELS>;

struct Options {
  std::string model = "Gemma4_E4B", gguf, json;
  bool random = false;
  std::int64_t prompt = 5313, generate = 128, chunk = 4096, repeats = 2, sequences = 1;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Run {
  double prefill = 0, prefill_events = 0, decode = 0;  // seconds
};

/// Time between two points of a stream, in seconds.
class Events {
 public:
  explicit Events(const Cuda& gpu) : gpu_(gpu) {
    check_cuda(cudaEventCreate(&begin_));
    check_cuda(cudaEventCreate(&end_));
    check_cuda(cudaEventRecord(begin_, gpu_.stream));
  }
  ~Events() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  double stop() {
    check_cuda(cudaEventRecord(end_, gpu_.stream));
    check_cuda(cudaEventSynchronize(end_));
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return milliseconds * 1e-3;
  }

 private:
  Cuda gpu_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

template <class Model>
void run(const Options& o) {
  using T = bf16;
  using BenchPlan = Plan<Model, T, Chunk<4096>, Rewind<64>>;
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Cuda gpu{stream};
  const std::int64_t free_before = cuda_free_bytes();
  const double start = seconds();
  CudaWeights<Model, T> weights;
  std::unique_ptr<GgufFile> file;
  if (o.random) {
    weights = random_cuda_weights<Model, T>(gpu);
  } else {
    file = std::make_unique<GgufFile>(o.gguf);
    GgufSource<Model> source(*file);
    weights = load_cuda_weights<Model, T>(gpu, source);
  }
  check_cuda(cudaStreamSynchronize(stream));
  const std::int64_t context = o.prompt + o.generate + 1;
  const double loaded = seconds();
  CudaDecoder<BenchPlan> decoder(gpu, weights, context, o.sequences, o.chunk);
  std::printf(
      "%s bf16: matrices %lld bytes, of which %lld are looked up by rows; caches %lld, "
      "scratch %lld; loaded in %.2f s, planned in %.2f s; GPU memory taken %lld\n",
      Model::name, static_cast<long long>(weights.matrix_bytes()),
      static_cast<long long>(weights.layer_inputs.values.bytes()),
      static_cast<long long>(BenchPlan::cache_bytes(context, o.sequences)),
      static_cast<long long>(CudaDecoder<BenchPlan>::scratch_bytes(context, o.sequences, o.chunk)),
      loaded - start, seconds() - loaded, static_cast<long long>(free_before - cuda_free_bytes()));
  std::printf("%s\n", decoder.gemm_report().text().c_str());

  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < o.prompt; ++i) {
    ids.push_back(static_cast<std::int32_t>(random_bits(7, static_cast<std::uint64_t>(i)) %
                                            static_cast<std::uint64_t>(Model::vocabulary)));
  }
  std::vector<float> logits(static_cast<std::size_t>(Model::vocabulary));
  std::vector<Run> runs;
  std::int32_t last_id = 0;
  for (std::int64_t i = 0; i <= o.repeats; ++i) {  // the first is the warm-up
    Run run;
    std::int64_t row = 0;
    for (std::int64_t s = 0; s < o.sequences; ++s) {
      decoder.timeline(s).rewind_to({0});
      check_cuda(cudaStreamSynchronize(stream));
      Events events(gpu);
      const double begin = seconds();
      prefill(decoder, s, ids, Wanted::last, [&](Span span) { row = span.rows - 1; });
      decoder.logits(row, logits.data());
      run.prefill += seconds() - begin;
      run.prefill_events += events.stop();
    }
    const auto first =
        static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const std::vector<std::int32_t> firsts(static_cast<std::size_t>(o.sequences), first);
    const double begin = seconds();
    decoder.step(firsts);
    for (std::int64_t n = 1; n < o.generate; ++n) decoder.step();
    last_id = decoder.chosen();
    run.decode = seconds() - begin;
    if (i > 0) runs.push_back(run);
  }
  std::string json;
  for (const Run& run : runs) {
    const double tokens = static_cast<double>(o.prompt * o.sequences);
    const double prefill = tokens / run.prefill;
    const double decode = static_cast<double>(o.generate * o.sequences) / run.decode;
    std::printf(
        "prefill %lld: %.1f tokens/s (events %.1f), decode from there: %.2f tokens/s "
        "(%.1f us a step)\n",
        static_cast<long long>(o.prompt), prefill, tokens / run.prefill_events, decode,
        1e6 * run.decode / static_cast<double>(o.generate));
    json += concat(json.empty() ? "" : ", ", "{\"prefill_tokens_per_s\": ", prefill,
                   ", \"decode_tokens_per_s\": ", decode, "}");
  }
  std::printf("last id %d\n", last_id);
  if (o.json.empty()) return;
  std::FILE* out = std::fopen(o.json.c_str(), "w");
  require(out != nullptr, "cannot write ", o.json);
  std::fprintf(out,
               "{\"model\": \"%s\", \"weights\": \"%s\", \"element\": \"bf16\", \"prompt\": %lld, "
               "\"generate\": %lld, \"chunk\": %lld, \"sequences\": %lld, \"matrix_bytes\": %lld, "
               "\"cache_bytes\": %lld, \"rows_independent\": %s, \"runs\": [%s]}\n",
               Model::name, o.random ? "random" : o.gguf.c_str(), static_cast<long long>(o.prompt),
               static_cast<long long>(o.generate), static_cast<long long>(o.chunk),
               static_cast<long long>(o.sequences), static_cast<long long>(weights.matrix_bytes()),
               static_cast<long long>(BenchPlan::cache_bytes(context, o.sequences)),
               decoder.gemm_report().rows_are_independent() ? "true" : "false", json.c_str());
  require(std::fclose(out) == 0, "cannot write ", o.json);
}

template <class... M>
bool choose(const Options& o, TypeList<M...>) {
  return ((o.model == M::name && (run<M>(o), true)) || ...);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Prefill and decode of a whole model on a GPU.", "bench-decode-e2e");
  app.add_option("--model", o.model, "name of a model type")->capture_default_str();
  app.add_flag("--random", o.random, "random weights of the model's shape");
  app.add_option("--gguf", o.gguf, "GGUF file with its weights");
  app.add_option("--prompt", o.prompt, "tokens to prefill")->capture_default_str();
  app.add_option("--generate", o.generate, "tokens to decode after it")->capture_default_str();
  app.add_option("--chunk", o.chunk, "rows of the prompt at a time")->capture_default_str();
  app.add_option("--sequences", o.sequences, "sequences, each prefilled, that decode together")
      ->capture_default_str();
  app.add_option("--repeats", o.repeats)->capture_default_str();
  app.add_option("--json", o.json, "file for the figures");
  CLI11_PARSE(app, argc, argv);
  try {
    require(o.random != !o.gguf.empty(), "give --random or --gguf FILE");
    require(o.prompt >= 1 && o.generate >= 1 && o.repeats >= 1, "give 1 or more of everything");
    require(choose(o, Models{}), "no model ", o.model, " was compiled into this program");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
  return 0;
}
