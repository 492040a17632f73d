// expect: kvring: the kernel's tile of keys does not divide the plan's: a tile would lie partly in
// the ring and partly in the stage also: StageIsWholeTiles also: 64 also: 96
#include "kvring/kernels/staged_view.hpp"

using namespace kvring;

constexpr Heads heads{.q = 4, .kv = 1, .dim = 64};
#ifdef KVRING_FIXED
using View = StagedView<CacheView<Ring<576>, heads, bf16>, 192>;
#else
using View = StagedView<CacheView<Ring<576>, heads, bf16>, 64>;
#endif
auto segment_of(View view) { return view.of_segment<96>(0); }
