// Every schedule of up to six operations on two sequences: append of 1 to C rows, rewind of up to B
// positions (or to 0), snapshot, restore into either, fork to the other. W, C and B of 1 to 4: a
// ring and its legal operations depend on max(C, B) alone, so sixteen walks hold all 64 worlds.
// With staged chunks a ring depends on B alone, and what C = 4 allows includes what less does:
// sixteen walks again.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <utility>

#include "sequences.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

template <std::int64_t W, class ChunkType, std::int64_t B, class T, std::int64_t Tile = 1>
void walk(SequencesCount& sum) {
  const SequencesCount count = SequencesWalk<W, ChunkType, B, T, Tile>().run();
  CAPTURE(W);
  CAPTURE(ChunkType::rows);
  CAPTURE(B);
  CHECK(count.wrong_rows == 0);
  CHECK(count.wrong_verdicts == 0);
  CHECK(count.wrong_copies == 0);
  CHECK(count.broken_neighbours == 0);
  CHECK(count.rows > 0);
  sum += count;
}

void print(const char* name, const SequencesCount& sum) {
  std::printf(
      "worlds, sequences, %s: %.4g schedules of up to 6 operations; %ld sequences, %ld operations, "
      "%ld rows compared, %ld differences\n",
      name, sum.schedules, sum.sequences, sum.operations, sum.rows, sum.wrong());
}

template <std::int64_t W, std::int64_t... Minus1>
void walk_all(SequencesCount& sum, std::integer_sequence<std::int64_t, Minus1...>) {
  (walk<W, Chunk<Minus1 + 1>, Minus1 + 1, f32>(sum), ...);
}
template <std::int64_t W, std::int64_t... Minus1>
void walk_all_staged(SequencesCount& sum, std::integer_sequence<std::int64_t, Minus1...>) {
  (walk<W, StagedChunk<4>, Minus1 + 1, f32>(sum), ...);
}

}  // namespace

TEST_CASE("every schedule with snapshots, restores and forks") {
  SequencesCount sum;
  constexpr auto most = std::make_integer_sequence<std::int64_t, 4>{};
  walk_all<1>(sum, most);
  walk_all<2>(sum, most);
  walk_all<3>(sum, most);
  walk_all<4>(sum, most);
  print("f32", sum);
}

TEST_CASE("every schedule with snapshots, restores and forks, 16 bits and whole tiles") {
  SequencesCount f16_sum, bf16_sum;
  walk<3, Chunk<2>, 2, f16, 4>(f16_sum);
  walk<2, Chunk<3>, 3, bf16, 2>(bf16_sum);
  print("f16, tiles of 4", f16_sum);
  print("bf16, tiles of 2", bf16_sum);
}

TEST_CASE("every schedule with staged chunks, snapshots, restores and forks") {
  SequencesCount sum;
  constexpr auto rewinds = std::make_integer_sequence<std::int64_t, 4>{};
  walk_all_staged<1>(sum, rewinds);
  walk_all_staged<2>(sum, rewinds);
  walk_all_staged<3>(sum, rewinds);
  walk_all_staged<4>(sum, rewinds);
  print("staged, f32", sum);

  SequencesCount f16_sum, bf16_sum;
  walk<3, StagedChunk<4>, 2, f16, 4>(f16_sum);
  walk<4, StagedChunk<3>, 1, bf16, 2>(bf16_sum);
  print("staged, f16, tiles of 4", f16_sum);
  print("staged, bf16, tiles of 2", bf16_sum);
}
