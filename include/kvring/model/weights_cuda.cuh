// Weights of a model on a GPU as the fast decoder wants them: in bf16 or f16, matrices that are
// multiplied with the same rows merged into one.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/feed_forward.hpp"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/kernels/random.hpp"
#include "kvring/model/weights.hpp"

namespace kvring {

/// A matrix [out, in] in the memory of a GPU.
template <class T>
struct CudaMatrix {
  std::int64_t out = 0, in = 0;
  Buffer<T, Cuda> values{};
  const T* data() const { return values.data(); }
};

template <class T>
struct CudaLayerWeights {
  Buffer<float, Cuda> attention_norm;       // [hidden]
  Buffer<float, Cuda> q_norm, k_norm;       // [head_dim], with qk_norm
  Buffer<float, Cuda> post_attention_norm;  // [hidden], with sandwich_norms
  Buffer<float, Cuda> ffn_norm;             // [hidden]
  Buffer<float, Cuda> post_ffn_norm;        // [hidden], with sandwich_norms
  Buffer<float, Cuda> post_input_norm;      // [hidden], with per_layer_width
  CudaMatrix<T> qkv;      // q, then k and v: no v if it is k, neither if a donor has them
  CudaMatrix<T> out;      // heads to hidden
  CudaMatrix<T> gate_up;  // gate, then up: hidden to ffn
  CudaMatrix<T> down;     // ffn to hidden
  CudaMatrix<T> input_gate, input_out;  // hidden to per_layer_width, and back
  float scalar = 1;                     // with layer_scalar
};

template <class Model, class T>
struct CudaWeights {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  CudaMatrix<T> embedding;  // [vocabulary, hidden]
  CudaMatrix<T> own_head;   // [vocabulary, hidden], unless the head is the embedding
  std::vector<CudaLayerWeights<T>> layers;
  Buffer<float, Cuda> final_norm;  // [hidden]

  CudaMatrix<T> layer_inputs;               // [vocabulary, layers * per_layer_width]
  CudaMatrix<T> layer_inputs_of_embedding;  // hidden to layers * per_layer_width
  Buffer<float, Cuda> layer_input_norm;     // [per_layer_width]

  const CudaMatrix<T>& head() const { return Model::block.tied_head ? embedding : own_head; }

  /// f(matrix) for every matrix.
  template <class F>
  void for_each_matrix(F f) const {
    for (const CudaMatrix<T>* m :
         {&embedding, &own_head, &layer_inputs, &layer_inputs_of_embedding}) {
      if (m->out > 0) f(*m);
    }
    for (const CudaLayerWeights<T>& layer : layers) {
      for (const CudaMatrix<T>* m : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down,
                                     &layer.input_gate, &layer.input_out}) {
        if (m->out > 0) f(*m);
      }
    }
  }
  /// Bytes of all matrices.
  std::int64_t matrix_bytes() const {
    std::int64_t bytes = 0;
    for_each_matrix(
        [&](const CudaMatrix<T>& m) { bytes += static_cast<std::int64_t>(m.values.bytes()); });
    return bytes;
  }
};

