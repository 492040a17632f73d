// A test cache with a stage that begins as NaN, between guards of NaN, and is NaN again before each
// use.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "attention.hpp"
#include "kvring/kernels/launch.hpp"
#include "kvring/kernels/stage.hpp"
#include "kvring/stage_plan.hpp"

namespace kvring::test {

template <Heads H, Element T, std::int64_t Tile>
class TestStage {
 public:
  using Ring = TestCache<H, T>;
  using View = StagedView<typename Ring::View, Tile>;

  /// For batches of up to `rows` rows in `segments` segments.
  TestStage(std::int64_t rows, std::int64_t segments)
      : half_(stage_rows(rows, segments, Tile) * H.kv_dim()),
        memory_(static_cast<std::size_t>(2 * half_ + 3 * guard), Ring::not_a_number()) {}

  View view(Ring& ring, Batch fresh) {
    T* k = memory_.data() + guard;
    return {ring.view(), k, k + half_ + guard, fresh};
  }

  /// Results of the rows of the pieces, which are then in the ring.
  template <class Kernel, class Policy, class PromptType>
  std::vector<float> attend(Ring& ring, const std::vector<Piece<PromptType>>& pieces,
                            Scores scores) {
    std::fill(memory_.begin(), memory_.end(), Ring::not_a_number());
    const Launch launch(pieces);
    const View staged = view(ring, launch.batch());
    open_stage(Host{}, staged);
    append_rows(Host{}, staged, launch.batch(), launch.k.data(), launch.v.data());
    std::vector<float> out(launch.q.size());
    Kernel::template run<Policy, Tile>(staged, launch.batch(), launch.q.data(), out.data(), scores);
    commit_stage(Host{}, staged);
    return out;
  }

  bool guards_are_intact() const {
    const auto untouched = [&](std::int64_t begin) {
      return std::all_of(memory_.begin() + begin, memory_.begin() + begin + guard,
                         [](T x) { return to_f32(x) != to_f32(x); });
    };
    return untouched(0) && untouched(guard + half_) && untouched(2 * (guard + half_));
  }

 private:
  static constexpr std::int64_t guard = Ring::guard;
  std::int64_t half_;
  std::vector<T> memory_;
};

}  // namespace kvring::test
