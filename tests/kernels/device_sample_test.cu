// Argmax and sampling on the GPU: which tokens are in, against a sort in double precision; how
// often each is drawn; and that nothing but the logits, the seed and the position counts.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "device.cuh"
#include "kvring/kernels/sample_cuda.cuh"
#include "prompts.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

struct Sampling {
  Cuda gpu;
  Buffer<SampleScratch, Cuda> scratch;
  Buffer<std::int32_t, Cuda> id;

  explicit Sampling(const Cuda& gpu, std::int64_t ids = 1)
      : gpu(gpu), scratch(gpu, 1), id(to_device(gpu, std::vector<std::int32_t>(ids, -1))) {
    clear(gpu, scratch.data());
  }
  std::int32_t argmax(const std::vector<float>& logits) {
    const auto device = to_device(gpu, logits);
    argmax_row(gpu, device.data(), device.size(), id.data(), scratch.data());
    return to_host(gpu, id)[0];
  }
};

TEST_CASE("device: argmax") {
  if (no_gpu("device: argmax")) return;
  const Stream stream;
  Sampling sampling(stream.backend());  // one scratch for all: calls leave it as they found it
  CHECK(sampling.argmax({3}) == 0);
  CHECK(sampling.argmax({-1, 2, 2, 1}) == 1);
  CHECK(sampling.argmax({-0.0f, 0.0f}) == 0);
  CHECK(sampling.argmax({0.0f, -0.0f}) == 0);
  CHECK(sampling.argmax({-infinity, -3e38f, -infinity}) == 1);
  CHECK(sampling.argmax({1, infinity, 2}) == 1);
  CHECK(sampling.argmax({nan, -infinity, nan}) == 1);
  CHECK(sampling.argmax({nan, 1, nan, 5, -nan}) == 3);
  CHECK(sampling.argmax({nan, nan}) == 0);
  Random random(1);
  for (const std::int64_t count : {255, 256, 2'047, 2'048, 2'049, 50'257, 262'144}) {
    std::vector<float> logits(static_cast<std::size_t>(count));
    for (int i = 0; i < 8; ++i) {
      CAPTURE(count);
      // A few values only, so that the largest one is there often.
      for (float& x : logits) x = std::floor(random.signed_unit() * (i % 2 == 0 ? 4.0f : 1e7f));
      const auto right = std::max_element(logits.begin(), logits.end()) - logits.begin();
      CHECK(sampling.argmax(logits) == right);
    }
    for (const std::int64_t at : {std::int64_t{0}, count / 2, count - 1}) {
      std::fill(logits.begin(), logits.end(), -7.0f);
      logits[static_cast<std::size_t>(at)] = -6.5f;
      CHECK(sampling.argmax(logits) == at);
    }
  }
}

/// The tokens that top-k leaves, likeliest first, and how many of them top-p leaves.
struct Nucleus {
  std::vector<std::int32_t> order;
  std::vector<double> weights;  // relative to all of them
  std::size_t count = 0;
};
Nucleus nucleus_of(const std::vector<float>& logits, const SampleOptions& options) {
  Nucleus nucleus;
  std::vector<std::int32_t>& order = nucleus.order;
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0) order.resize(std::min<std::size_t>(order.size(), options.top_k));
  double total = 0;
  for (const std::int32_t token : order) {
    nucleus.weights.push_back(
        std::exp((double{logits[token]} - logits[order[0]]) / options.temperature));
    total += nucleus.weights.back();
  }
  double reached = 0;
  for (double& weight : nucleus.weights) {
    weight /= total;
    if (options.top_p == 1 || reached < options.top_p) ++nucleus.count;
    reached += weight;
  }
  return nucleus;
}

/// Whether scratch->floor lets a token in: by its logit, then by its index.
bool is_in(const SampleScratch& scratch, float logit, std::int64_t index) {
  const auto bits = __builtin_bit_cast(std::uint32_t, logit + 0.0f);
  const std::uint64_t order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  const std::uint64_t key =
      (order << detail::index_bits) | static_cast<std::uint64_t>(detail::most_logits - 1 - index);
  return key >= scratch.floor;
}

