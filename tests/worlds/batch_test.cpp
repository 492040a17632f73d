// A ragged batch: what a sequence computes does not depend on its neighbours. Every combination of
// three small lengths, starts and row counts in one launch, appended and staged, as bits, against
// each row alone.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "kvring/live_range.hpp"
#include "world.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr std::int64_t sequences = 3;

/// Three sequences in one cache. Sequence s has rows of version s, so that no two are alike.
template <class T>
struct Cache {
  explicit Cache(std::int64_t slots)
      : slots(slots),
        k(static_cast<std::size_t>(sequences * slots * heads.kv_dim()), nan()),
        v(k.size(), nan()) {}
  static T nan() { return from_f32<T>(std::numeric_limits<float>::quiet_NaN()); }

  auto view() { return CacheView<Ring<64>, heads, T>{k.data(), v.data(), slots}; }

  void append(const std::vector<Segment>& segments) { append(view(), segments); }

  /// To this cache, or to a stage beside it.
  template <class View>
  static void append(const View& to, const std::vector<Segment>& segments) {
    std::vector<KvRow> k_rows, v_rows;
    for (const Segment& segment : segments) {
      for (std::int64_t i = 0; i < segment.rows; ++i) {
        const std::int64_t p = segment.start.value + i;
        k_rows.push_back(row_of<KvRow>(Of::key, p, static_cast<int>(segment.sequence)));
        v_rows.push_back(row_of<KvRow>(Of::value, p, static_cast<int>(segment.sequence)));
      }
    }
    const std::int64_t rows = static_cast<std::int64_t>(k_rows.size());
    const Append<View> append{to,
                              {segments.data(), static_cast<std::int64_t>(segments.size()), rows},
                              k_rows.data()->data(),
                              v_rows.data()->data()};
    for (std::int64_t row = 0; row < rows; ++row) append(row);
  }

  std::int64_t slots;
  std::vector<T> k, v;
};

template <std::int64_t W, std::int64_t Tile, class T>
struct BatchWorld {
  using Policy = Swa<W>;
  using View = CacheView<Ring<64>, heads, T>;

  std::int64_t slots, chunk;
  long rows = 0, wrong = 0;
  Expected<AnyWindow, T, Tile> expected{};

  void run() {
    AnyWindow::chosen = W;
    std::array<std::int64_t, sequences> starts{};
    for (starts[0] = 0; starts[0] <= slots + 2; ++starts[0]) {
      for (starts[1] = 0; starts[1] <= slots + 2; ++starts[1]) {
        for (starts[2] = 0; starts[2] <= slots + 2; ++starts[2]) launch_all_counts(starts);
      }
    }
  }

 private:
  void launch_all_counts(const std::array<std::int64_t, sequences>& starts) {
    Cache<T> before(slots);
    for (std::int64_t s = 0; s < sequences; ++s) {
      for (std::int64_t p = 0; p < starts[s]; ++p) {
        before.append({Segment{.sequence = s, .start = {p}, .first_row = 0, .rows = 1}});
      }
    }
    std::array<std::int64_t, sequences> counts{};
    for (counts[0] = 1; counts[0] <= chunk; ++counts[0]) {
      for (counts[1] = 1; counts[1] <= chunk; ++counts[1]) {
        for (counts[2] = 0; counts[2] <= chunk; ++counts[2]) launch(before, starts, counts);
      }
    }
  }

