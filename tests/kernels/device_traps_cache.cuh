// Layers for the tests of the traps on a GPU, with a ring that has not a slot to spare: their rows,
// and caches between guards.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "device_attention.cuh"
#include "kvring/cache.hpp"

namespace kvring::test::device_traps {

/// What rows are of, and how wide.
template <class E>
struct Narrow {
  using T = E;
  static constexpr Heads heads{.q = 8, .kv = 2, .dim = 64};
};
template <class E>
struct Wide {
  using T = E;
  static constexpr Heads heads{.q = 4, .kv = 1, .dim = 512};
};

inline constexpr std::int64_t window = 128, chunk = 65, slots = 192;
static_assert(slots == window - 1 + chunk && slots % 64 == 0);
using Policy = Swa<window>;
inline constexpr Scores scores{.scale = 0.125f};

template <class Layer>
using View = CacheView<Ring<64>, Layer::heads, typename Layer::T>;
template <class T>
T nan_of() {
  return from_f32<T>(std::numeric_limits<float>::quiet_NaN());
}

/// Q, K and V of positions begin ..., on the GPU, and as the host made them.
template <class Layer>
struct Rows {
  using T = typename Layer::T;
  static constexpr Heads heads = Layer::heads;
  std::int64_t begin, count;
  std::vector<T> host_q, host_k, host_v;
  Buffer<T, Cuda> q, k, v;

  Rows(const Cuda& gpu, std::uint64_t seed, std::int64_t count, std::int64_t begin = 0)
      : begin(begin), count(count) {
    const Prompt<heads, T> noise(seed, count);
    const auto in_t = [](const std::vector<float>& from) {
      std::vector<T> to;
      for (const float x : from) to.push_back(from_f32<T>(x));
      return to;
    };
    host_q = in_t(noise.q);
    host_k = in_t(noise.k);
    host_v = in_t(noise.v);
    upload(gpu);
  }
  void upload(const Cuda& gpu) {
    q = to_device(gpu, host_q);
    k = to_device(gpu, host_k);
    v = to_device(gpu, host_v);
  }
  std::int64_t end() const { return begin + count; }
  const T* q_at(std::int64_t p) const { return q.data() + (p - begin) * heads.q_dim(); }
  const T* k_at(std::int64_t p) const { return k.data() + (p - begin) * heads.kv_dim(); }
  const T* v_at(std::int64_t p) const { return v.data() + (p - begin) * heads.kv_dim(); }
};

/// Rows start ... of a text, for one sequence.
template <class Layer>
struct Piece {
  std::int64_t sequence;
  const Rows<Layer>* text;
  std::int64_t start, rows;
};
template <class Layer>
using Pieces = std::vector<Piece<Layer>>;

/// Everywhere but in the slots of positions first ... last.
template <class T>
__global__ void fill_all_but(T* cache, std::int64_t width, std::int64_t slots, std::int64_t first,
                             std::int64_t last, T with) {
  const std::int64_t slot = blockIdx.x;
  for (std::int64_t p = first; p <= last; ++p) {
    if (p % slots == slot) return;
  }
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    cache[slot * width + i] = with;
  }
}

/// Sequences between guards; what nobody wrote is NaN, and so are the guards.
template <class Layer>
class GuardedCache {
 public:
  using T = typename Layer::T;
  static constexpr Heads heads = Layer::heads;

  GuardedCache(const Cuda& gpu, std::int64_t sequences, std::int64_t slots)
      : gpu_(gpu), slots_(slots) {
    const std::vector<T> nothing(
        static_cast<std::size_t>((sequences * slots + 2 * guard) * heads.kv_dim()), nan_of<T>());
    k_ = to_device(gpu, nothing);
    v_ = to_device(gpu, nothing);
  }
  View<Layer> view() {
    return {k_.data() + guard * heads.kv_dim(), v_.data() + guard * heads.kv_dim(), slots_};
  }
  std::int64_t slots() const { return slots_; }
  void fill_all_but(std::int64_t first, std::int64_t last, T with) {
    const View<Layer> cache = view();
    const auto blocks = static_cast<unsigned>(slots_);
    device_traps::fill_all_but<<<blocks, 64, 0, gpu_.stream>>>(cache.k, heads.kv_dim(), slots_,
                                                               first, last, with);
    device_traps::fill_all_but<<<blocks, 64, 0, gpu_.stream>>>(cache.v, heads.kv_dim(), slots_,
                                                               first, last, with);
  }
  std::vector<T> k() const { return to_host(gpu_, k_); }
  std::vector<T> v() const { return to_host(gpu_, v_); }
  bool guards_are_intact() const { return has_guards(k()) && has_guards(v()); }
  static constexpr std::int64_t guard = 64;  // rows

 private:
  static bool has_guards(const std::vector<T>& memory) {
    const auto is_nan = [](T x) { return to_f32(x) != to_f32(x); };
    const std::int64_t band = guard * heads.kv_dim();
    return std::all_of(memory.begin(), memory.begin() + band, is_nan) &&
           std::all_of(memory.end() - band, memory.end(), is_nan);
  }

  Cuda gpu_;
  std::int64_t slots_;
  Buffer<T, Cuda> k_, v_;
};

/// The rows of some pieces, one after the other, with room for `room` rows: what is past the
/// batch's is NaN.
template <class Layer>
struct Gathered {
  using T = typename Layer::T;
  static constexpr Heads heads = Layer::heads;
  std::vector<Segment> host_segments;
  Buffer<Segment, Cuda> segments;
  Buffer<T, Cuda> q, k, v, out;
  std::int64_t rows = 0;

  Gathered(const Cuda& gpu, const Pieces<Layer>& pieces, std::int64_t room = 0) {
    std::vector<T> host_q, host_k, host_v;
    const auto take = [](std::vector<T>& to, const std::vector<T>& from, std::int64_t first,
                         std::int64_t count) {
      to.insert(to.end(), from.begin() + first, from.begin() + first + count);
    };
    for (const Piece<Layer>& piece : pieces) {
      host_segments.push_back({.sequence = piece.sequence,
                               .start = {piece.start},
                               .first_row = rows,
                               .rows = piece.rows});
      rows += piece.rows;
      const std::int64_t at = piece.start - piece.text->begin;
      take(host_q, piece.text->host_q, at * heads.q_dim(), piece.rows * heads.q_dim());
      take(host_k, piece.text->host_k, at * heads.kv_dim(), piece.rows * heads.kv_dim());
      take(host_v, piece.text->host_v, at * heads.kv_dim(), piece.rows * heads.kv_dim());
    }
    room = std::max(room, rows);
    host_q.resize(static_cast<std::size_t>(room * heads.q_dim()), nan_of<T>());
    host_k.resize(static_cast<std::size_t>(room * heads.kv_dim()), nan_of<T>());
    host_v.resize(host_k.size(), nan_of<T>());
    segments = to_device(gpu, host_segments);
    q = to_device(gpu, host_q);
    k = to_device(gpu, host_k);
    v = to_device(gpu, host_v);
    out = to_device(gpu, std::vector<T>(host_q.size(), nan_of<T>()));
  }
  Batch batch() const {
    return {segments.data(), static_cast<std::int64_t>(host_segments.size()), rows};
  }
};

}  // namespace kvring::test::device_traps
