// Attention, random cases of wide heads.
#include "sweep.hpp"

using namespace kvring;
using namespace kvring::test;

TEST_CASE("attention sweep, heads of 96 to 160 values") {
  Tally tally;
  sweep<Swa<100>, 64, Heads{.q = 4, .kv = 1, .dim = 128}, bf16>(21, tally);
  sweep<AnyWindow, 64, Heads{.q = 4, .kv = 1, .dim = 128}, f32>(22, tally);
  sweep<AnyWindow, 16, Heads{.q = 6, .kv = 1, .dim = 96}, f16>(23, tally);
  sweep<AnyWindow, 64, Heads{.q = 15, .kv = 1, .dim = 100}, f32>(24, tally);
  sweep<Dense, 64, Heads{.q = 2, .kv = 2, .dim = 160}, bf16>(25, tally);
  sweep<AnyWindow, 16, Heads{.q = 16, .kv = 2, .dim = 160}, f16>(26, tally);
  sweep<AnyWindow, 1, Heads{.q = 3, .kv = 1, .dim = 129}, bf16>(27, tally);
  sweep<Swa<300>, 64, Heads{.q = 4, .kv = 4, .dim = 136}, f32>(28, tally);
  require_bite(tally);
}
