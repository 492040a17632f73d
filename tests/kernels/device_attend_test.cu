// Append and plain attention on the GPU: the cache's bytes are the host's, the results the host's
// plain kernel's, and nothing that must not change a bit does.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "device.cuh"
#include "device_cache.cuh"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/plan.hpp"
#include "prompts.hpp"
#include "test_cache.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr Scores plain{.scale = 0.3f, .softcap = 0};

using Narrow = Shape<Swa<20>, 4, Heads{.q = 6, .kv = 2, .dim = 16}>;
using Itself = Shape<Swa<1>, 1, Heads{.q = 3, .kv = 3, .dim = 7}>;
using Ragged = Shape<Swa<100>, 64, Heads{.q = 5, .kv = 1, .dim = 40}>;
using Whole = Shape<Dense, 64, Heads{.q = 8, .kv = 2, .dim = 128}>;
using Wide = Shape<Swa<64>, 64, Heads{.q = 4, .kv = 1, .dim = 256}>;

template <class S, class View>
std::vector<float> attend_on_host(View view, const Batch& batch, const std::vector<float>& q,
                                  Scores scores) {
  std::vector<float> out(q.size(), NAN);
  const AttendScalar<typename S::Policy, S::tile, View> kernel{view, batch, q.data(), out.data(),
                                                               scores};
  for (std::int64_t i = 0; i < batch.rows * S::heads.q; ++i) kernel(i);
  return out;
}

struct Tally {
  int cases = 0;
  long rows = 0, compared = 0;
  long wrong_bytes = 0, wrong_bits = 0, out_of_bound = 0;
};

/// Sequences of several lengths through one cache, in ragged launches; whatever no row of a launch
/// may see is NaN.
template <class S, class T>
void random_case(const Cuda& gpu, std::uint64_t seed, Tally& tally) {
  using Rows = Prompt<S::heads, T>;
  Random random(seed);
  constexpr double budget = 6e6;  // multiplications that the rows may cost the host
  const double row = static_cast<double>(S::heads.q_dim());
  const std::int64_t most = S::window == unbounded
                                ? static_cast<std::int64_t>(std::sqrt(budget / row))
                                : static_cast<std::int64_t>(budget / row / S::window);
  const std::int64_t chunk = random.log_between(1, 40);
  const std::int64_t sequences = random.between(1, 4);
  std::vector<Rows> prompts;
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < sequences; ++s) {
    const std::int64_t length = random.log_between(1, std::clamp<std::int64_t>(most, 2, 400));
    prompts.emplace_back(seed * 8 + static_cast<std::uint64_t>(s), length,
                         random.between(0, 1) ? 3.0f : 1.0f);
    longest = std::max(longest, length);
  }
  const Scores scores{.scale = static_cast<float>(0.02 + 0.5 * random.unit()),
                      .softcap = random.between(0, 2) == 0 ? 5.0f : 0.0f};
  CAPTURE(seed);

  TestCache<S::heads, T> mirror(sequences,
                                S::slots(chunk, longest) + random.between(0, 1) * S::tile);
  DeviceCache<S, T> cache(gpu, mirror);
  std::vector<std::int64_t> done(prompts.size(), 0);
  for (bool all_done = false; !all_done;) {
    std::vector<Piece<Rows>> pieces;
    all_done = true;
    for (std::size_t s = prompts.size(); s-- > 0;) {
      const std::int64_t left = prompts[s].rows - done[s];
      const std::int64_t rows = std::min(left, random.between(0, chunk));
      all_done = all_done && rows == left;
      if (rows == 0) continue;
      pieces.push_back({static_cast<std::int64_t>(s), &prompts[s], done[s], rows});
      done[s] += rows;
    }
    if (pieces.empty()) continue;

    append(mirror, pieces);
    cache.append(pieces);
    tally.wrong_bytes += !cache.is_same(mirror);

    for (const Piece<Rows>& piece : pieces) {
      const std::int64_t oldest =
          S::window == unbounded ? 0 : std::max<std::int64_t>(0, piece.start - S::window + 1);
      mirror.fill_all_but(piece.sequence, oldest, piece.start + piece.rows - 1,
                          mirror.not_a_number());
    }
    cache.copy(mirror);
    const Launch launch(pieces);
    const std::vector<float> results = cache.attend(pieces, scores);
    const std::vector<float> by_host =
        attend_on_host<S>(mirror.view(), launch.batch(), launch.q, scores);
    if (host_fuses) {
      tally.wrong_bits += static_cast<long>(differing_bits(results, by_host).differing);
    }
    tally.rows += launch.rows;

    std::size_t at = 0;
    const std::size_t width = S::heads.q_dim();
    for (const Piece<Rows>& piece : pieces) {
      const Expected expected(*piece.prompt, S::window, scores.scale, scores.softcap);
      for (std::int64_t i = 0; i < piece.rows; ++i, at += width) {
        if (i + 1 < piece.rows && random.between(0, 15) != 0) continue;
        const auto row = std::span(results).subspan(at, width);
        tally.out_of_bound += expected.wrong(row, piece.start + i, S::tile);
        ++tally.compared;
      }
    }
    if (!host_fuses) {
      // Both are near the reference; a sum that is not fused may be twice as far.
      std::size_t i = 0;
      for (const Piece<Rows>& piece : pieces) {
        const Expected expected(*piece.prompt, S::window, scores.scale, scores.softcap);
        for (std::int64_t p = piece.start; p < piece.start + piece.rows; ++p) {
          for (std::int64_t head = 0; head < S::heads.q; ++head) {
            const double allowed = 3 * expected.bound(p, head, S::tile);
            for (std::int64_t d = 0; d < S::heads.dim; ++d, ++i) {
              tally.wrong_bits += !(std::fabs(results[i] - by_host[i]) <= allowed);
            }
          }
        }
      }
    }
  }
  ++tally.cases;
}

