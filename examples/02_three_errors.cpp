// Three errors that the compiler makes for you. Each would run, and answer wrongly, in a cache
// whose sizes are only numbers. Compile with -DKVRING_SHOW_ERROR=1, 2 or 3 to see one.
#include <cstdio>

#include "kvring/plan.hpp"

using namespace kvring;

constexpr Heads heads{.q = 8, .kv = 2, .dim = 256};

#if KVRING_SHOW_ERROR == 1
// Full attention on a ring forgets keys that it must see.
using Global = Layer<Dense, heads, Ring<4608>>;
#else
using Global = Layer<Dense, heads>;
#endif

#if KVRING_SHOW_ERROR == 2
// 512 - 1 + 4096 slots are needed. A tile less, and the last rows of a chunk overwrite keys that
// its first row must see.
using Local = Layer<Swa<512>, heads, Ring<4544>>;
#else
using Local = Layer<Swa<512>, heads, Ring<4608>>;
#endif

struct Model {
#if KVRING_SHOW_ERROR == 3
  // 42 layers written down for 40: which two are missing?
  using Layers = Hybrid<40, Repeat<5, Local>, Global>;
#else
  using Layers = Hybrid<42, Repeat<5, Local>, Global>;
#endif
};

using Checked = Plan<Model, bf16, Chunk<4096>, Rewind<64>>;

int main() {
  std::printf("proved: %lld layers, rings of %lld slots, %lld bytes for 131072 positions\n",
              static_cast<long long>(Checked::layers),
              static_cast<long long>(Checked::ring_slots<0>()),
              static_cast<long long>(Checked::cache_bytes(131'072)));
}
