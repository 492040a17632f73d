// The reference itself, against sums small enough to do by hand.
#include "kvring/testing/reference.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

using namespace kvring::testing;

namespace {

using Row = std::vector<float>;
using Attention = Reference::Attention;

/// Keys of 0 weigh all visible values alike; value p is 2^p, so the output spells the keys seen.
Reference powers_of_two(int length) {
  Reference reference;
  for (int p = 0; p < length; ++p) reference.append(p, Row{0}, Row{std::ldexp(1.0f, p)});
  return reference;
}

using Simulation = SlotSimulation<8, 32>;

constexpr Simulation after(int slots, int window, int length) {
  Simulation ring(slots, window, 32);
  for (int i = 0; i < length; ++i) ring.append(1);
  return ring;
}

// By hand: 5 slots, window 3, positions 0 ... 6 written: the slots hold 5 6 2 3 4.
static_assert(after(5, 3, 7).position_in(0) == 5 && after(5, 3, 7).position_in(1) == 6);
static_assert(after(5, 3, 7).position_in(2) == 2 && after(5, 3, 7).position_in(4) == 4);
// Query 7 needs 5 6 7: three rows, 7 8 9, overwrite 2 3 4; a fourth would overwrite 5.
static_assert(after(5, 3, 7).may_append(3) && !after(5, 3, 7).may_append(4));
// Query 4 needs 2 3 4, and all are there; query 3 needs 1, which is gone.
static_assert(after(5, 3, 7).may_rewind_to(4) && !after(5, 3, 7).may_rewind_to(3));
static_assert(after(5, 3, 7).may_rewind_to(7) && !after(5, 3, 7).may_rewind_to(8));
static_assert(after(5, 3, 7).may_rewind_to(0) && !after(5, 3, 7).may_rewind_to(-1));
static_assert(after(5, 3, 0).may_append(5) && !after(5, 3, 0).may_append(6));
static_assert(after(2, 3, 2).may_append(0) && !after(2, 3, 2).may_append(1));
static_assert(after(8, 3, 31).may_append(1) && !after(8, 3, 31).may_append(2));  // context 32
// A row of the future is not a row of the past: taken back to 4, positions 5 and 6 are drafts.
constexpr Simulation taken_back = [] {
  Simulation ring = after(5, 3, 7);
  ring.rewind_to(4);
  return ring;
}();
static_assert(taken_back.may_append(3) && !taken_back.may_append(4));
static_assert(!taken_back.may_rewind_to(3) && !taken_back.may_rewind_to(5));

}  // namespace

TEST_CASE("the mean of the keys in the window, the query's included") {
  const Reference reference = powers_of_two(10);
  const Row query{1};
  for (int p = 0; p < 10; ++p) {
    for (int window = 1; window <= 12; ++window) {
      double sum = 0;
      int seen = 0;
      for (int key = p; key > p - window && key >= 0; --key, ++seen) sum += std::ldexp(1.0, key);
      const auto out = reference.attend(query, p, Attention{.window = window});
      CHECK(out.size() == 1);
      CHECK(out[0] == doctest::Approx(sum / seen).epsilon(1e-14));
    }
  }
  CHECK(reference.attend(query, 3, Attention{})[0] == doctest::Approx(15.0 / 4));
}

TEST_CASE("softmax, scale and softcap of two keys") {
  Reference reference;
  reference.append(0, Row{1, 0}, Row{1, 10});
  reference.append(1, Row{3, 5}, Row{2, 20});
  const Row query{2, 0};
  const auto weight_of_second = [](double first, double second) {
    return 1 / (1 + std::exp(first - second));
  };
  const auto check = [&](Attention attention, double first, double second) {
    const double w = weight_of_second(first, second);
    const auto out = reference.attend(query, 1, attention);
    REQUIRE(out.size() == 2);
    CHECK(out[0] == doctest::Approx(1 + w).epsilon(1e-13));
    CHECK(out[1] == doctest::Approx(10 + 10 * w).epsilon(1e-13));
  };
  check({.head_dim = 2}, 2, 6);
  check({.head_dim = 2, .scale = 0.5}, 1, 3);
  check({.head_dim = 2, .softcap = 4}, 4 * std::tanh(0.5), 4 * std::tanh(1.5));
  check({.head_dim = 2, .scale = 0.5, .softcap = 4}, 4 * std::tanh(0.25), 4 * std::tanh(0.75));
  check({.head_dim = 2, .scale = 1000}, 2000, 6000);  // no overflow
}

TEST_CASE("query heads read the kv head of their group") {
  Reference reference;
  reference.append(0, Row{0, 0}, Row{7, 9});
  const auto out = reference.attend(Row{1, 1, 1, 1}, 0, Attention{.q_heads = 4, .kv_heads = 2});
  CHECK(out == std::vector<double>{7, 7, 9, 9});
}

TEST_CASE("rewind forgets, append replaces, a missing key is an error") {
  Reference reference = powers_of_two(6);
  const Row query{1};
  reference.rewind(3);
  CHECK(reference.attend(query, 2, Attention{})[0] == doctest::Approx(7.0 / 3));
  CHECK_THROWS_AS(reference.attend(query, 3, Attention{}), std::logic_error);
  reference.append(3, Row{0}, Row{80});
  CHECK(reference.attend(query, 3, Attention{.window = 2})[0] == doctest::Approx(42.0));
  reference.append(3, Row{0}, Row{8});
  CHECK(reference.attend(query, 3, Attention{.window = 2})[0] == doctest::Approx(6.0));
}
