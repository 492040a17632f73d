// Attention cases for the kernels of the GPU: prompts of noise made there, caches of which all that
// must not be read is NaN, and a reference in double precision with loops of its own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "device.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/batch.hpp"
#include "prompts.hpp"

namespace kvring::test {

/// Noise in [-size, size), one in sixteen 0 or -0, that follows from seed and index alone.
template <class T>
__global__ void fill_with_noise(T* values, std::int64_t count, std::uint64_t seed, float size) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    std::uint64_t x = seed + static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;  // SplitMix64 (Steele, Lea and Flood, 2014)
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    float value = static_cast<float>(static_cast<std::int64_t>(x >> 40)) * 0x1p-23f - 1.0f;
    if (x % 16 == 0) value = x & 16 ? -0.0f : 0.0f;
    values[i] = from_f32<T>(value * size);
  }
}

/// Copies positions first ... end - 1 of rows [positions, width] to their slots.
template <class T>
__global__ void fill_slots(T* cache, const T* rows, std::int64_t width, std::int64_t slots,
                           std::int64_t first, std::int64_t end) {
  for (std::int64_t p = first + blockIdx.x; p < end; p += gridDim.x) {
    for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) {
      cache[p % slots * width + i] = rows[p * width + i];
    }
  }
}

template <class T>
__global__ void fill_with(T* values, std::int64_t count, T value) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    values[i] = value;
  }
}

/// What the reference is asked: rows `first_row` ... of a prompt's queries, by position.
struct Question {
  std::int64_t q_heads, kv_heads, head_dim;
  std::int64_t start, rows;  // positions of the queries
  std::int64_t window;
  double scale, softcap;
  const float* sinks;      // [q_heads] or nullptr
  double half_ulp;         // of T, relative
  double smallest_weight;  // below which a weight of type T loses digits
};

/// One block a row and head. Answers what attention is, and how far a kernel may be from it:
///   weights and result rounded to T: half_ulp * (sum of |weight * v| + |result|)
///   scores summed in f32 (head_dim additions, each truncated at worst) and exponentials of 2^-22:
///     a relative error of each weight, twice (in the sum and in the denominator)
///   sums over keys in f32, eight keys an addition
///   weights of f16 that are subnormal: smallest_weight each
template <class T>
__global__ void reference_attention(Question a, const T* q, const T* k, const T* v, double* out,
                                    double* bound) {
  extern __shared__ double scores[];
  __shared__ double shared_sum[3];
  const std::int64_t row = blockIdx.x / a.q_heads, head = blockIdx.x % a.q_heads;
  const std::int64_t kv_head = head / (a.q_heads / a.kv_heads);
  const std::int64_t position = a.start + row;
  const std::int64_t first = position >= a.window ? position - a.window + 1 : 0;
  const std::int64_t keys = position - first + 1;
  const T* query = q + (row * a.q_heads + head) * a.head_dim;
  double worst = 0;
  for (std::int64_t i = threadIdx.x; i < keys; i += blockDim.x) {
    const T* key = k + ((first + i) * a.kv_heads + kv_head) * a.head_dim;
    double score = 0, size = 0;
    for (std::int64_t d = 0; d < a.head_dim; ++d) {
      const double product = double{to_f32(query[d])} * double{to_f32(key[d])};
      score += product;
      size += fabs(product);
    }
    score *= a.scale;
    if (a.softcap != 0) score = a.softcap * tanh(score / a.softcap);
    scores[i] = score;
    const double cap_error = a.softcap != 0 ? a.softcap * 4e-7 : 0;
    const double error = a.head_dim * size * a.scale * 0x1p-23 + fabs(score) * 0x1p-21 + cap_error;
    worst = error > worst ? error : worst;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double highest = a.sinks != nullptr ? double{a.sinks[head]} : scores[0];
    for (std::int64_t i = 0; i < keys; ++i) highest = scores[i] > highest ? scores[i] : highest;
    double total = a.sinks != nullptr ? exp(a.sinks[head] - highest) : 0;
    for (std::int64_t i = 0; i < keys; ++i) total += exp(scores[i] - highest);
    shared_sum[0] = highest;
    shared_sum[1] = total;
    shared_sum[2] = 0;
  }
  __syncthreads();
  for (int i = 0; i < static_cast<int>(blockDim.x); ++i) {
    if (static_cast<int>(threadIdx.x) == i && worst > shared_sum[2]) shared_sum[2] = worst;
    __syncthreads();
  }
  for (std::int64_t d = threadIdx.x; d < a.head_dim; d += blockDim.x) {
    double sum = 0, size = 0, largest = 0;
    for (std::int64_t i = 0; i < keys; ++i) {
      const double value = to_f32(v[((first + i) * a.kv_heads + kv_head) * a.head_dim + d]);
      const double weight = exp(scores[i] - shared_sum[0]) / shared_sum[1];
      sum += weight * value;
      size += fabs(weight * value);
      largest = fabs(value) > largest ? fabs(value) : largest;
    }
    const std::int64_t at = blockIdx.x * a.head_dim + d;
    const double weight_error = 2 * (shared_sum[2] * 1.01 + 0x1p-21);
    out[at] = sum;
    bound[at] = 1.01 * a.half_ulp * (size + fabs(sum)) +
                size * (weight_error + static_cast<double>(keys) / 8 * 0x1p-22) +
                static_cast<double>(keys) * a.smallest_weight * largest / shared_sum[1] + 1e-7;
  }
}

