// The schedule of a prompt: spans side by side, all whole but the last.
#include "kvring/chunk.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <vector>

using namespace kvring;

namespace {

static_assert(Chunk<4096>::rows == 4096 && Rewind<0>::rows == 0 && KeyTile<64>::keys == 64);
static_assert(Span{{700}, 4096}.end() == Position{4796});

/// Walks the positions one by one: each is in exactly one span, in order, and only the last span is
/// short.
constexpr bool covers(std::int64_t start, std::int64_t rows, std::int64_t chunk) {
  const ChunkSchedule schedule({start}, rows, chunk);
  std::int64_t next = start, spans = 0;
  for (const Span span : schedule) {
    if (spans >= schedule.size() || !(schedule[spans] == span)) return false;
    if (span.start.value != next || span.rows < 1 || span.rows > chunk) return false;
    const bool last = spans == schedule.size() - 1;
    if (!last && span.rows != chunk) return false;
    next += span.rows;
    ++spans;
  }
  return spans == schedule.size() && next == start + rows;
}

constexpr bool covers_all(std::int64_t most_rows, std::int64_t most_chunk) {
  for (const std::int64_t start : {std::int64_t{0}, std::int64_t{1}, std::int64_t{700},
                                   (std::int64_t{1} << 31) - 2, std::int64_t{1} << 40}) {
    for (std::int64_t rows = 0; rows <= most_rows; ++rows) {
      for (std::int64_t chunk = 1; chunk <= most_chunk; ++chunk) {
        if (!covers(start, rows, chunk)) return false;
      }
    }
  }
  return true;
}
static_assert(covers_all(9, 10));

std::vector<std::int64_t> rows_of(std::int64_t prompt, std::int64_t chunk) {
  std::vector<std::int64_t> rows;
  for (const Span span : ChunkSchedule({0}, prompt, chunk)) rows.push_back(span.rows);
  return rows;
}

}  // namespace

TEST_CASE("a schedule covers each position once, in order") { CHECK(covers_all(80, 90)); }

TEST_CASE("the lengths that once went wrong, in chunks of 4,096") {
  using Rows = std::vector<std::int64_t>;
  CHECK(rows_of(700, 4096) == Rows{700});
  CHECK(rows_of(4'096, 4096) == Rows{4'096});
  CHECK(rows_of(4'097, 4096) == Rows{4'096, 1});
  CHECK(rows_of(4'296, 4096) == Rows{4'096, 200});
  CHECK(rows_of(5'040, 4096) == Rows{4'096, 944});
  CHECK(rows_of(8'192, 4096) == Rows{4'096, 4'096});
  CHECK(rows_of(8'292, 4096) == Rows{4'096, 4'096, 100});
}

TEST_CASE("an empty prompt has no chunk") {
  const ChunkSchedule none({5}, 0, 3);
  CHECK(none.size() == 0);
  CHECK(none.begin() == none.end());
}
