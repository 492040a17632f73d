// The products that the fast decoder has Gemm run: their shapes, and weights to try them with.
#pragma once

#include <cstdint>
#include <vector>

#include "kvring/model/gemm_cuda.cuh"
#include "kvring/model/scratch_cuda.hpp"
#include "kvring/model/weights_cuda.cuh"

namespace kvring {

/// Every product of PrefillPass and of logits().
template <class Plan, class Model, class T>
std::vector<GemmShape> gemm_shapes(const CudaWeights<Model, T>& weights,
                                   const CudaScratch<Plan>& layout) {
  std::vector<GemmShape> shapes;
  const auto add = [&](const CudaMatrix<T>& w, bool f32_out, std::int64_t most_rows) {
    if (w.out > 0) shapes.push_back({w.out, w.in, f32_out, most_rows});
  };
  for (const CudaLayerWeights<T>& layer : weights.layers) {
    add(layer.qkv, true, layout.rows);
    add(layer.out, true, layout.rows);
    add(layer.gate_up, false, layout.ffn_rows);
    add(layer.down, true, layout.rows);
    add(layer.input_gate, false, layout.rows);
    add(layer.input_out, true, layout.rows);
  }
  add(weights.layer_inputs_of_embedding, false, layout.rows);
  add(weights.head(), true, layout.rows);
  return shapes;
}

/// A matrix of a product's shape, or nullptr.
template <class Model, class T>
const T* weights_of(const CudaWeights<Model, T>& weights, const GemmShape& shape) {
  const T* found = nullptr;
  weights.for_each_matrix([&](const CudaMatrix<T>& m) {
    if (m.out == shape.out && m.in == shape.in) found = m.data();
  });
  return found;
}

}  // namespace kvring