template <class T>
constexpr double half_ulp() {
  return std::is_same_v<T, f32> ? 0x1p-24 : std::is_same_v<T, f16> ? 0x1p-11 : 0x1p-8;
}

inline unsigned blocks_for(std::int64_t count) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(count / 256, 1, 4096));
}

/// Q, K and V of one prompt of positions 0 ... length - 1, in T on the GPU.
template <Heads H, class T>
class DevicePrompt {
 public:
  DevicePrompt(const Cuda& gpu, std::uint64_t seed, std::int64_t length, float k_size = 1)
      : gpu_(gpu),
        length_(length),
        q_(gpu, length * H.q_dim()),
        k_(gpu, length * H.kv_dim()),
        v_(gpu, length * H.kv_dim()) {
    noise(q_, seed * 3, 1);
    noise(k_, seed * 3 + 1, k_size);
    noise(v_, seed * 3 + 2, 1);
  }

  std::int64_t length() const { return length_; }
  const T* q(std::int64_t position) const { return q_.data() + position * H.q_dim(); }
  const T* k(std::int64_t position) const { return k_.data() + position * H.kv_dim(); }
  const T* v(std::int64_t position) const { return v_.data() + position * H.kv_dim(); }

 private:
  void noise(Buffer<T, Cuda>& buffer, std::uint64_t seed, float size) {
    fill_with_noise<<<blocks_for(buffer.size()), 256, 0, gpu_.stream>>>(
        buffer.data(), buffer.size(), seed * 0x632be59bd9b4e019u, size);
  }

  Cuda gpu_;
  std::int64_t length_;
  Buffer<T, Cuda> q_, k_, v_;
};

/// Rows `start` ... `start + rows - 1` of a prompt, which attend as sequence `sequence`.
template <Heads H, class T>
struct DevicePiece {
  std::int64_t sequence;
  const DevicePrompt<H, T>* prompt;
  std::int64_t start, rows;
};

/// A cache of `sequences` sequences between guards, all NaN but for what is filled.
template <Heads H, class T, class Storage>
class PoisonedCache {
 public:
  using View = CacheView<Storage, H, T>;
  using Piece = DevicePiece<H, T>;

  PoisonedCache(const Cuda& gpu, std::int64_t sequences, std::int64_t slots)
      : gpu_(gpu),
        slots_(slots),
        k_(gpu, (sequences * slots + 2 * guard) * H.kv_dim()),
        v_(gpu, (sequences * slots + 2 * guard) * H.kv_dim()) {
    poison();
  }

  View view() { return {k_.data() + guard * H.kv_dim(), v_.data() + guard * H.kv_dim(), slots_}; }

