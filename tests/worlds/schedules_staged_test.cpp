// Every schedule in which chunks are appended in place or staged, as they fit; see
// schedules_test.cpp.
#include <doctest/doctest.h>

#include <cstdint>

#include "explorer.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr std::int64_t longest = 9;  // rows of a staged chunk

World world(std::int64_t window, std::int64_t slots, Leftovers leftovers) {
  return {window, slots, 2 * slots + longest, slots, leftovers, longest};
}

}  // namespace

TEST_CASE("every schedule of chunks in place and staged; a rewind leaves NaN behind") {
  Count sum;
  for (std::int64_t window = 1; window <= 8; ++window) {
    for (std::int64_t slots = window; slots <= 8; ++slots) {
      const World staged = world(window, slots, Leftovers::poisoned);
      expect_right(staged, explore_tiles<f32>(staged, slots), sum);
    }
  }
  print("staged, NaN", sum);
}

TEST_CASE("every schedule of chunks in place and staged; a rewind leaves old rows behind") {
  Count sum;
  for (std::int64_t window = 1; window <= 4; ++window) {
    for (std::int64_t slots = window; slots <= 4; ++slots) {
      const World staged = world(window, slots, Leftovers::kept);
      expect_right(staged, explore_tiles<f32>(staged, slots), sum);
    }
  }
  print("staged, old rows", sum);
}

TEST_CASE("a staged ring one slot short, built behind the checks' back, is caught") {
  for (std::int64_t window = 2; window <= 8; ++window) {
    for (std::int64_t slots = window; slots <= 9; ++slots) {
      CAPTURE(window);
      CAPTURE(slots);
      World staged = world(window, slots, Leftovers::poisoned);
      staged.built = slots - 1;
      const Count count = explore_ring<f32, 1>(staged);
      CHECK(count.wrong_values > 0);
      CHECK(count.wrong_bits > 0);
    }
  }
}