template <class S, class T>
void sweep(std::uint64_t seed) {
  const Stream stream;
  Tally tally;
  for (std::uint64_t i = 0; i < 15; ++i) random_case<S, T>(stream.backend(), seed * 100 + i, tally);
  CHECK(tally.cases == 15);
  CHECK(tally.compared > 30);
  CHECK(tally.wrong_bytes == 0);
  CHECK(tally.wrong_bits == 0);
  CHECK(tally.out_of_bound == 0);
  MESSAGE(tally.rows, " rows as the host's plain kernel gives them, ",
          std::string(host_fuses ? "as bits" : "within a bound"), "; ", tally.compared,
          " compared with the reference");
}

TEST_CASE_TEMPLATE("device: append and attention, random cases", T, f32, f16, bf16) {
  if (no_gpu("device: append and attention, random cases")) return;
  sweep<Narrow, T>(1);
  sweep<Itself, T>(2);
  sweep<Ragged, T>(3);
  sweep<Whole, T>(4);
  sweep<Wide, T>(5);
}

template <class S, class T>
void invariances(const Cuda& gpu) {
  using Rows = Prompt<S::heads, T>;
  constexpr std::int64_t length = 230;
  const Rows prompt(1, length), other(2, 57);
  const auto fresh = [&](std::int64_t chunk) {
    return DeviceCache<S, T>(
        gpu, TestCache<S::heads, T>(2, S::window == unbounded ? length : S::slots(chunk, length)));
  };
  // A cache with a slot for every position: nothing wraps.
  DeviceCache<S, T> full(gpu, TestCache<S::heads, T>(2, length));
  const std::vector<float> right = full.prefill(0, prompt, length, plain);
  CHECK(!differing_bits(full.prefill(0, prompt, length, plain), right));
  for (const std::int64_t chunk : {1, 7, 64}) {
    CAPTURE(chunk);
    auto cache = fresh(chunk);
    CHECK(!differing_bits(cache.prefill(1, prompt, chunk, plain), right));
  }
  // With a neighbour in the batch, before and after.
  auto cache = fresh(57);
  std::vector<float> together;
  for (std::int64_t p = 0; p < length; p += 57) {
    const std::int64_t rows = std::min<std::int64_t>(57, length - p);
    const Piece<Rows> mine{1, &prompt, p, rows}, theirs{0, &other, 0, 57};
    const bool first = p % 2 == 0;
    const std::vector<Piece<Rows>> pieces =
        first ? std::vector<Piece<Rows>>{mine, theirs} : std::vector<Piece<Rows>>{theirs, mine};
    cache.append(pieces);
    const std::vector<float> out = cache.attend(pieces, plain);
    const auto begin = out.begin() + (first ? 0 : 57 * S::heads.q_dim());
    together.insert(together.end(), begin, begin + rows * S::heads.q_dim());
  }
  CHECK(!differing_bits(together, right));
}