  void poison() {
    const T nan = from_f32<T>(std::numeric_limits<float>::quiet_NaN());
    fill_with<<<blocks_for(k_.size()), 256, 0, gpu_.stream>>>(k_.data(), k_.size(), nan);
    fill_with<<<blocks_for(v_.size()), 256, 0, gpu_.stream>>>(v_.data(), v_.size(), nan);
  }
  /// Fills what the rows of a piece may see, and leaves all else.
  void fill(const Piece& piece, std::int64_t window) {
    const std::int64_t end = piece.start + piece.rows;
    const std::int64_t first = piece.start >= window ? piece.start - window + 1 : 0;
    const View cache = view();
    const std::int64_t offset = piece.sequence * slots_ * H.kv_dim();
    const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(end - first, 4096));
    fill_slots<<<blocks, 128, 0, gpu_.stream>>>(cache.k + offset, piece.prompt->k(0), H.kv_dim(),
                                                slots_, first, end);
    fill_slots<<<blocks, 128, 0, gpu_.stream>>>(cache.v + offset, piece.prompt->v(0), H.kv_dim(),
                                                slots_, first, end);
  }

 private:
  static constexpr std::int64_t guard = 64;  // rows
  Cuda gpu_;
  std::int64_t slots_;
  Buffer<T, Cuda> k_, v_;
};

/// A launch over pieces, on the GPU: segments, and the queries one after the other.
template <Heads H, class T>
struct DeviceLaunch {
  std::vector<Segment> host_segments;
  Buffer<Segment, Cuda> segments;
  Buffer<T, Cuda> q, out;  // [rows, q_heads, head_dim]
  std::int64_t rows = 0;

  DeviceLaunch(const Cuda& gpu, const std::vector<DevicePiece<H, T>>& pieces) {
    for (const auto& piece : pieces) {
      host_segments.push_back({.sequence = piece.sequence,
                               .start = {piece.start},
                               .first_row = rows,
                               .rows = piece.rows});
      rows += piece.rows;
    }
    segments = to_device(gpu, host_segments);
    q = Buffer<T, Cuda>(gpu, rows * H.q_dim());
    out = Buffer<T, Cuda>(gpu, rows * H.q_dim());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      check_cuda(cudaMemcpyAsync(q.data() + host_segments[i].first_row * H.q_dim(),
                                 pieces[i].prompt->q(pieces[i].start),
                                 static_cast<std::size_t>(pieces[i].rows * H.q_dim()) * sizeof(T),
                                 cudaMemcpyDeviceToDevice, gpu.stream));
    }
    const T nan = from_f32<T>(std::numeric_limits<float>::quiet_NaN());
    fill_with<<<blocks_for(out.size()), 256, 0, gpu.stream>>>(out.data(), out.size(), nan);
  }
  Batch batch() const {
    return {segments.data(), static_cast<std::int64_t>(host_segments.size()), rows};
  }
};

/// How far results were from the reference, as shares of what is allowed: above 1 is wrong.
struct Shares {
  double worst = 0;
  long wrong = 0, compared = 0;

  void add(double difference, double allowed) {
    const double share = difference / allowed;
    wrong += !(share <= 1);  // NaN is wrong
    worst = std::max(worst, share);
    ++compared;
  }
};

template <Heads H, class T>
void compare_with_reference(const Cuda& gpu, const DevicePiece<H, T>& piece, std::int64_t window,
                            Scores score, const T* results, Shares& shares) {
  const std::int64_t count = piece.rows * H.q_dim();
  Buffer<double, Cuda> out(gpu, count), bound(gpu, count);
  const Question question{.q_heads = H.q,
                          .kv_heads = H.kv,
                          .head_dim = H.dim,
                          .start = piece.start,
                          .rows = piece.rows,
                          .window = window,
                          .scale = score.scale,
                          .softcap = score.softcap,
                          .sinks = score.sinks,
                          .half_ulp = half_ulp<T>(),
                          .smallest_weight = std::is_same_v<T, f16> ? 0x1p-25 : 0};
  const std::int64_t keys = std::min(window, piece.start + piece.rows);
  const std::size_t shared = static_cast<std::size_t>(keys) * sizeof(double);
  check_cuda(cudaFuncSetAttribute(reference_attention<T>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, 200 * 1024));
  reference_attention<T><<<static_cast<unsigned>(piece.rows * H.q), 128, shared, gpu.stream>>>(
      question, piece.prompt->q(piece.start), piece.prompt->k(0), piece.prompt->v(0), out.data(),
      bound.data());
  check_cuda(cudaGetLastError());
  const std::vector<double> expected = to_host(gpu, out), allowed = to_host(gpu, bound);
  std::vector<T> values(static_cast<std::size_t>(count));
  gpu.to_host(values.data(), results, values.size() * sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    shares.add(std::fabs(double{to_f32(values[i])} - expected[i]), allowed[i]);
  }
}

template <class T>
long differing_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return -1;
  long count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(T)) != 0;
  return count;
}

}  // namespace kvring::test