  /// Sequences in the order 2, 0, 1; one without rows is left out.
  void launch(Cache<T> cache, const std::array<std::int64_t, sequences>& starts,
              const std::array<std::int64_t, sequences>& counts) {
    std::vector<Segment> segments;
    std::vector<QueryRow> q;
    for (const std::int64_t s : {2, 0, 1}) {
      if (counts[s] == 0) continue;
      segments.push_back({.sequence = s,
                          .start = {starts[s]},
                          .first_row = static_cast<std::int64_t>(q.size()),
                          .rows = counts[s]});
      for (std::int64_t i = 0; i < counts[s]; ++i) {
        q.push_back(row_of<QueryRow>(Of::query, starts[s] + i));
      }
    }
    const std::vector<T> untouched = cache.k;
    Cache<T> ring = cache;
    cache.append(segments);
    for (std::int64_t s = 0; s < sequences; ++s) {  // a sequence without rows keeps its bytes
      if (counts[s] != 0) continue;
      const auto begin = s * slots * heads.kv_dim(), end = begin + slots * heads.kv_dim();
      wrong += std::memcmp(&cache.k[begin], &untouched[begin], (end - begin) * sizeof(T)) != 0;
    }

    const Batch batch{segments.data(), static_cast<std::int64_t>(segments.size()),
                      static_cast<std::int64_t>(q.size())};
    attend(cache.view(), batch, q);

    using Staged = StagedView<View, Tile>;
    std::vector<T> k(
        static_cast<std::size_t>(stage_rows(batch.rows, batch.count, Tile) * heads.kv_dim()),
        Cache<T>::nan());
    std::vector<T> v = k;
    const Staged staged{ring.view(), k.data(), v.data(), batch};
    const OpenStage<Staged, CopyRow<Staged>> open{staged};
    for (std::int64_t i = 0; i < open.calls(); ++i) open(i);
    Cache<T>::append(staged, segments);
    attend(staged, batch, q);
    commit(staged);  // what was appended, in the same slots
    wrong += std::memcmp(ring.k.data(), cache.k.data(), ring.k.size() * sizeof(T)) != 0;
    wrong += std::memcmp(ring.v.data(), cache.v.data(), ring.v.size() * sizeof(T)) != 0;
  }

  template <class AnyView>
  void attend(const AnyView& view, const Batch& batch, const std::vector<QueryRow>& q) {
    std::vector<QueryRow> by_scalar(q.size()), by_host(q.size());
    const AttendScalar<Policy, Tile, AnyView> scalar{view, batch, q.data()->data(),
                                                     by_scalar.data()->data(), scores};
    for (std::int64_t i = 0; i < batch.rows * heads.q; ++i) scalar(i);
    using Host = AttendHost<Policy, Tile, AnyView>;
    const Host host{view, batch, q.data()->data(), by_host.data()->data(), scores};
    for (std::int64_t i = 0; i < Host::blocks(batch); ++i) host(i);

    for (const Segment& segment : std::span(batch.segments, batch.count)) {
      for (std::int64_t i = 0; i < segment.rows; ++i, ++rows) {
        const std::int64_t p = segment.start.value + i;
        const std::vector<int> versions(static_cast<std::size_t>(p + 1),
                                        static_cast<int>(segment.sequence));
        const auto& right = expected.of(W, p, versions);
        for (const auto* out : {&by_scalar, &by_host}) {
          const std::span<const float> row =
              (*out)[static_cast<std::size_t>(segment.first_row + i)];
          wrong +=
              static_cast<bool>(testing::differing_bits(row, std::span<const float>(right.bits)));
          wrong += static_cast<bool>(
              testing::beyond(tolerance, row, std::span<const double>(right.reference)));
        }
      }
    }
  }
};

template <std::int64_t W, std::int64_t Tile, class T>
long check_batches(std::int64_t slots, std::int64_t chunk) {
  BatchWorld<W, Tile, T> world{slots, chunk};
  world.run();
  CHECK(world.rows > 1'000);
  CHECK(world.wrong == 0);
  return world.rows;
}

}  // namespace

TEST_CASE("neighbours in a batch do not matter") {
  long rows = 0;
  rows += check_batches<3, 1, f32>(5, 3);
  rows += check_batches<3, 2, f32>(6, 4);
  rows += check_batches<1, 3, bf16>(3, 3);
  rows += check_batches<4, 4, f16>(8, 2);
  std::printf("worlds, batches: %ld rows compared\n", rows);
}
