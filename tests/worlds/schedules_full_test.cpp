// Every schedule on full storage; see schedules_test.cpp.
#include <doctest/doctest.h>

#include <cstdint>

#include "explorer.hpp"

using namespace kvring;
using namespace kvring::test;

TEST_CASE("every schedule on full storage, dense and windowed") {
  Count sum;
  const World dense{unbounded, 20, 20, 20, Leftovers::poisoned};
  expect_right(dense, Explorer<Dense, Full, f32, 1>(dense).run(), sum);
  expect_right(dense, Explorer<Dense, Full, f32, 4>(dense).run(), sum);
  expect_right(dense, Explorer<Dense, Full, bf16, 8>(dense).run(), sum);
  for (std::int64_t window = 1; window <= 8; ++window) {
    const World windowed{window, 20, 20, 20, Leftovers::poisoned};
    expect_right(windowed, Explorer<AnyWindow, Full, f32, 4>(windowed).run(), sum);
  }
  print("full", sum);
}
