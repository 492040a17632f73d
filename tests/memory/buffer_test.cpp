// Buffer: owned once, given back once, refused with numbers.
#include "kvring/buffer.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ledger.hpp"
#include "refusal.hpp"

using namespace kvring;
using namespace kvring::test;

/// So that running out of memory is an answer under ASan too, not the end of the program.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace {

template <class T>
using CountedBuffer = Buffer<T, Counting>;

static_assert(!std::is_copy_constructible_v<CountedBuffer<float>>);
static_assert(!std::is_copy_assignable_v<CountedBuffer<float>>);
static_assert(std::is_nothrow_move_constructible_v<CountedBuffer<float>>);
static_assert(std::is_nothrow_move_assignable_v<CountedBuffer<float>>);

struct Triple {
  unsigned char bytes[3];
};

TEST_CASE("a buffer takes count * sizeof(T) bytes and gives them back") {
  Ledger ledger;
  {
    CountedBuffer<float> floats(Counting(ledger), 7);
    CHECK(floats.size() == 7);
    CHECK(floats.bytes() == 28);
    CHECK(ledger.taken == 28);
    CountedBuffer<Triple> triples(Counting(ledger), 5);
    CHECK(triples.bytes() == 15);
    CHECK(ledger.taken == 28 + 15);
    CHECK(reinterpret_cast<std::uintptr_t>(floats.data()) % Host::alignment == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(triples.data()) % Host::alignment == 0);
  }
  CHECK(ledger.taken == 0);
  CHECK(ledger.live.empty());
  CHECK(ledger.allocations == 2);
  CHECK(ledger.mistakes == 0);
}

TEST_CASE("a buffer of nothing takes nothing") {
  Ledger ledger;
  {
    CountedBuffer<float> none(Counting(ledger), 0);
    CHECK(none.data() == nullptr);
    CHECK(none.size() == 0);
    CHECK(none.bytes() == 0);
    CountedBuffer<float> fresh;
    CHECK(fresh.data() == nullptr);
    fresh = std::move(none);
  }
  CHECK(ledger.allocations == 0);
  CHECK(ledger.mistakes == 0);
}

TEST_CASE("moving hands the memory on, once") {
  Ledger ledger;
  {
    CountedBuffer<int> first(Counting(ledger), 3);
    const int* const data = first.data();
    first.data()[2] = 42;

    CountedBuffer<int> second = std::move(first);
    CHECK(second.data() == data);
    CHECK(second.data()[2] == 42);
    CHECK(first.data() == nullptr);  // NOLINT: what is left of it is stated here
    CHECK(first.size() == 0);

    CountedBuffer<int> third(Counting(ledger), 100);
    third = std::move(second);
    CHECK(third.data() == data);
    CHECK(third.size() == 3);

    third = CountedBuffer<int>(Counting(ledger), 5);  // the old memory goes with the temporary
    CHECK(third.size() == 5);
    CHECK(ledger.live.count(const_cast<int*>(data)) == 0);

    CountedBuffer<int>& itself = third;
    third = std::move(itself);
    CHECK(third.size() == 5);
    CHECK(third.data() != nullptr);

    std::vector<CountedBuffer<int>> many;
    for (int i = 1; i <= 20; ++i) many.emplace_back(Counting(ledger), i);
    many.erase(many.begin() + 3, many.begin() + 9);
  }
  CHECK(ledger.taken == 0);
  CHECK(ledger.mistakes == 0);
}

TEST_CASE("each buffer goes back to the back end that it came from") {
  Ledger left, right;
  {
    CountedBuffer<int> a(Counting(left), 3);
    CountedBuffer<int> b(Counting(right), 4);
    a = std::move(b);
    CHECK(a.size() == 4);
  }
  CHECK(left.taken == 0);
  CHECK(right.taken == 0);
  CHECK(left.mistakes + right.mistakes == 0);
}

TEST_CASE("from_host fills the front") {
  Buffer<std::int32_t, Host> buffer(Host{}, 4);
  const std::array<std::int32_t, 4> zeros{}, numbers{1, 2, 3, 4};
  buffer.from_host(zeros.data(), 4);
  buffer.from_host(numbers.data(), 3);
  std::array<std::int32_t, 4> back{9, 9, 9, 9};
  Host{}.to_host(back.data(), buffer.data(), buffer.bytes());
  CHECK(back == std::array<std::int32_t, 4>{1, 2, 3, 0});
}

TEST_CASE("a buffer refuses a negative count and one past the address space") {
  Ledger ledger;
  const auto make = [&](std::int64_t count) {
    return refusal([&] { CountedBuffer<float>(Counting(ledger), count); });
  };
  CHECK(contains(make(-1), "-1 elements"));
  CHECK(contains(make(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808 elements"));
  // 2^62 floats are 2^64 bytes, which a size_t counts as none.
  CHECK(contains(make(std::int64_t{1} << 62), "4611686018427387904 elements"));
  CHECK(contains(make((std::int64_t{1} << 62) + 1), "4611686018427387905 elements"));
  CHECK(contains(make(std::numeric_limits<std::int64_t>::max()), "9223372036854775807 elements"));
  CHECK(ledger.allocations == 0);
}

TEST_CASE("out of memory is an Error with the number of bytes, and nothing is lost") {
  Ledger ledger{.live = {}, .limit = 100};
  {
    CountedBuffer<float> most(Counting(ledger), 24);
    CHECK(contains(refusal([&] { CountedBuffer<float>(Counting(ledger), 2); }), "8 bytes"));
    CountedBuffer<float> last(Counting(ledger), 1);
    CHECK(ledger.taken == 100);
  }
  CHECK(ledger.taken == 0);
}

TEST_CASE("the host's own memory ends with an Error with the number of bytes") {
  const std::int64_t count = std::int64_t{1} << 58;
  const std::string message = refusal([&] { Buffer<float, Host>(Host{}, count); });
  CHECK(contains(message, "out of memory"));
  CHECK(contains(message, "1152921504606846976 bytes"));
}

}  // namespace
