// The tiny models of tests/data on the host: their files and weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvring/io/safetensors.hpp"
#include "kvring/kernels/attend.hpp"
#include "kvring/model/linear_host.hpp"
#include "kvring/model/load_safetensors.hpp"
#include "prompts.hpp"
#include "tiny_types.hpp"

namespace kvring::test {

/// A folder of tests/data: weights, and what transformers makes of them.
struct TinyFile {
  explicit TinyFile(const std::string& folder = "gemma3")
      : weights(KVRING_TEST_DATA "/" + folder + "/model.safetensors"),
        golden(KVRING_TEST_DATA "/" + folder + "/golden.safetensors") {}
  SafetensorsFile weights, golden;
};

template <class Model>
Weights<Model, Host> load_tiny(const TinyFile& file) {
  SafetensorsSource<Model> source(file.weights);
  auto weights = load_weights<Model>(Host{}, source);
  source.require_nothing_left();
  return weights;
}

}  // namespace kvring::test
