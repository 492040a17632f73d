// A ring alone: where positions go, which of them are live, and what is refused. No model, no GPU.
#include <cstdio>

#include "kvring/error.hpp"
#include "kvring/layer.hpp"
#include "kvring/live_range.hpp"

using namespace kvring;

// A query sees 4 keys, itself included; up to 5 rows are appended before the first of them attends.
using Sliding = Layer<Swa<4>, Heads{.q = 4, .kv = 1, .dim = 256}>;
using Placed = Placement<Sliding, Chunk<5>, Rewind<2>, KeyTile<4>>;
using Slots = Placed::Storage;

// 4 - 1 + max(5, 2) = 8 slots are enough: deduced, and proved before the program runs.
static_assert(Slots::slots == 8);

void show(const LiveRange& range) {
  std::printf("%2lld positions, live from %lld: ", static_cast<long long>(range.length()),
              static_cast<long long>(range.oldest_live().value));
  for (Position p = range.oldest_live(); p.value < range.length(); p = p + 1) {
    std::printf(" %lld@%lld", static_cast<long long>(p.value),
                static_cast<long long>(Slots::slot(p, range.slots()).value));
  }
  std::printf("\n");
}

int main() {
  LiveRange range(Slots::slots, Sliding::Policy::window, 100);  // room for 100 positions
  for (int chunk = 0; chunk < 3; ++chunk) {
    range.append(5);
    show(range);  // position@slot
  }
  try {
    range.append(6);
  } catch (const Error& error) {
    std::printf("refused: %s\n", error.what());
  }
  range.rewind_to({13});
  show(range);
  try {
    range.rewind_to({9});
  } catch (const Error& error) {
    std::printf("refused: %s\n", error.what());
  }
}
