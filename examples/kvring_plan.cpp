// kvring-plan: what the caches of each model type take. No weights are needed.
#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>

#include "kvring/model/decoder.hpp"
#include "kvring/report.hpp"
#include "kvring/report_kernels.hpp"
#include "program.hpp"
#include "published_models.hpp"

using namespace kvring;
using namespace kvring::programs;

namespace {

using Elements = TypeList<f32, f16, bf16>;
// Chunk is part of a plan's type: rings are as long as it needs. So a choice is compiled.
using Chunks = TypeList<Chunk<256>, Chunk<512>, Chunk<1024>, Chunk<2048>, Chunk<4096>>;

struct Options {
  std::string type, cache = "bf16";
  std::int64_t context = 0, sequences = 1, chunk = 4096;
  bool kernels = false;
};

template <class PlanType>
void print_kernels(const Options& o) {
  if (!o.kernels) return;
  for (const GpuInWords& gpu : {h100, a100}) {
    print(kernel_table<PlanType>(o.context, o.sequences, gpu));
  }
}

template <class Model, class T, class ChunkType>
void print_plan(const Options& o) {
  using PlanType = Plan<Model, T, ChunkType, Rewind<64>>;
  if constexpr (PlanOnly<Model>) {
    print(memory_table(memory_report<PlanType>(o.context, o.sequences)));
    print_kernels<PlanType>(o);
    print(concat("  a plan only: ", Model::plan_only, "\n\n"));
  } else {
    // Scratch depends neither on the element type nor on the plan's chunk, so one decoder tells it.
    const std::int64_t scratch =
        Decoder<Plan<Model, f32, Chunk<4096>, Rewind<64>>, Host>::scratch_bytes(
            o.context, o.sequences, o.chunk);
    print(memory_table(memory_report<PlanType>(o.context, o.sequences, scratch)));
    print_kernels<PlanType>(o);
    print("\n");
  }
}

void plan(const Options& o) {
  require_usage(o.context >= 1, "--context is ", o.context, ", wanted 1 or more");
  require_usage(o.sequences >= 1 && o.sequences <= 1'000'000, "--sequences is ", o.sequences,
                ", wanted 1 to 1000000");
  require_usage(o.chunk >= 1, "--chunk is ", o.chunk, ", wanted 1 or more");
  bool known_type = false, known_chunk = false, fits = false;
  std::int64_t longest = 0;
  for_each_type(Chunks{}, [&](auto type) {
    known_chunk = known_chunk || decltype(type)::type::rows == o.chunk;
  });
  require(known_chunk, "a chunk of ", o.chunk, " rows is not compiled; there are ",
          type_names(Chunks{}, [](auto type) { return decltype(type)::type::rows; }));
  for_each_type(PublishedModels{}, [&]<class Model>(std::type_identity<Model>) {
    if (!o.type.empty() && o.type != Model::name) return;
    known_type = true;
    longest = larger(longest, Model::max_context);
    if (o.context > Model::max_context) {
      std::fprintf(stderr, "%s is left out: its longest context is %lld\n", Model::name,
                   static_cast<long long>(Model::max_context));
      return;
    }
    fits = true;
    for_each_type(Chunks{}, [&]<class ChunkType>(std::type_identity<ChunkType>) {
      for_each_type(Elements{}, [&]<class T>(std::type_identity<T>) {
        if (o.chunk == ChunkType::rows && o.cache == element_name<T>) {
          print_plan<Model, T, ChunkType>(o);
        }
      });
    });
  });
  require(known_type, "no model type is called ", o.type, "; there are ",
          type_names(PublishedModels{}, [](auto type) { return decltype(type)::type::name; }));
  require(fits, "a context of ", o.context, " was asked for, but ",
          o.type.empty() ? "the model types go" : o.type + " goes", " up to ", longest);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("What the caches of each model type take, before anything is allocated.",
               "kvring-plan");
  app.add_option("--type", options.type, "model type; default: all");
  app.add_option("--context", options.context, "positions of a sequence")->required();
  app.add_option("--sequences", options.sequences)->capture_default_str();
  app.add_option("--cache", options.cache, "element type of the caches")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--chunk", options.chunk, "most rows that are appended before they attend")
      ->capture_default_str();
  app.add_flag("--kernels", options.kernels, "which kernels of the GPU each kind of layer runs on");
  return run(app, argc, argv, [&] { plan(options); });
}
