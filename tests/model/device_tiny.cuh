// What the device tests of the decoder share: tiny models on the GPU, and all logits of a prompt.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.cuh"
#include "kvring/io/safetensors.hpp"
#include "kvring/model/decoder_cuda.cuh"
#include "kvring/model/load_safetensors.hpp"
#include "prompts.hpp"
#include "refusal.hpp"
#include "tiny_types.hpp"

namespace kvring::test {

/// A folder of tests/data, its weights on the GPU, and its oracle.
template <class Model, class T>
struct TinyOnGpu {
  TinyOnGpu(const Cuda& gpu, const std::string& folder)
      : file(KVRING_TEST_DATA "/" + folder + "/model.safetensors"),
        golden(KVRING_TEST_DATA "/" + folder + "/golden.safetensors") {
    SafetensorsSource<Model> source(file);
    weights = load_cuda_weights<Model, T>(gpu, source);
    source.require_nothing_left();
    ids = to_ids(golden.read_i64("input_ids"));
    logits = golden.read_f32("logits");
  }

  SafetensorsFile file, golden;
  CudaWeights<Model, T> weights;
  std::vector<std::int32_t> ids;
  std::vector<float> logits;  // [ids, vocabulary]
};

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// How far logits are from the oracle's.
struct Error2 {
  double worst = 0, rms = 0, scale = 0;  // largest and rms difference; rms of the oracle's
};
inline Error2 compare(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  Error2 error;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - double{b[i]});
    error.worst = difference <= error.worst ? error.worst : difference;
    if (std::isnan(difference)) error.worst = error.rms = INFINITY;
    error.rms += difference * difference;
    error.scale += double{b[i]} * b[i];
  }
  error.rms = std::sqrt(error.rms / static_cast<double>(a.size()));
  error.scale = std::sqrt(error.scale / static_cast<double>(a.size()));
  return error;
}

}  // namespace kvring::test
