// Every schedule again, in caches of 16-bit elements; see schedules_test.cpp.
#include <doctest/doctest.h>

#include <cstdint>

#include "explorer.hpp"

using namespace kvring;
using namespace kvring::test;

TEST_CASE_TEMPLATE("every schedule; a rewind leaves NaN behind, in 16 bits", T, f16, bf16) {
  Count sum;
  for (std::int64_t window = 1; window <= 8; ++window) {
    for (std::int64_t slots = 1; slots <= 8; ++slots) {
      const World world{window, slots, 3 * slots + 3, slots, Leftovers::poisoned};
      expect_right(world, explore_tiles<T>(world, slots), sum);
    }
  }
  print(element_name<T>, sum);
}