TEST_CASE_TEMPLATE("device: chunks, rings and neighbours change no bit", T, f32, f16, bf16) {
  if (no_gpu("device: chunks, rings and neighbours change no bit")) return;
  const Stream stream;
  invariances<Narrow, T>(stream.backend());
  invariances<Itself, T>(stream.backend());
  invariances<Ragged, T>(stream.backend());
  invariances<Whole, T>(stream.backend());
}

TEST_CASE_TEMPLATE("device: positions past 2^31", T, f32, f16, bf16) {
  if (no_gpu("device: positions past 2^31")) return;
  const Stream stream;
  constexpr std::int64_t warm = Narrow::window - 1, length = 100, chunk = 13;
  const auto at = [&](std::int64_t begin) {
    const Prompt<Narrow::heads, T> prompt(3, length, 1, begin);
    DeviceCache<Narrow, T> cache(stream.backend(), TestCache<Narrow::heads, T>(1, 32));
    std::vector<float> results = cache.prefill(0, prompt, chunk, plain);
    results.erase(results.begin(), results.begin() + warm * Narrow::heads.q_dim());
    return results;
  };
  const std::vector<float> right = at(0);
  for (const int bit : {31, 32, 40, 62}) {
    CHECK(!differing_bits(at((std::int64_t{1} << bit) - 64), right));
  }
}

struct Local : Layer<Swa<20>, Narrow::heads> {};
struct Global : Layer<Dense, Heads{.q = 4, .kv = 1, .dim = 24}> {};
struct Model {
  using Layers = Hybrid<4, Local, Global>;
};

template <class Kind, class PlanType>
long attend_uninitialised(const Cuda& gpu, Caches<PlanType, Cuda>& caches, std::int64_t layer) {
  using T = typename PlanType::Element;
  using Rows = Prompt<Kind::heads, T>;
  const auto view = caches.template view<Kind>(layer);
  using View = std::remove_const_t<decltype(view)>;
  constexpr std::int64_t length = 90, chunk = 9;
  const Rows prompt(5, length);
  const Expected expected(prompt, Kind::Policy::window, plain.scale, plain.softcap);
  long wrong = 0;
  for (std::int64_t p = 0; p < length; p += chunk) {
    const Launch launch(std::vector<Piece<Rows>>{{1, &prompt, p, chunk}});
    const auto segments = to_device(gpu, launch.segments);
    const auto q = to_device(gpu, launch.q), k = to_device(gpu, launch.k);
    const auto v = to_device(gpu, launch.v);
    Buffer<float, Cuda> out(gpu, q.size());
    Batch batch = launch.batch();
    batch.segments = segments.data();
    for_each(gpu, launch.rows, Append<View>{view, batch, k.data(), v.data()});
    attend_plainly(gpu, typename Kind::Policy{}, KeyTile<4>{}, view, batch, q.data(), out.data(),
                   plain);
    const std::vector<float> results = to_host(gpu, out);
    for (std::int64_t i = 0; i < chunk; ++i) {
      const std::size_t width = Kind::heads.q_dim();
      const auto row = std::span(results).subspan(static_cast<std::size_t>(i) * width, width);
      wrong += expected.wrong(row, p + i, 4);
    }
  }
  return wrong;
}

TEST_CASE("device: memory that nobody wrote is not read") {
  // As it comes from the allocator; initcheck would tell.
  if (no_gpu("device: memory that nobody wrote is not read")) return;
  const Stream stream;
  Caches<Plan<Model, bf16, Chunk<9>, Rewind<0>, KeyTile<4>>, Cuda> caches(stream.backend(), 90, 3);
  CHECK(attend_uninitialised<Local>(stream.backend(), caches, 2) == 0);
  CHECK(attend_uninitialised<Global>(stream.backend(), caches, 3) == 0);
}

}  // namespace
