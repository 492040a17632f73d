// A long system prompt is computed once; each question goes on from a fork of it. With the path of
// Gemma 3 270M (GGUF) on that, without one on a small model of random numbers.
#include <chrono>
#include <cstdio>

#include "kvring/kernels/attend.hpp"
#include "kvring/model/linear_host.hpp"
#include "kvring/model/load_gguf.hpp"
#include "kvring/model/lookup.hpp"
#include "kvring/model/prefill.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/snapshot.hpp"
#include "kvring/testing/random_weights.hpp"

using namespace kvring;
using Ids = std::vector<std::int32_t>;  // they stand for texts; any will do here

struct Small : models::gemma3::Family {
  using Local = models::gemma3::Local<128, Heads{.q = 4, .kv = 1, .dim = 64}>;
  using Layers = Hybrid<6, Repeat<5, Local>, models::gemma3::Global<Local::heads>>;
  static constexpr std::int64_t hidden = 256, ffn = 512, vocabulary = 1000;
};

template <class Model>
void answer(const Weights<Model, Host>& weights) {
  Decoder<Plan<Model, f32, Chunk<256>, Rewind<64>>, Host> decoder(Host{}, weights, 2048, 3);
  const auto read = [&](std::int64_t sequence, const Ids& ids) {
    prefill(decoder, sequence, ids, Wanted::none, [](Span) {});
  };
  const auto seconds = [](auto f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const auto reply = [&](std::int64_t sequence, const Ids& question) {
    read(sequence, question);
    Ids ids;
    const auto take = [&](std::int32_t id) { return ids.push_back(id), true; };
    generate_by_lookup(decoder, sequence, question, 8, {}, take);
    return ids;
  };
  const Ids system(1500, 37);
  double forked = seconds([&] { read(0, system); }), whole = 0;
  for (std::int32_t i = 1; i <= 4; ++i) {
    const Ids question(20, 100 * i);
    Ids a, b;
    forked += seconds([&] { fork(decoder.caches(), 0, 1), a = reply(1, question); });
    decoder.timeline(2).rewind_to({0});  // and once more, from the beginning
    whole += seconds([&] { read(2, system), b = reply(2, question); });
    std::printf("question %d: %s answer\n", i, a == b ? "the same" : "ANOTHER");
  }
  std::printf("forked %.2f s, whole %.2f s, saved %.2f s\n", forked, whole, whole - forked);
}

int main(int argc, char** argv) {
  testing::RandomWeights numbers;
  if (argc == 1) return answer<Small>(load_weights<Small>(Host{}, numbers)), 0;
  answer<models::Gemma3_270M>(load_gguf<models::Gemma3_270M>(Host{}, GgufFile(argv[1])));
}
