// Attention inside an engine of your own: your memory, your pointers, your loop over layers. kvring
// brings the ring, the append and the attention; nothing of its decoder is used.
#include <cmath>
#include <cstdio>
#include <vector>

#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend.hpp"
#include "kvring/layer.hpp"
#include "kvring/live_range.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 2, .dim = 64};
using Sliding = Layer<Swa<100>, heads>;
using Placed = Placement<Sliding, Chunk<150>, Rewind<0>, KeyTile<64>>;
using View = CacheView<Placed::Storage, heads, bf16>;
constexpr std::int64_t slots = Placed::capacity(10'000);  // 256: as long as 10,000 positions need

int main() {
  // Stands for memory that your engine owns. One sequence; rows as your projections leave them.
  std::vector<bf16> k_cache(slots * heads.kv_dim()), v_cache(slots * heads.kv_dim());
  std::vector<float> q(150 * heads.q_dim()), out(150 * heads.q_dim());  // [rows, 4, 64]
  std::vector<float> k(150 * heads.kv_dim()), v(150 * heads.kv_dim());  // [rows, 2, 64]
  const View cache{.k = k_cache.data(), .v = v_cache.data(), .slots = slots};
  LiveRange live(slots, Sliding::Policy::window, 10'000);

  for (const std::int64_t rows : {150, 150, 1, 150, 1}) {  // prompts and single tokens
    const Position start{live.length()};
    live.append(rows);  // refuses, with numbers, what the ring cannot hold
    const Segment segment{.sequence = 0, .start = start, .first_row = 0, .rows = rows};
    const Batch batch{.segments = &segment, .count = 1, .rows = rows};
    for (std::int64_t row = 0; row < rows; ++row) {  // V says which position it is of
      for (int i = 0; i < heads.kv_dim(); ++i) {
        v[row * heads.kv_dim() + i] = static_cast<float>((start + row).value);
      }
    }
    for_each(Host{}, rows,
             Append<View>{.cache = cache, .batch = batch, .k = k.data(), .v = v.data()});
    attend(Host{}, Sliding::Policy{}, KeyTile<64>{}, cache, batch, batch, q.data(), out.data(),
           Scores{.scale = 1 / std::sqrt(64.0f)});

    // All scores are equal here, so the result is the mean of the positions in the window.
    std::printf("position %3lld: attends to a mean position of %.2f\n",
                static_cast<long long>(live.length() - 1),
                static_cast<double>(out[(rows - 1) * heads.q_dim()]));
  }
}
