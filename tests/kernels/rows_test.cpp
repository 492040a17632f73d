// Embedding, sums and copies of rows: each call its own row, each number exact.
#include "kvring/kernels/rows.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstdint>
#include <vector>

#include "kvring/kernels/embed.hpp"
#include "skip.hpp"

using namespace kvring;

namespace {

TEST_CASE("Embed scales the table's row of each id") {
  constexpr std::int64_t width = 5;
  std::vector<float> table;
  for (int id = 0; id < 7; ++id) {
    for (int i = 0; i < width; ++i) table.push_back(static_cast<float>(id * 10 + i));
  }
  const std::vector<std::int32_t> ids{6, 0, 3, 3, 1};
  std::vector<float> x(ids.size() * width, -1.0f);
  const Embed kernel{table.data(), ids.data(), x.data(), width, 0.5f};
  for (const std::int64_t row : {4, 0, 3, 2}) kernel(row);
  for (std::size_t row = 0; row < ids.size(); ++row) {
    for (std::size_t i = 0; i < width; ++i) {
      const float right = static_cast<float>(ids[row] * 10 + static_cast<int>(i)) * 0.5f;
      CHECK(x[row * width + i] == (row == 1 ? -1.0f : right));
    }
  }
}

TEST_CASE("Embed reaches rows past 2^31 values of the table") {
  constexpr std::int64_t width = 1 << 16, id = 40'000, values = (id + 1) * width;
  static_assert(id * width > std::int64_t{1} << 31);
  // Reserved, never touched but for one row.
  void* const memory = mmap(nullptr, values * sizeof(float), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return test::skip("a table of 10 GB", "no room to reserve it");
  float* const table = static_cast<float*>(memory);
  table[id * width + 5] = 42;
  const std::int32_t ids[] = {id};
  std::vector<float> x(width);
  Embed{table, ids, x.data(), width, 1.0f}(0);
  CHECK(x[5] == 42);
  munmap(memory, values * sizeof(float));
}

TEST_CASE("AddRows and CopyRows touch the row that they are called with") {
  constexpr std::int64_t width = 3, rows = 4;
  std::vector<float> x, y;
  for (int i = 0; i < rows * width; ++i) {
    x.push_back(static_cast<float>(i));
    y.push_back(static_cast<float>(100 * i));
  }
  std::vector<float> sum = y, copy = y;
  for (const std::int64_t row : {3, 1, 0}) {
    AddRows{x.data(), sum.data(), width}(row);
    CopyRows{x.data(), copy.data(), width}(row);
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool called = i / width != 2;
    CHECK(sum[i] == (called ? x[i] + y[i] : y[i]));
    CHECK(copy[i] == (called ? x[i] : y[i]));
  }
}

}  // namespace
