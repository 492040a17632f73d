// attend: attention of a batch on the host. Other back ends overload it.
#pragma once

#include <cstdint>

#include "kvring/chunk.hpp"
#include "kvring/kernels/attend_host.hpp"
#include "kvring/kernels/launch.hpp"

namespace kvring {

namespace detail {

/// Calls f in the order first, last, second, last but one ...: threads that get equal runs of calls
/// get equal work, though later blocks see more keys.
template <class F>
struct FromBothEnds {
  F f;
  std::int64_t count;
  void operator()(std::int64_t i) const { f(i % 2 == 0 ? i / 2 : count - 1 - i / 2); }
};

}  // namespace detail

/// out = attention of every row of a batch, whose keys and values have been appended.
/// `host_batch` and `batch` are the same, with segments in the memory of the host and of the back
/// end.
template <LayerPolicy Policy, std::int64_t Tile, class View>
void attend(const Host& backend, Policy, KeyTile<Tile>, View cache, Batch host_batch, Batch,
            const float* q, float* out, Scores score) {
  using Task = AttendHost<Policy, Tile, View>;
  const Task task{.cache = cache, .batch = host_batch, .q = q, .out = out, .score = score};
  const std::int64_t blocks = Task::blocks(host_batch);
  for_each(backend, blocks, detail::FromBothEnds<Task>{task, blocks});
}

}  // namespace kvring
