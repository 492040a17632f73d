// Every schedule of append, attend and rewind on small rings, by the kernels themselves. A state is
// the live range and the bytes of the cache, and nothing else can reach a kernel; so every
// operation from every state that can be reached covers every schedule, of any length, up to the
// context. Each row is compared with the double-precision reference and, as bits, with a full cache
// that got its rows one at a time. All operations that the live range allows are tried, so the
// schedules of every smaller chunk and rewind are among them.
#include <doctest/doctest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "explorer.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

}  // namespace

TEST_CASE("every schedule; a rewind leaves old rows behind") {
  Count sum;
  for (std::int64_t window = 1; window <= 8; ++window) {
    for (std::int64_t slots = 1; slots <= 6; ++slots) {
      const World world{window, slots, 2 * slots + 2, slots};
      expect_right(world, explore_tiles<f32>(world, slots), sum);
    }
    if (sanitized) continue;  // the last two take three quarters of the time
    const World seven{window, 7, 16, 7}, eight{window, 8, 18, 8};
    expect_right(seven, explore_ring<f32, 1>(seven), sum);
    expect_right(eight, explore_ring<f32, 8>(eight), sum);
  }
  print("old rows", sum);
}

TEST_CASE("every schedule; a rewind leaves NaN behind") {
  Count sum;
  for (std::int64_t window = 1; window <= 8; ++window) {
    for (std::int64_t slots = 1; slots <= 8; ++slots) {
      const World world{window, slots, 3 * slots + 3, slots, Leftovers::poisoned};
      expect_right(world, explore_tiles<f32>(world, slots), sum);
    }
  }
  print("NaN", sum);
}

TEST_CASE("every schedule on the ring that is deduced for the longest windows and chunks") {
  Count sum;
  const World longest{8, 16, 36, 16, Leftovers::poisoned};  // W - 1 + max(C, B) = 15, whole tiles
  expect_right(longest, explore_ring<f32, 8>(longest), sum);
  expect_right(longest, explore_ring<f32, 1>(longest), sum);
  const World odd{5, 12, 30, 12, Leftovers::poisoned};
  expect_right(odd, explore_ring<f32, 4>(odd), sum);
  expect_right(odd, explore_ring<f32, 3>(odd), sum);
  print("deduced", sum);
}

TEST_CASE("every schedule on a ring cut to a context shorter than it") {
  Count sum;
  for (std::int64_t window = 1; window <= 8; ++window) {
    for (std::int64_t context = 1; context <= 7; ++context) {
      const World world{window, context, context, context, Leftovers::poisoned};
      expect_right(world, explore_tiles<f32>(world, 24), sum);
    }
  }
  print("cut", sum);
}

TEST_CASE("a ring one slot short, built behind the checks' back, is caught") {
  for (std::int64_t window = 1; window <= 8; ++window) {
    for (std::int64_t slots = 2; slots <= 9; ++slots) {
      CAPTURE(window);
      CAPTURE(slots);
      const World world{window, slots, 3 * slots + 3, slots - 1, Leftovers::poisoned};
      const Count count = explore_ring<f32, 1>(world);
      CHECK(count.wrong_values > 0);
      CHECK(count.wrong_bits > 0);
    }
  }
}

TEST_CASE("a tile across the wrap, built behind the checks' back, is caught") {
  for (std::int64_t slots = 1; slots <= 9; ++slots) {
    CAPTURE(slots);
    const World world{3, slots, 3 * slots + 3, slots, Leftovers::poisoned};
    if (slots < 3) continue;  // shorter than the window
    CHECK(explore_ring<f32, 2>(world).all_right() == (slots % 2 == 0));
    CHECK(explore_ring<f32, 3>(world).all_right() == (slots % 3 == 0));
    CHECK(explore_ring<f32, 4>(world).all_right() == (slots % 4 == 0));
    CHECK(explore_ring<f32, 8>(world).all_right() == (slots % 8 == 0));
  }
}

TEST_CASE("a key too many or too few is far beyond the tolerance") {
  testing::Reference reference;
  for (std::int64_t p = 0; p < 64; ++p) {
    reference.append(p, row_of<KvRow>(Of::key, p), row_of<KvRow>(Of::value, p));
  }
  for (std::int64_t p = 16; p < 64; ++p) {
    const QueryRow query = row_of<QueryRow>(Of::query, p);
    const auto with_window = [&](std::int64_t window) {
      return reference.attend(query, p,
                              {.q_heads = heads.q,
                               .kv_heads = heads.kv,
                               .head_dim = heads.dim,
                               .window = window,
                               .scale = scores.scale});
    };
    for (std::int64_t window = 1; window <= 8; ++window) {
      const std::vector<double> right = with_window(window), wrong = with_window(window + 1);
      const auto difference =
          testing::beyond(0, std::span<const double>(right), std::span<const double>(wrong));
      CHECK(difference.largest > 1e-3);
    }
  }
}
