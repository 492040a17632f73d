// Which segment a row belongs to, by looking at every row.
#include "kvring/kernels/batch.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

using namespace kvring;

namespace {

static_assert(std::is_trivially_copyable_v<Batch> && std::is_trivially_copyable_v<Segment>);

long wrong_rows(const std::vector<std::int64_t>& lengths, std::int64_t start) {
  std::vector<Segment> segments;
  std::int64_t rows = 0;
  for (const std::int64_t length : lengths) {
    segments.push_back({.sequence = static_cast<std::int64_t>(segments.size()) * 3 + 1,
                        .start = {start + 1'000 * static_cast<std::int64_t>(segments.size())},
                        .first_row = rows,
                        .rows = length});
    rows += length;
  }
  const Batch batch{segments.data(), static_cast<std::int64_t>(segments.size()), rows};

  long wrong = 0;
  std::int64_t row = 0;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    for (std::int64_t i = 0; i < lengths[s]; ++i, ++row) {
      const Segment& segment = batch.segment_of(row);
      wrong += &segment != &segments[s];
      wrong +=
          Batch::position(segment, row).value != start + 1'000 * static_cast<std::int64_t>(s) + i;
    }
  }
  return wrong + (row != rows);
}

TEST_CASE("segment_of finds the segment of each row, of every small batch") {
  for (std::int64_t a = 0; a <= 4; ++a) {
    for (std::int64_t b = 0; b <= 4; ++b) {
      for (std::int64_t c = 0; c <= 4; ++c) {
        for (std::int64_t d = 0; d <= 4; ++d) {
          REQUIRE(wrong_rows({a}, 0) == 0);
          REQUIRE(wrong_rows({a, b}, 5) == 0);
          REQUIRE(wrong_rows({a, b, c}, 0) == 0);
          REQUIRE(wrong_rows({a, b, c, d}, 7) == 0);
        }
      }
    }
  }
}

TEST_CASE("segment_of finds the segment of each row, of large ragged batches") {
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    std::vector<std::int64_t> lengths(1 + random() % 100);
    for (std::int64_t& length : lengths) length = random() % 8 == 0 ? 0 : random() % 40;
    REQUIRE(wrong_rows(lengths, std::int64_t{1} << (i % 40)) == 0);
  }
}

}  // namespace
