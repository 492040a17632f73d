// The generic decoder on a GPU in f32: the same oracles and the same tolerances as on the host.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "golden.hpp"
#include "kernels/device.cuh"
#include "kvring/io/safetensors.hpp"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/model/decoder.hpp"
#include "kvring/model/linear_cuda.cuh"
#include "kvring/model/load_safetensors.hpp"
#include "kvring/model/prefill.hpp"
#include "prompts.hpp"
#include "tiny_types.hpp"

namespace kvring::test {
namespace {

template <class Model, std::int64_t ChunkRows>
void check(const Cuda& gpu, const char* folder, double tolerance) {
  const SafetensorsFile file(KVRING_TEST_DATA "/" + std::string(folder) + "/model.safetensors");
  const SafetensorsFile golden(KVRING_TEST_DATA "/" + std::string(folder) + "/golden.safetensors");
  SafetensorsSource<Model> source(file);
  const auto weights = load_weights<Model>(gpu, source);
  const std::vector<std::int32_t> ids = to_ids(golden.read_i64("input_ids"));
  using TinyPlan = Plan<Model, f32, Chunk<ChunkRows>, Rewind<0>, KeyTile<64>>;
  Decoder<TinyPlan, Cuda> decoder(gpu, weights, std::ssize(ids));
  const double worst = max_difference(all_logits(decoder, 0, ids), golden.read_f32("logits"));
  MESSAGE(std::string(Model::name), ", chunk ", ChunkRows, ": logits differ by ", worst,
          " at most");
  CHECK(worst <= tolerance);
}

template <class Model>
void check_chunks(const char* folder, double tolerance) {
  const Stream stream;
  check<Model, 160>(stream.backend(), folder, tolerance);
  check<Model, 7>(stream.backend(), folder, tolerance);
}

}  // namespace

// The tolerances of golden_test.cpp and families_test.cpp.
TEST_CASE("device f32: the tiny models of every family equal their oracles") {
  if (no_gpu("device f32: the tiny models")) return;
  check_chunks<TinyGemma3<>>("gemma3", logit_tolerance);
  check_chunks<TinyGemma4E>("gemma4-e", 2e-4);
  check_chunks<TinyGemma4KeqV>("gemma4-k-eq-v", 2e-4);
  check_chunks<TinyQwen3>("qwen3", 2e-5);
  check_chunks<TinyMistral>("mistral", 2e-5);
}

}  // namespace kvring::test
