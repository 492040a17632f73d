// Attention, random cases of heads of middling width.
#include "sweep.hpp"

using namespace kvring;
using namespace kvring::test;

TEST_CASE("attention sweep, heads of 40 to 80 values") {
  Tally tally;
  sweep<AnyWindow, 16, Heads{.q = 11, .kv = 1, .dim = 48}, bf16>(11, tally);
  sweep<AnyWindow, 64, Heads{.q = 8, .kv = 2, .dim = 64}, bf16>(12, tally);
  sweep<Dense, 64, Heads{.q = 13, .kv = 1, .dim = 64}, f32>(13, tally);
  sweep<Dense, 16, Heads{.q = 9, .kv = 3, .dim = 40}, f16>(14, tally);
  sweep<Dense, 1, Heads{.q = 2, .kv = 1, .dim = 72}, f32>(15, tally);
  sweep<AnyWindow, 64, Heads{.q = 10, .kv = 2, .dim = 80}, f16>(16, tally);
  sweep<Swa<128>, 16, Heads{.q = 4, .kv = 1, .dim = 65}, bf16>(17, tally);
  sweep<AnyWindow, 64, Heads{.q = 14, .kv = 2, .dim = 63}, f32>(18, tally);
  require_bite(tally);
}
