// The host's two attention kernels, run on test caches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "kvring/kernels/attend_host.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "prompts.hpp"
#include "test_cache.hpp"

namespace kvring::test {

/// A window chosen at run time, so that one kernel serves many.
struct AnyWindow {
  static inline std::int64_t chosen = 1;
  static constexpr std::int64_t window = unbounded;
  static Position first_visible(Position query) {
    return {std::max<std::int64_t>(0, query.value - chosen + 1)};
  }
};

template <class Policy>
std::int64_t window_of() {
  return std::is_same_v<Policy, AnyWindow> ? AnyWindow::chosen : Policy::window;
}

struct ByScalar {
  template <class Policy, std::int64_t Tile, class View>
  static void run(View cache, Batch batch, const float* q, float* out, Scores scores) {
    const AttendScalar<Policy, Tile, View> kernel{cache, batch, q, out, scores};
    for (std::int64_t i = 0; i < batch.rows * View::heads.q; ++i) kernel(i);
  }
};

struct ByHost {
  template <class Policy, std::int64_t Tile, class View>
  static void run(View cache, Batch batch, const float* q, float* out, Scores scores) {
    using Task = AttendHost<Policy, Tile, View>;
    const Task kernel{cache, batch, q, out, scores};
    for (std::int64_t i = Task::blocks(batch); i-- > 0;) kernel(i);
  }
};

/// f(ByScalar{}), f(ByHost{}).
template <class F>
void with_each_kernel(F f) {
  f(ByScalar{});
  f(ByHost{});
}

/// Results of the rows of the pieces, which have been appended.
template <class Kernel, class Policy, std::int64_t Tile, class Cache, class PromptType>
std::vector<float> attend(Cache& cache, const std::vector<Piece<PromptType>>& pieces,
                          Scores scores) {
  const Launch launch(pieces);
  std::vector<float> out(launch.q.size(), std::numeric_limits<float>::quiet_NaN());
  Kernel::template run<Policy, Tile>(cache.view(), launch.batch(), launch.q.data(), out.data(),
                                     scores);
  return out;
}

/// Appends a whole prompt in chunks of up to `chunk` rows; results of the rows from `start` on.
template <class Kernel, class Policy, std::int64_t Tile, class Cache, class PromptType>
std::vector<float> prefill(Cache& cache, std::int64_t sequence, const PromptType& prompt,
                           std::int64_t chunk, Scores scores, std::int64_t start = 0) {
  std::vector<float> out;
  for (std::int64_t p = prompt.begin; p < prompt.end();) {
    const std::int64_t stop = p < start ? start : prompt.end();
    const std::int64_t rows = std::min(chunk, stop - p);
    const std::vector<Piece<PromptType>> piece{{sequence, &prompt, p, rows}};
    append(cache, piece);
    if (p >= start) {
      const std::vector<float> results = attend<Kernel, Policy, Tile>(cache, piece, scores);
      out.insert(out.end(), results.begin(), results.end());
    }
    p += rows;
  }
  return out;
}

}  // namespace kvring::test
