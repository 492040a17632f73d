// The numbers of the pictures in docs/, as JSON, by the library itself. draw.py builds and runs
// this.
#include <cstdio>
#include <vector>

#include "kvring/chunk.hpp"
#include "kvring/kernels/tiles.hpp"
#include "kvring/layer.hpp"
#include "kvring/live_range.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/plan.hpp"
#include "kvring/stage_plan.hpp"

using namespace kvring;

namespace {

// The ring of docs/ring.md.
constexpr std::int64_t chunk = 5, rewind_depth = 2, tile = 4;
using Window = Swa<4>;
using Kind = Layer<Window, Heads{.q = 1, .kv = 1, .dim = 1}>;
using Placed = Placement<Kind, Chunk<chunk>, Rewind<rewind_depth>, KeyTile<tile>>;

/// Which position each slot holds after each of three chunks; -1: none.
template <class Storage>
void print_slots(const char* name, std::int64_t slots) {
  std::vector<std::int64_t> holds(static_cast<std::size_t>(slots), -1);
  std::printf("  \"%s\": [", name);
  for (std::int64_t start = 0; start < 3 * chunk; start += chunk) {
    for (std::int64_t p = start; p < start + chunk; ++p) {
      holds[static_cast<std::size_t>(Storage::slot({p}, slots).value)] = p;
    }
    std::printf("%s\n    [", start == 0 ? "" : ",");
    for (std::size_t i = 0; i < holds.size(); ++i) {
      std::printf("%s%lld", i == 0 ? "" : ", ", static_cast<long long>(holds[i]));
    }
    std::printf("]");
  }
  std::printf("],\n");
}

void print_ring() {
  LiveRange live(Placed::Storage::slots, Window::window, 1'000);
  for (int i = 0; i < 3; ++i) live.append(chunk);
  const Position first{2 * chunk}, last{3 * chunk - 1};
  print_slots<Placed::Storage>("ring", Placed::Storage::slots);
  print_slots<Ring<1>>("short", Placed::Storage::slots - 1);
  std::printf("  \"window\": %lld, \"chunk\": %lld, \"rewind\": %lld, \"tile\": %lld,\n",
              static_cast<long long>(Window::window), static_cast<long long>(chunk),
              static_cast<long long>(rewind_depth), static_cast<long long>(tile));
  std::printf("  \"live\": [%lld, %lld],\n", static_cast<long long>(live.oldest_live().value),
              static_cast<long long>(live.length() - 1));
  std::printf("  \"queries\": [[%lld, %lld], [%lld, %lld]],\n", static_cast<long long>(first.value),
              static_cast<long long>(visible_keys<Window>(first).begin.value),
              static_cast<long long>(last.value),
              static_cast<long long>(visible_keys<Window>(last).begin.value));
}

// Gemma 3 4B as published, in bf16.
using Headroom = Plan<models::Gemma3_4B, bf16, Chunk<4096>, Rewind<64>>;
using Staged = Plan<models::Gemma3_4B, bf16, StagedChunk<4096>, Rewind<64>>;

void print_memory(const char* name, std::int64_t longest, std::int64_t sequences, const char* end) {
  std::printf("  \"%s\": {\"sequences\": %lld, \"points\": [", name,
              static_cast<long long>(sequences));
  constexpr int steps = 64;
  for (int i = 1; i <= steps; ++i) {
    const std::int64_t context = longest / steps * i;
    const std::int64_t staged = Staged::cache_bytes(context, sequences) +
                                StagePlan<Staged>::bytes(context, sequences, Staged::chunk);
    std::printf("%s\n    [%lld, %lld, %lld, %lld]", i == 1 ? "" : ",",
                static_cast<long long>(context),
                static_cast<long long>(Headroom::full_cache_bytes(context, sequences)),
                static_cast<long long>(Headroom::cache_bytes(context, sequences)),
                static_cast<long long>(staged));
  }
  std::printf("]}%s\n", end);
}

}  // namespace

int main() {
  std::printf("{\n");
  print_ring();
  std::printf("  \"headroom_slots\": %lld, \"staged_slots\": %lld,\n",
              static_cast<long long>(Headroom::ring_slots<0>()),
              static_cast<long long>(Staged::ring_slots<0>()));
  print_memory("one", 131'072, 1, ",");
  print_memory("many", 32'768, 16, "");
  std::printf("}\n");
}
