// What a consumer writes first: a model as a type, and what its caches cost.
#include <cstdio>

#include "kvring/models/gemma3.hpp"
#include "kvring/plan.hpp"

struct Mine {
  using Heads = kvring::Heads;
  using Local = kvring::Layer<kvring::Swa<512>, Heads{.q = 8, .kv = 2, .dim = 64}>;
  using Global = kvring::Layer<kvring::Dense, Heads{.q = 8, .kv = 2, .dim = 64}>;
  using Layers = kvring::Hybrid<12, kvring::Repeat<5, Local>, Global>;
};

using Plan = kvring::Plan<Mine, kvring::bf16, kvring::Chunk<512>>;
static_assert(Plan::ring_slots<0>() == 1024);
static_assert(Plan::cache_bytes(32'768) < Plan::full_cache_bytes(32'768) / 4);

int main() {
  std::printf("kvring %d.%d.%d: %lld bytes\n", kvring::version.major, kvring::version.minor,
              kvring::version.patch, static_cast<long long>(Plan::cache_bytes(32'768)));
}
