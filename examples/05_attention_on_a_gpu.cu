// Attention on a GPU inside an engine of your own: raw pointers, your stream, tensor cores (sm_80
// and later). Built by nvcc alone: nvcc -std=c++20 -Iinclude examples/05_attention_on_a_gpu.cu
#include <cmath>
#include <cstdio>
#include <vector>

#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_mma.cuh"
#include "kvring/layer.hpp"
#include "kvring/live_range.hpp"

using namespace kvring;

constexpr Heads heads{.q = 8, .kv = 2, .dim = 128};
using Sliding = Layer<Swa<512>, heads>;
using Placed = Placement<Sliding, Chunk<256>, Rewind<0>, KeyTile<64>>;
using View = CacheView<Placed::Storage, heads, bf16>;
constexpr std::int64_t slots = Placed::capacity(100'000);  // 768, however long the sequence gets

template <class T>
T* on_gpu(std::int64_t count) {
  void* memory = nullptr;
  check_cuda(cudaMalloc(&memory, static_cast<std::size_t>(count) * sizeof(T)));
  check_cuda(cudaMemset(memory, 0, static_cast<std::size_t>(count) * sizeof(T)));
  return static_cast<T*>(memory);
}

int main() try {
  const Cuda gpu{};  // or Cuda{your_stream}
  const View cache{on_gpu<bf16>(slots * heads.kv_dim()), on_gpu<bf16>(slots * heads.kv_dim()),
                   slots};
  bf16 *q = on_gpu<bf16>(256 * heads.q_dim()), *out = on_gpu<bf16>(256 * heads.q_dim());
  bf16 *k = on_gpu<bf16>(256 * heads.kv_dim()), *v = on_gpu<bf16>(256 * heads.kv_dim());
  auto* segments = on_gpu<Segment>(1);
  LiveRange live(slots, Sliding::Policy::window, 100'000);

  for (const std::int64_t rows :
       {256, 256, 256, 1, 256, 31}) {  // chunks of a prompt, single tokens
    const Segment segment{.sequence = 0, .start = {live.length()}, .first_row = 0, .rows = rows};
    live.append(rows);         // refuses, with numbers, what the ring cannot hold
    std::vector<bf16> values;  // V says which position it is of
    for (std::int64_t i = 0; i < rows * heads.kv_dim(); ++i) {
      const Position p = segment.start + i / heads.kv_dim();
      values.push_back(from_f32<bf16>(static_cast<float>(p.value)));
    }
    gpu.from_host(v, values.data(), values.size() * sizeof(bf16));
    gpu.from_host(segments, &segment, sizeof segment);
    const Batch batch{.segments = segments, .count = 1, .rows = rows};
    append_rows(gpu, cache, batch, k, v);
    attend_mma(gpu, Sliding::Policy{}, cache, batch, q, out,
               Scores{.scale = 1 / std::sqrt(128.0f)});

    // All scores are equal here, so the result is the mean of the positions in the window.
    bf16 mean;
    gpu.to_host(&mean, out + (rows - 1) * heads.q_dim(), sizeof mean);
    std::printf("position %4lld: attends to a mean position of %.0f\n",
                static_cast<long long>(live.length() - 1), static_cast<double>(to_f32(mean)));
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
