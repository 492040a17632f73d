// A model of your own as a type: its layers, its plan, and what it takes, before anything exists.
#include <fmt/core.h>

#include "kvring/plan.hpp"
#include "kvring/report.hpp"

using namespace kvring;

// Numbers are data. `name` is for the table; add what your engine wants to know of a kind.
struct Local : Layer<Swa<512>, Heads{.q = 8, .kv = 2, .dim = 256}> {
  static constexpr const char* name = "local";
};
struct Global : Layer<Dense, Heads{.q = 8, .kv = 2, .dim = 512}> {
  static constexpr const char* name = "global";
};

struct MyModel {
  static constexpr const char* name = "MyModel";
  using Layers = Hybrid<42, Repeat<5, Local>, Global>;  // 5 : 1, seven times
  using Sharing = SharedKv<18>;  // the last 18 layers read the last own cache of their kind
};

// Prompts come in chunks of up to 4,096 rows; up to 64 positions may be taken back.
using MyPlan = Plan<MyModel, bf16, Chunk<4096>, Rewind<64>>;

// What you rely on, as assertions: 512 - 1 + 4096 slots, rounded up to tiles of 64 keys.
static_assert(MyPlan::ring_slots<0>() == 4608);
static_assert(MyPlan::owns_cache(23) && !MyPlan::owns_cache(24));
static_assert(MyPlan::donor_of[24] == 22 && MyPlan::donor_of[29] == 23);
static_assert(MyPlan::cache_bytes(131'072) < 3'000'000'000);

int main() {
  fmt::print("{}\n", memory_table(memory_report<MyPlan>(131'072)));
  fmt::print("{} positions fit into 1 GiB\n", grouped(MyPlan::max_context(1 << 30)));
}
