// LiveRange: its arithmetic against a recount of what was written, and every refusal's numbers.
// The exhaustive proof, every schedule of small worlds, is in tests/worlds.
#include "kvring/live_range.hpp"
#include "refusal.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>

using namespace kvring;
using kvring::test::refusal;

namespace {

constexpr std::int64_t far_away = std::int64_t{1} << 40;

LiveRange after(LiveRange range, std::int64_t rows, std::int64_t at_once = 1) {
  while (range.length() < rows) range.append(smaller(at_once, rows - range.length()));
  return range;
}

bool same_state(const LiveRange& a, const LiveRange& b) {
  return a.length() == b.length() && a.written() == b.written() && a.slots() == b.slots() &&
         a.appendable() == b.appendable() && a.rewind_floor() == b.rewind_floor() &&
         a.oldest_live() == b.oldest_live();
}

// It runs in constant expressions. The seed's E4B ring: 4,608 slots, window 512.
constexpr bool seed_ring_is_right() {
  LiveRange range(4608, 512, 131'072);
  if (range.appendable() != 4608) return false;  // nothing before to keep
  range.append(4096);
  if (range.appendable() != 4097) return false;  // headroom: 4608 - 511
  range.append(4096);
  if (range.oldest_live() != Position{3584}) return false;
  if (range.rewind_floor() != Position{4095}) return false;  // 8192 - 4097
  range.rewind_to({4095});
  return range.written() == 8192 && range.length() == 4095 && range.appendable() == 4097 &&
         !range.may_rewind_to({4094}) && range.may_rewind_to({0});
}
static_assert(seed_ring_is_right());

// Undoing single steps cannot creep past the floor: the high-water mark stays.
constexpr bool rewinds_do_not_add_up() {
  LiveRange range(10, 4, 1000);  // headroom 7
  for (int i = 0; i < 50; ++i) range.append(1);
  for (std::int64_t back = 1; back <= 7; ++back) range.rewind_to({50 - back});
  return !range.may_rewind_to({42}) && range.written() == 50;
}
static_assert(rewinds_do_not_add_up());

// To start again frees everything.
constexpr bool starts_again() {
  LiveRange range(10, 4, 1000);
  for (int i = 0; i < 50; ++i) range.append(1);
  range.rewind_to({0});
  return range.length() == 0 && range.written() == 0 && range.appendable() == 10;
}
static_assert(starts_again());

}  // namespace

TEST_CASE("live is what the last `slots` writes left") {
  for (std::int64_t slots = 1; slots <= 9; ++slots) {
    LiveRange range(slots, 1, far_away);
    for (std::int64_t length = 0; length <= 4 * slots; ++length) {
      for (std::int64_t p = -1; p <= length + 1; ++p) {
        CHECK(range.is_live({p}) == (p >= 0 && p < length && p >= length - slots));
      }
      range.append(1);
    }
  }
}

TEST_CASE("a full cache takes what the context holds, in any pieces, and gives back any of it") {
  LiveRange range(100, unbounded, 100);
  CHECK(range.appendable() == 100);
  range.append(60);
  CHECK(range.appendable() == 40);
  CHECK_FALSE(range.may_append(41));
  range.append(40);
  CHECK(range.appendable() == 0);
  CHECK(range.may_append(0));
  CHECK(range.rewind_floor() == Position{0});
  range.rewind_to({1});
  CHECK(range.appendable() == 99);
  CHECK(range.oldest_live() == Position{0});
}

TEST_CASE("a ring cut to a short context is a full cache") {
  LiveRange range(20, 4, 20);
  range.append(20);
  CHECK(range.rewind_floor() == Position{0});
  for (std::int64_t p = 20; p >= 1; --p) CHECK(range.may_rewind_to({p}));
  CHECK_FALSE(range.may_append(1));
}

TEST_CASE("headroom is the longest chunk and the deepest rewind") {
  for (std::int64_t window = 1; window <= 9; ++window) {
    for (std::int64_t slots = window; slots <= 20; ++slots) {
      const std::int64_t headroom = slots - (window - 1);
      const LiveRange range = after(LiveRange(slots, window, far_away), 60);
      CHECK(range.appendable() == headroom);
      CHECK(range.rewind_floor() == Position{60 - headroom});
      CHECK(range.may_append(headroom));
      CHECK_FALSE(range.may_append(headroom + 1));
      CHECK(range.may_rewind_to({60 - headroom}));
      CHECK_FALSE(range.may_rewind_to({60 - headroom - 1}));
    }
  }
}

TEST_CASE("a ring shorter than its window takes its own length and then nothing") {
  for (std::int64_t window = 2; window <= 9; ++window) {
    for (std::int64_t slots = 1; slots < window; ++slots) {
      const LiveRange range = after(LiveRange(slots, window, far_away), slots);
      CHECK(range.appendable() == 0);
      CHECK(range.may_append(0));
      CHECK_FALSE(range.may_append(1));
    }
  }
}

TEST_CASE("positions beyond 2^31") {
  LiveRange range(4608, 512, far_away);
  const std::int64_t edge = (std::int64_t{1} << 31) + 5;
  range = after(range, edge, 4097);
  CHECK(range.appendable() == 4097);
  CHECK(range.oldest_live() == Position{edge - 4608});
  CHECK(range.rewind_floor() == Position{edge - 4097});
}

TEST_CASE("a refused operation says its numbers and changes nothing") {
  LiveRange ring = after(LiveRange(10, 4, 200), 53);  // headroom 7
  const LiveRange before = ring;

  CHECK(refusal([&] { ring.append(8); }) ==
        "kvring: cannot append 8 rows at position 53 to a ring of 10 slots: row 53 must see "
        "position 50, which position 60 would overwrite; append at most 7 rows at once");
  CHECK(same_state(ring, before));
  CHECK(refusal([&] { ring.append(148); }) ==
        "kvring: cannot append 148 rows at position 53: the context holds 200 positions; start "
        "again, or plan for a longer context");
  CHECK(same_state(ring, before));
  CHECK(refusal([&] { ring.append(-1); }) == "kvring: cannot append -1 rows");
  CHECK(same_state(ring, before));

  CHECK(refusal([&] { ring.rewind_to({45}); }) ==
        "kvring: cannot rewind to position 45: it must see position 42, but a ring of 10 slots "
        "that was written up to position 52 holds nothing before 43; rewind to 46 or later, or to "
        "0");
  CHECK(same_state(ring, before));
  CHECK(refusal([&] { ring.rewind_to({54}); }) ==
        "kvring: cannot rewind to position 54: the sequence holds 53 positions");
  CHECK(refusal([&] { ring.rewind_to({-1}); }) ==
        "kvring: cannot rewind to position -1: the sequence holds 53 positions");
  CHECK(same_state(ring, before));

  CHECK(refusal([&] { ring.append(7); }).empty());
  CHECK(refusal([&] { ring.rewind_to({53}); }).empty());
  CHECK(ring.written() == 60);
  CHECK(refusal([&] { ring.rewind_to({52}); }) ==
        "kvring: cannot rewind to position 52: it must see position 49, but a ring of 10 slots "
        "that was written up to position 59 holds nothing before 50; rewind to 53 or later, or to "
        "0");
}

TEST_CASE("counts near 2^63 are refused, not wrapped") {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  LiveRange range = after(LiveRange(10, 4, 200), 53);
  for (std::int64_t less = 0; less < 60; ++less) {
    CHECK_FALSE(range.may_append(most - less));
    CHECK(refusal([&] { range.append(most - less); }).find("200 positions") != std::string::npos);
    CHECK_FALSE(range.may_rewind_to({most - less}));
  }
  CHECK_FALSE(range.may_append(std::numeric_limits<std::int64_t>::min()));
  CHECK_FALSE(range.may_rewind_to({std::numeric_limits<std::int64_t>::min()}));
}

TEST_CASE("a sequence resumes where another one stood, and only where one can stand") {
  // 8 slots, a window of 4, a context of 20: after 13 positions the floor is 13 - 8 + 3 = 8.
  const LiveRange empty(8, 4, 20);
  const LiveRange saved = after(empty, 13, 5);
  LiveRange resumed = empty;
  resumed.resume(13, 13);
  CHECK(same_state(resumed, saved));
  for (std::int64_t written = 0; written <= 22; ++written) {
    for (std::int64_t length = -1; length <= written + 1; ++length) {
      CAPTURE(written);
      CAPTURE(length);
      bool reached = length == 0 && written == 0;
      if (length > 0 && length <= written && written <= 20) {
        const LiveRange there = after(empty, written);
        reached = length >= there.rewind_floor().value;
      }
      CHECK(empty.may_resume(length, written) == reached);
      LiveRange range = after(empty, 3);
      const std::string words = refusal([&] { range.resume(length, written); });
      CHECK(words.empty() == reached);
      if (!reached) CHECK(same_state(range, after(empty, 3)));
    }
  }
  CHECK(refusal([&] { resumed.resume(21, 21); }) ==
        "kvring: cannot resume a sequence that was written up to position 20: the context holds 20 "
        "positions; plan for 21 or more");
  CHECK(
      refusal([&] { resumed.resume(7, 13); }) ==
      "kvring: cannot resume a sequence of 7 positions, written up to position 12: no appends and "
      "rewinds lead there on 8 slots");
  CHECK(same_state(resumed, saved));
}
