// Attention, random cases of narrow heads.
#include "sweep.hpp"

using namespace kvring;
using namespace kvring::test;

TEST_CASE("attention sweep, heads of 1 to 33 values") {
  Tally tally;
  sweep<AnyWindow, 1, Heads{.q = 1, .kv = 1, .dim = 1}, f32>(1, tally);
  sweep<AnyWindow, 1, Heads{.q = 3, .kv = 3, .dim = 5}, bf16>(2, tally);
  sweep<AnyWindow, 16, Heads{.q = 5, .kv = 1, .dim = 2}, f16>(3, tally);
  sweep<AnyWindow, 16, Heads{.q = 6, .kv = 2, .dim = 16}, f32>(4, tally);
  sweep<AnyWindow, 64, Heads{.q = 7, .kv = 1, .dim = 3}, bf16>(5, tally);
  sweep<AnyWindow, 64, Heads{.q = 4, .kv = 4, .dim = 20}, f16>(6, tally);
  sweep<AnyWindow, 16, Heads{.q = 16, .kv = 1, .dim = 33}, f32>(7, tally);
  sweep<AnyWindow, 1, Heads{.q = 12, .kv = 4, .dim = 8}, f16>(8, tally);
  sweep<AnyWindow, 24, Heads{.q = 2, .kv = 1, .dim = 10}, f32>(9, tally);
  require_bite(tally);
}