TEST_CASE("device: top-k and top-p let in exactly the tokens of the definition") {
  if (no_gpu("device: top-k and top-p let in exactly the tokens of the definition")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  Sampling sampling(gpu);
  const auto position = to_device(gpu, std::vector<Position>{{7}});
  long compared = 0, exact = 0;
  Random random(2);
  for (const std::int64_t count : {5, 300, 2'049, 32'000, 262'144}) {
    for (const float size : {1.0f, 8.0f, 30.0f}) {
      for (const bool ties : {false, true}) {
        std::vector<float> logits(static_cast<std::size_t>(count));
        for (float& x : logits) {
          x = random.signed_unit() * size;
          if (ties) x = std::round(x * 2) / 2;
        }
        const auto device = to_device(gpu, logits);
        for (const std::int64_t top_k : {0, 1, 4, 64, 1'000}) {
          for (const float top_p : {1.0f, 0.95f, 0.5f, 1e-6f}) {
            if ((top_k == 0 || top_k >= count) && top_p == 1) continue;  // no selection
            const SampleOptions options{
                .temperature = 0.7f, .top_k = top_k, .top_p = top_p, .seed = 5};
            CAPTURE(count);
            CAPTURE(size);
            CAPTURE(ties);
            CAPTURE(top_k);
            CAPTURE(top_p);
            const Nucleus nucleus = nucleus_of(logits, options);
            sample_row(gpu, device.data(), count, options, position.data(), sampling.id.data(),
                       sampling.scratch.data());
            const SampleScratch scratch = to_host(gpu, sampling.scratch)[0];
            const std::int32_t drawn = to_host(gpu, sampling.id)[0];
            const auto& order = nucleus.order;
            const auto place = [&](std::int64_t token) {
              return static_cast<std::size_t>(std::find(order.begin(), order.end(), token) -
                                              order.begin());
            };
            std::size_t in = 0;
            for (std::int64_t i = 0; i < count; ++i) {
              in += is_in(scratch, logits[static_cast<std::size_t>(i)], i);
            }
            const std::size_t last = in - 1;
            REQUIRE(last < order.size());
            CHECK(place(drawn) <= last);
            ++compared;
            exact += last + 1 == nucleus.count;
            if (last + 1 != nucleus.count) {
              // Weights are f32's: arguments of exp up to 86 round, so a weight w is off by
              // 90 * 2^-24 w, and by 2^-41. A sum nearer to its target than that may fall short.
              REQUIRE(top_p < 1);
              const double reached =
                  std::accumulate(nucleus.weights.begin(), nucleus.weights.begin() + last + 1, 0.0);
              const double error = 90 * 0x1p-24 + static_cast<double>(count) * 0x1p-41;
              CHECK(reached >= double{top_p} - error);
              CHECK(reached - nucleus.weights[last] < double{top_p} + error);
            }
            for (const std::uint64_t left : scratch.histogram) REQUIRE(left == 0);
          }
        }
      }
    }
  }
  CHECK(compared == 552);
  CHECK(exact * 10 > compared * 7);  // flat rows of 262,144 tokens come too close to call
  MESSAGE(exact, " of ", compared, " sets are the very one");
}

/// Draws of `draws` positions.
std::vector<std::int32_t> draw(const Cuda& gpu, const std::vector<float>& logits,
                               const SampleOptions& options, std::int64_t draws) {
  Sampling sampling(gpu, draws);
  const auto device = to_device(gpu, logits);
  std::vector<Position> positions;
  for (std::int64_t i = 0; i < draws; ++i) positions.push_back({i});
  const auto dpositions = to_device(gpu, positions);
  for (std::int64_t i = 0; i < draws; ++i) {
    sample_row(gpu, device.data(), device.size(), options, dpositions.data() + i,
               sampling.id.data() + i, sampling.scratch.data());
  }
  return to_host(gpu, sampling.id);
}

TEST_CASE("device: tokens are drawn as often as they should be") {
  if (no_gpu("device: tokens are drawn as often as they should be")) return;
  const Stream stream;
  Random random(3);
  std::vector<float> logits(40);
  for (float& x : logits) x = random.signed_unit() * 3;
  constexpr std::int64_t draws = 8'000;
  for (const SampleOptions& options :
       {SampleOptions{.temperature = 1, .seed = 1},
        SampleOptions{.temperature = 0.6f, .top_k = 12, .seed = 2},
        SampleOptions{.temperature = 1.5f, .top_p = 0.8f, .seed = 3},
        SampleOptions{.temperature = 1, .top_k = 20, .top_p = 0.9f, .seed = 4}}) {
    CAPTURE(options.top_k);
    CAPTURE(options.top_p);
    const Nucleus nucleus = nucleus_of(logits, options);
    std::vector<std::int64_t> seen(logits.size(), 0);
    for (const std::int32_t id : draw(stream.backend(), logits, options, draws)) {
      REQUIRE(id >= 0);
      REQUIRE(id < 40);
      ++seen[static_cast<std::size_t>(id)];
    }
    const double total =
        std::accumulate(nucleus.weights.begin(), nucleus.weights.begin() + nucleus.count, 0.0);
    double chi_square = 0;
    std::int64_t inside = 0;
    for (std::size_t i = 0; i < nucleus.count; ++i) {
      const double expected = draws * nucleus.weights[i] / total;
      const double count = static_cast<double>(seen[nucleus.order[i]]);
      inside += seen[nucleus.order[i]];
      chi_square += (count - expected) * (count - expected) / expected;
    }
    CHECK(inside == draws);
    // Chi-square of n - 1 degrees of freedom: mean n - 1, deviation sqrt(2 (n - 1)). Four of them:
    // once in some ten thousand seeds, and these are fixed.
    const double freedom = static_cast<double>(nucleus.count - 1);
    CHECK(chi_square < freedom + 4 * std::sqrt(2 * freedom));
    MESSAGE(nucleus.count, " tokens, chi-square ", chi_square);
  }
}

TEST_CASE("device: draws follow from logits, seed and position alone") {
  if (no_gpu("device: draws follow from logits, seed and position alone")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  Random random(4);
  std::vector<float> logits(100'003);
  for (float& x : logits) x = random.signed_unit() * 5;
  const SampleOptions options{.temperature = 1, .top_k = 5'000, .top_p = 0.9f, .seed = 9};
  constexpr std::int64_t draws = 64;
  const auto first = draw(gpu, logits, options, draws);
  CHECK(draw(gpu, logits, options, draws) == first);
  SampleOptions other = options;
  other.seed = 10;
  CHECK(draw(gpu, logits, other, draws) != first);
  std::vector<std::int32_t> distinct = first;
  std::sort(distinct.begin(), distinct.end());
  CHECK(std::unique(distinct.begin(), distinct.end()) - distinct.begin() > 48);

  // Greedy is temperature 0, of any seed.
  other.temperature = 0;
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  for (const std::int32_t id : draw(gpu, logits, other, 3)) CHECK(id == best);

  // A graph captured once reads the position of each replay.
  Sampling sampling(gpu);
  const auto device = to_device(gpu, logits);
  auto position = to_device(gpu, std::vector<Position>{{0}});
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  check_cuda(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeThreadLocal));
  sample_row(gpu, device.data(), device.size(), options, position.data(), sampling.id.data(),
             sampling.scratch.data());
  check_cuda(cudaStreamEndCapture(gpu.stream, &graph));
  check_cuda(cudaGraphInstantiate(&replay, graph, 0));
  for (std::int64_t i = 0; i < draws; ++i) {
    const Position now{i};
    position.from_host(&now, 1);
    check_cuda(cudaGraphLaunch(replay, gpu.stream));
    CHECK(to_host(gpu, sampling.id)[0] == first[static_cast<std::size_t>(i)]);
  }
  check_cuda(cudaGraphExecDestroy(replay));
  check_cuda(cudaGraphDestroy(graph));
}

TEST_CASE("device: sampling refuses what has no meaning") {
  const auto refused = [](std::int64_t count, const SampleOptions& options) {
    try {
      sample_row(Cuda{}, nullptr, count, options, nullptr, nullptr, nullptr);
    } catch (const Error& error) {
      return std::string(error.what()).find("CUDA") == std::string::npos;
    }
    return false;
  };
  CHECK(refused(0, {}));
  CHECK(refused((1 << 22) + 1, {}));
  CHECK(refused(5, {.temperature = -1}));
  CHECK(refused(5, {.top_k = -1}));
  CHECK(refused(5, {.top_p = 0}));
  CHECK(refused(5, {.top_p = 1.5f}));
}

}  // namespace