namespace detail {

/// A part of a merged matrix: a tensor's name and its rows.
struct MatrixPart {
  std::string_view name;
  std::int64_t out = 0;
};

/// Rows of a file's matrix, rounded to T on all cores of the host, into device memory.
template <class T>
void upload_rounded(const Cuda& backend, const Matrix& matrix, T* to) {
  constexpr std::int64_t block_values = std::int64_t{8} << 20;
  const std::int64_t block = larger(1, smaller(matrix.out, block_values / matrix.in));
  std::vector<T> rounded(static_cast<std::size_t>(block * matrix.in));
  const std::int64_t threads =
      matrix.out * matrix.in < (1 << 16)
          ? 1
          : larger(1, smaller(16, static_cast<std::int64_t>(std::thread::hardware_concurrency())));
  for (std::int64_t begin = 0; begin < matrix.out; begin += block) {
    const std::int64_t count = smaller(block, matrix.out - begin);
    const auto convert = [&](std::int64_t first) {
      std::vector<float> row(static_cast<std::size_t>(matrix.in));
      for (std::int64_t i = first; i < count; i += threads) {
        matrix.read_row(begin + i, row.data());
        T* out = rounded.data() + i * matrix.in;
        for (std::int64_t c = 0; c < matrix.in; ++c) {
          out[c] = from_f32<T>(row[static_cast<std::size_t>(c)]);
        }
      }
    };
    std::vector<std::thread> workers;
    for (std::int64_t t = 1; t < threads; ++t) workers.emplace_back(convert, t);
    convert(0);
    for (std::thread& worker : workers) worker.join();
    // The copy is staged before this returns: the block may be filled again.
    backend.from_host(to + begin * matrix.in, rounded.data(),
                      static_cast<std::size_t>(count * matrix.in) * sizeof(T));
  }
}

/// Makes weights of what a file holds.
template <class T, WeightSource Source>
struct ReadWeights {
  Cuda backend;
  Source& source;

  template <std::size_t N>
  CudaMatrix<T> matrix(std::int64_t layer, const std::array<MatrixPart, N>& parts,
                       std::int64_t in) {
    CudaMatrix<T> merged{.in = in};
    for (const MatrixPart& part : parts) merged.out += part.out;
    merged.values = Buffer<T, Cuda>(backend, merged.out * in);
    T* to = merged.values.data();
    for (const MatrixPart& part : parts) {
      if (part.out == 0) continue;
      upload_rounded(backend, source.matrix(layer, part.name, part.out, in), to);
      to += part.out * in;
    }
    return merged;
  }
  Buffer<float, Cuda> vector(std::int64_t layer, std::string_view name, std::int64_t size) {
    const std::vector<float> values = source.vector(layer, name, size);
    Buffer<float, Cuda> buffer(backend, size);
    buffer.from_host(values.data(), size);
    return buffer;
  }
  float number(std::int64_t layer, std::string_view name) {
    return source.vector(layer, name, 1)[0];
  }
  void done_with_layer(std::int64_t layer) { source.done_with_layer(layer); }
};

/// Makes random weights, for measurements: N(0, 1 / sqrt(in)); norms and scalars are 1.
template <class T>
struct RandomWeights {
  Cuda backend;
  std::uint64_t seed;

