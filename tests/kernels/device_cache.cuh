// Caches of the GPU that begin as NaN, between guards of NaN, and what the tests of attention do
// with them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "device.cuh"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/kernels/launch_cuda.cuh"
#include "prompts.hpp"
#include "test_cache.hpp"

namespace kvring::test {

/// A kind of layer, and the tile of keys that bounds are counted with.
template <class P, std::int64_t TileKeys, Heads H>
struct Shape {
  using Policy = P;
  static constexpr std::int64_t tile = TileKeys;
  static constexpr Heads heads = H;
  static constexpr std::int64_t window = P::window;

  static std::int64_t slots(std::int64_t chunk, std::int64_t context) {
    return window == unbounded ? context : ring_slots(window, chunk, TileKeys);
  }
};

/// Attention by the plain kernel.
struct Plainly {
  template <class S, class View>
  static void run(const Cuda& gpu, View cache, Batch batch, const float* q, float* out,
                  Scores scores) {
    attend_plainly(gpu, typename S::Policy{}, KeyTile<S::tile>{}, cache, batch, q, out, scores);
  }
};

/// A cache of the GPU, guards included.
template <class S, class T, class Kernel = Plainly>
class DeviceCache {
 public:
  using Mirror = TestCache<S::heads, T>;
  using View = typename Mirror::View;

  DeviceCache(const Cuda& gpu, const Mirror& mirror)
      : gpu_(gpu),
        slots_(mirror.slots()),
        k_(to_device(gpu, mirror.k())),
        v_(to_device(gpu, mirror.v())) {}

  View view() { return {k_.data() + Mirror::guard, v_.data() + Mirror::guard, slots_}; }

  void copy(const Mirror& mirror) {
    k_.from_host(mirror.k().data(), k_.size());
    v_.from_host(mirror.v().data(), v_.size());
  }
  bool is_same(const Mirror& mirror) const {
    const std::vector<T> k = to_host(gpu_, k_), v = to_host(gpu_, v_);
    return std::memcmp(k.data(), mirror.k().data(), k_.bytes()) == 0 &&
           std::memcmp(v.data(), mirror.v().data(), v_.bytes()) == 0;
  }

  template <class PromptType>
  void append(const std::vector<Piece<PromptType>>& pieces) {
    const Launch launch(pieces);
    const auto segments = to_device(gpu_, launch.segments);
    const auto k = to_device(gpu_, launch.k), v = to_device(gpu_, launch.v);
    Batch batch = launch.batch();
    batch.segments = segments.data();
    for_each(gpu_, launch.rows, Append<View>{view(), batch, k.data(), v.data()});
  }

  template <class PromptType>
  std::vector<float> attend(const std::vector<Piece<PromptType>>& pieces, Scores scores) {
    const Launch launch(pieces);
    const auto segments = to_device(gpu_, launch.segments);
    const auto q = to_device(gpu_, launch.q);
    auto out = to_device(gpu_, std::vector<float>(launch.q.size(), NAN));
    Batch batch = launch.batch();
    batch.segments = segments.data();
    Kernel::template run<S>(gpu_, view(), batch, q.data(), out.data(), scores);
    return to_host(gpu_, out);
  }

  template <class PromptType>
  std::vector<float> prefill(std::int64_t sequence, const PromptType& prompt, std::int64_t chunk,
                             Scores scores) {
    std::vector<float> all;
    for (std::int64_t p = prompt.begin; p < prompt.end(); p += chunk) {
      const std::vector<Piece<PromptType>> piece{
          {sequence, &prompt, p, std::min(chunk, prompt.end() - p)}};
      append(piece);
      const std::vector<float> out = attend(piece, scores);
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  }

 private:
  Cuda gpu_;
  std::int64_t slots_;
  Buffer<T, Cuda> k_, v_;
};

}  // namespace kvring::test
