// Every attention kernel of the GPU over the caches of the traps' tests, and what it must give. The
// kernels are compiled once, in device_traps_ring_test.cu.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "device_traps_cache.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/decode_plan.hpp"

namespace kvring::test::device_traps {

/// The kernels, each with the most rows that a sequence brings to a launch of it.
template <class LayerType>
struct Chunked : LayerType {
  using Layer = LayerType;
  static constexpr std::int64_t most_rows = chunk;
  explicit Chunked(const Cuda&) {}
};
template <class E>
struct Mma : Chunked<Narrow<E>> {
  using Chunked<Narrow<E>>::Chunked;
  template <class P>
  void operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch, const E* q, E* out,
                  Scores score) const;
};
template <class E>
struct Wgmma : Chunked<Narrow<E>> {
  using Chunked<Narrow<E>>::Chunked;
  template <class P>
  void operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch, const E* q, E* out,
                  Scores score) const;
};
template <class E>
struct Wgmma512 : Chunked<Wide<E>> {
  using Chunked<Wide<E>>::Chunked;
  template <class P>
  void operator()(const Cuda& gpu, P policy, View<Wide<E>> cache, Batch batch, const E* q, E* out,
                  Scores score) const;
};
template <class E>
struct Simt : Chunked<Narrow<E>> {
  using Chunked<Narrow<E>>::Chunked;
  template <class P>
  void operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch, const E* q, E* out,
                  Scores score) const;
};
template <class E>
struct Decode : Narrow<E> {
  using Layer = Narrow<E>;
  static constexpr std::int64_t most_rows = 16;
  DecodePlan plan{.parts = 4};
  std::shared_ptr<Buffer<float, Cuda>> scratch;
  static constexpr std::int64_t most_parts = 33, most_batch = 8 * most_rows;
  explicit Decode(const Cuda& gpu)
      : scratch(std::make_shared<Buffer<float, Cuda>>(
            gpu, DecodePlan{most_parts}.scratch_floats(Layer::heads, most_batch))) {}
  template <class P>
  void operator()(const Cuda& gpu, P policy, View<Narrow<E>> cache, Batch batch, const E* q, E* out,
                  Scores score) const;
};

/// Says that a test case was skipped, if there is no GPU that runs the kernel.
template <class K>
bool cannot_run(const char* name) {
  using E = typename K::T;
  constexpr bool hopper = std::is_same_v<K, Wgmma<E>> || std::is_same_v<K, Wgmma512<E>>;
  return hopper ? no_hopper(name) : no_gpu(name);
}

template <class Layer>
void append(const Cuda& gpu, GuardedCache<Layer>& cache, const Pieces<Layer>& pieces) {
  const Gathered<Layer> rows(gpu, pieces);
  append_rows(gpu, cache.view(), rows.batch(), rows.k.data(), rows.v.data());
}

/// Results of rows that have been appended.
template <class P = Policy, class K>
std::vector<typename K::T> attend(const Cuda& gpu, const K& kernel,
                                  GuardedCache<typename K::Layer>& cache,
                                  const Pieces<typename K::Layer>& pieces, Scores score = scores) {
  Gathered<typename K::Layer> rows(gpu, pieces);
  kernel(gpu, P{}, cache.view(), rows.batch(), rows.q.data(), rows.out.data(), score);
  check_cuda(cudaGetLastError());
  return to_host(gpu, rows.out);
}

/// Appends a whole text in chunks; results of the rows from `start` on.
template <class P = Policy, class K>
std::vector<typename K::T> prefill(const Cuda& gpu, const K& kernel,
                                   GuardedCache<typename K::Layer>& cache, std::int64_t sequence,
                                   const Rows<typename K::Layer>& text, std::int64_t rows_at_once,
                                   Scores score = scores, std::int64_t start = 0) {
  std::vector<typename K::T> all;
  for (std::int64_t p = text.begin; p < text.end();) {
    const std::int64_t rows = std::min(rows_at_once, (p < start ? start : text.end()) - p);
    const Pieces<typename K::Layer> piece{{sequence, &text, p, rows}};
    append(gpu, cache, piece);
    if (p >= start) {
      const auto out = attend<P>(gpu, kernel, cache, piece, score);
      all.insert(all.end(), out.begin(), out.end());
    }
    p += rows;
  }
  return all;
}

/// The rows of a whole text over a cache that forgets nothing.
template <class K>
std::vector<typename K::T> over_full(const Cuda& gpu, const K& kernel,
                                     const Rows<typename K::Layer>& text) {
  GuardedCache<typename K::Layer> cache(gpu, 1, text.end());
  return prefill(gpu, kernel, cache, 0, text, K::most_rows);
}

/// Elements of the rows from `start` on that are further from double precision than roundings
/// account for (device_attention.cuh counts them).
template <class Layer>
long wrong(const Cuda& gpu, const std::vector<typename Layer::T>& results, const Rows<Layer>& text,
           std::int64_t start, Scores score = scores, std::int64_t keys_in_sight = window) {
  using T = typename Layer::T;
  constexpr Heads heads = Layer::heads;
  const std::int64_t rows = std::ssize(results) / heads.q_dim();
  const Question question{.q_heads = heads.q,
                          .kv_heads = heads.kv,
                          .head_dim = heads.dim,
                          .start = start,
                          .rows = rows,
                          .window = keys_in_sight,
                          .scale = score.scale,
                          .softcap = score.softcap,
                          .sinks = score.sinks,
                          .half_ulp = half_ulp<T>(),
                          .smallest_weight = std::is_same_v<T, f16> ? 0x1p-25 : 0};
  Buffer<double, Cuda> out(gpu, std::ssize(results)), bound(gpu, std::ssize(results));
  reference_attention<T><<<static_cast<unsigned>(rows * heads.q), 128,
                           static_cast<std::size_t>(keys_in_sight) * sizeof(double), gpu.stream>>>(
      question, text.q_at(start), text.k.data(), text.v.data(), out.data(), bound.data());
  check_cuda(cudaGetLastError());
  const auto right = to_host(gpu, out), allowed = to_host(gpu, bound);
  long count = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    count += !(std::fabs(double{to_f32(results[i])} - right[i]) <= allowed[i]);
  }
  return count;
}

template <class K>
std::vector<typename K::T> rows_of(const std::vector<typename K::T>& results, std::int64_t first,
                                   std::int64_t count) {
  const auto begin = results.begin() + first * K::heads.q_dim();
  return {begin, begin + count * K::heads.q_dim()};
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return !a.empty() && differing_bytes(a, b) == 0;
}

}  // namespace kvring::test::device_traps