  template <std::size_t N>
  CudaMatrix<T> matrix(std::int64_t, const std::array<MatrixPart, N>& parts, std::int64_t in) {
    CudaMatrix<T> merged{.in = in};
    for (const MatrixPart& part : parts) merged.out += part.out;
    merged.values = Buffer<T, Cuda>(backend, merged.out * in);
    for_each(backend, merged.values.size(),
             FillNormal<T>{.to = merged.values.data(),
                           .deviation = 1 / std::sqrt(static_cast<float>(in)),
                           .seed = ++seed});
    return merged;
  }
  Buffer<float, Cuda> vector(std::int64_t, std::string_view, std::int64_t size) {
    const std::vector<float> ones(static_cast<std::size_t>(size), 1.0f);
    Buffer<float, Cuda> buffer(backend, size);
    buffer.from_host(ones.data(), size);
    return buffer;
  }
  float number(std::int64_t, std::string_view) { return 1; }
  void done_with_layer(std::int64_t) {}
};

/// The same tensors as load_weights (weights.hpp), by whatever `make` makes them of.
template <class Model, class T, class Maker>
CudaWeights<Model, T> make_cuda_weights(Maker make) {
  using Layers = typename Model::Layers;
  constexpr auto donors = SharingOf<Model>::type::template donors<Layers>();
  constexpr std::int64_t hidden = Model::hidden, width = Model::block.per_layer_width;
  const auto one = [&](std::int64_t layer, std::string_view name, std::int64_t out,
                       std::int64_t in) {
    return make.matrix(layer, std::array{MatrixPart{name, out}}, in);
  };

  CudaWeights<Model, T> weights;
  weights.embedding = one(whole_model, "token_embd", Model::vocabulary, hidden);
  weights.final_norm = make.vector(whole_model, "output_norm", hidden);
  if constexpr (!Model::block.tied_head) {
    weights.own_head = one(whole_model, "output", Model::vocabulary, hidden);
  }
  if constexpr (width > 0) {
    constexpr std::int64_t all = Layers::layers * width;
    weights.layer_inputs = one(whole_model, "per_layer_token_embd", Model::vocabulary, all);
    weights.layer_inputs_of_embedding = one(whole_model, "per_layer_model_proj", all, hidden);
    weights.layer_input_norm = make.vector(whole_model, "per_layer_proj_norm", width);
  }
  weights.layers.resize(static_cast<std::size_t>(Layers::layers));
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    const auto load_layer = [&]<class Kind>(std::type_identity<Kind>, std::int64_t i) {
      constexpr Heads heads = Kind::heads;
      CudaLayerWeights<T>& layer = weights.layers[static_cast<std::size_t>(i)];
      const bool owns = donors[static_cast<std::size_t>(i)] == i;
      const std::int64_t ffn = ffn_width<Model>(i);
      layer.attention_norm = make.vector(i, "attn_norm", hidden);
      layer.qkv = make.matrix(
          i,
          std::array{MatrixPart{"attn_q", heads.q_dim()},
                     MatrixPart{"attn_k", owns ? heads.kv_dim() : 0},
                     MatrixPart{"attn_v", owns && !value_from_key<Kind> ? heads.kv_dim() : 0}},
          hidden);
      layer.out = one(i, "attn_output", hidden, heads.q_dim());
      if constexpr (Model::block.qk_norm) {
        layer.q_norm = make.vector(i, "attn_q_norm", heads.dim);
        if (owns) layer.k_norm = make.vector(i, "attn_k_norm", heads.dim);
      }
      layer.ffn_norm = make.vector(i, "ffn_norm", hidden);
      layer.gate_up = make.matrix(
          i, std::array{MatrixPart{"ffn_gate", ffn}, MatrixPart{"ffn_up", ffn}}, hidden);
      layer.down = one(i, "ffn_down", hidden, ffn);
      if constexpr (Model::block.sandwich_norms) {
        layer.post_attention_norm = make.vector(i, "post_attention_norm", hidden);
        layer.post_ffn_norm = make.vector(i, "post_ffw_norm", hidden);
      }
      if constexpr (width > 0) {
        layer.input_gate = one(i, "inp_gate", width, hidden);
        layer.input_out = one(i, "proj", hidden, width);
        layer.post_input_norm = make.vector(i, "post_norm", hidden);
      }
      if constexpr (Model::block.layer_scalar) {
        layer.scalar = make.number(i, "layer_output_scale");
      }
      make.done_with_layer(i);
    };
    (load_layer(std::type_identity<typename Layers::template Kind<I>>{}, I), ...);
  }
  (std::make_index_sequence<static_cast<std::size_t>(Layers::layers)>{});
  return weights;
}

}  // namespace detail

/// Reads a whole model, rounded to T. `source` may go afterwards.
template <class Model, class T, WeightSource Source>
CudaWeights<Model, T> load_cuda_weights(const Cuda& backend, Source& source) {
  return detail::make_cuda_weights<Model, T>(
      detail::ReadWeights<T, Source>{.backend = backend, .source = source});
}

/// Weights of the shape of a model, for measurements.
template <class Model, class T>
CudaWeights<Model, T> random_cuda_weights(const Cuda& backend, std::uint64_t seed = 1) {
  return detail::make_cuda_weights<Model, T>(
      detail::RandomWeights<T>{.backend = backend, .seed = seed * 1000});
}

}  // namespace kvring
