// The f32 attention of the GPU by shared tiles, against double precision, with NaN wherever no row
// of a launch may look; and a row's bits follow from its query and its keys alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "device.cuh"
#include "device_cache.cuh"
#include "kvring/kernels/attend_cuda.cuh"
#include "prompts.hpp"
#include "test_cache.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

/// By the overload that programs call: it must be attend_simt for these caches.
struct ByTiles {
  template <class S, class View>
  static void run(const Cuda& gpu, View cache, Batch batch, const float* q, float* out,
                  Scores scores) {
    static_assert(has_attend_simt<View>);
    attend(gpu, typename S::Policy{}, KeyTile<S::tile>{}, cache, batch, batch, q, out, scores);
  }
};
static_assert(!has_attend_simt<CacheView<Full, Heads{.q = 1, .kv = 1, .dim = 64}, bf16>>);
static_assert(!has_attend_simt<CacheView<Full, Heads{.q = 1, .kv = 1, .dim = 7}, float>>);
static_assert(!has_attend_simt<CacheView<Full, Heads{.q = 1, .kv = 1, .dim = 516}, float>>);

// The last dimension decides the tile: 128 x 64, 64 x 64, 32 x 32. Groups of 1 to 8 heads, 5 and 3
// among them; windows shorter than a tile, of one key, across tiles; rings that are whole tiles of
// the kernel and rings that are not; column steps that are full and that are not.
using Narrow = Shape<Swa<20>, 4, Heads{.q = 6, .kv = 2, .dim = 16}>;
using Itself = Shape<Swa<1>, 1, Heads{.q = 3, .kv = 3, .dim = 4}>;
using Odd = Shape<Swa<77>, 7, Heads{.q = 6, .kv = 2, .dim = 36}>;
using Five = Shape<Swa<100>, 64, Heads{.q = 5, .kv = 1, .dim = 40}>;
using Small = Shape<Swa<128>, 64, Heads{.q = 8, .kv = 1, .dim = 64}>;
using Eighty = Shape<Dense, 64, Heads{.q = 4, .kv = 4, .dim = 80}>;
using Whole = Shape<Dense, 64, Heads{.q = 8, .kv = 2, .dim = 128}>;
using Wide = Shape<Swa<65>, 64, Heads{.q = 4, .kv = 1, .dim = 256}>;
using WideDense = Shape<Dense, 64, Heads{.q = 2, .kv = 2, .dim = 192}>;
using Widest = Shape<Swa<63>, 64, Heads{.q = 4, .kv = 2, .dim = 512}>;

/// A head of a row in double precision, with sinks and softcap; and how far f32 may be from it.
struct HeadInDouble {
  std::vector<double> right;
  double bound;
};
template <Heads H>
HeadInDouble in_double(const Prompt<H, float>& prompt, std::int64_t position, std::int64_t head,
                       std::int64_t window, double scale, double softcap, const float* sinks) {
  const std::int64_t first =
      std::max<std::int64_t>(0, window == unbounded ? 0 : position - window + 1);
  const auto q = prompt.q_at(position).subspan(static_cast<std::size_t>(head * H.dim), H.dim);
  const std::size_t kv_at = static_cast<std::size_t>(head / H.group() * H.dim);
  std::vector<double> scores;
  double highest = sinks != nullptr ? sinks[head] : -INFINITY, largest = std::fabs(highest);
  if (sinks == nullptr) largest = 0;
  for (std::int64_t p = first; p <= position; ++p) {
    const auto k = prompt.k_at(p).subspan(kv_at, H.dim);
    double dot = 0;
    for (std::size_t d = 0; d < q.size(); ++d) dot += static_cast<double>(q[d]) * k[d];
    double score = dot * scale;
    if (softcap != 0) score = softcap * std::tanh(score / softcap);
    scores.push_back(score);
    highest = std::max(highest, score);
  }
  double total = sinks != nullptr ? std::exp(sinks[head] - highest) : 0;
  HeadInDouble result{std::vector<double>(q.size(), 0), 0};
  for (std::int64_t p = first; p <= position; ++p) {
    const double weight = std::exp(scores[static_cast<std::size_t>(p - first)] - highest);
    total += weight;
    const auto v = prompt.v_at(p).subspan(kv_at, H.dim);
    for (std::size_t d = 0; d < q.size(); ++d) result.right[d] += weight * v[d];
  }
  for (double& x : result.right) x /= total;

  // u = 2^-24. A dot product of D fused steps and its scale: (D + 1) u sum |q k| |scale|. A softcap
  // adds two roundings and the 2e-7 of tanh_f32. The argument of exp2, at most 2 |s| log2(e), is
  // rounded thrice, its constant included; exp2 is within 2^-22. That is a weight, and it stands
  // above and below the fraction: twice. Sums of n keys, and a factor for each tile of at least 16
  // of them, above and below, 4 sums of lanes, the quotient. 1% for terms of second order.
  // Everything relative to max |v| <= 1.
  constexpr double u = 0x1p-24;
  double magnitude = 0;
  for (const float x : q) magnitude += std::fabs(x);
  double score = magnitude * prompt.k_size * std::fabs(scale);
  double error = (static_cast<double>(H.dim) + 1) * u * score;
  if (softcap != 0) {
    error += 2 * u * score + softcap * (2e-7 + u);
    score = std::min(score, softcap);
  }
  score = std::max(score, largest);
  const double keys = static_cast<double>(position - first + 1);
  const double sums = 2 * (keys + keys / 16 + 2) + 6;
  result.bound = 1.01 * (2 * (error + 6 * score * u + 0x1p-22) + sums * u);
  return result;
}

struct Tally {
  long rows = 0, heads = 0, wrong = 0;
};

/// Sequences of several lengths through one cache, in ragged launches; whatever no row of a launch
/// may see is NaN.
template <class S>
void random_case(const Cuda& gpu, std::uint64_t seed, Tally& tally) {
  constexpr Heads heads = S::heads;
  using Rows = Prompt<heads, float>;
  Random random(seed);
  const std::int64_t chunk = random.log_between(1, 300);
  const std::int64_t sequences = random.between(1, 4);
  std::vector<Rows> prompts;
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < sequences; ++s) {
    const std::int64_t length = random.log_between(1, heads.dim > 128 ? 300 : 700);
    prompts.emplace_back(seed * 8 + static_cast<std::uint64_t>(s), length,
                         random.between(0, 1) ? 3.0f : 1.0f);
    longest = std::max(longest, length);
  }
  std::vector<float> sinks;
  for (std::int64_t h = 0; h < heads.q; ++h) sinks.push_back(random.signed_unit() * 4);
  const auto device_sinks = to_device(gpu, sinks);
  const bool sunk = random.between(0, 1) == 0;
  const Scores scores{.scale = static_cast<float>(0.02 + 0.5 * random.unit()),
                      .softcap = random.between(0, 2) == 0 ? 5.0f : 0.0f,
                      .sinks = sunk ? device_sinks.data() : nullptr};
  CAPTURE(seed);
  CAPTURE(heads.dim);

  TestCache<heads, float> mirror(sequences,
                                 S::slots(chunk, longest) + random.between(0, 1) * S::tile);
  DeviceCache<S, float, ByTiles> cache(gpu, mirror);
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
    for (const Piece<Rows>& piece : pieces) {
      const std::int64_t oldest =
          S::window == unbounded ? 0 : std::max<std::int64_t>(0, piece.start - S::window + 1);
      mirror.fill_all_but(piece.sequence, oldest, piece.start + piece.rows - 1,
                          mirror.not_a_number());
    }
    cache.copy(mirror);
    const std::vector<float> results = cache.attend(pieces, scores);
    std::size_t at = 0;
    for (const Piece<Rows>& piece : pieces) {
      for (std::int64_t i = 0; i < piece.rows; ++i) {
        const std::int64_t p = piece.start + i;
        ++tally.rows;
        for (std::int64_t head = 0; head < heads.q; ++head, at += heads.dim) {
          if (i > 0 && i + 1 < piece.rows && random.between(0, 31) != 0) {
            for (std::int64_t d = 0; d < heads.dim; ++d) tally.wrong += std::isnan(results[at + d]);
            continue;
          }
          const HeadInDouble expected = in_double(*piece.prompt, p, head, S::window, scores.scale,
                                                  scores.softcap, sunk ? sinks.data() : nullptr);
          for (std::int64_t d = 0; d < heads.dim; ++d) {
            tally.wrong += !(std::fabs(results[at + d] - expected.right[d]) <= expected.bound);
          }
          ++tally.heads;
        }
      }
    }
  }
  CHECK(tally.wrong == 0);
}

template <class S>
void sweep(std::uint64_t seed) {
  const Stream stream;
  Tally tally;
  for (std::uint64_t i = 0; i < 12; ++i) random_case<S>(stream.backend(), seed * 100 + i, tally);
  CHECK(tally.heads > 60);
  MESSAGE("head_dim ", S::heads.dim, ": ", tally.rows, " rows, ", tally.heads, " heads compared");
}

TEST_CASE("device: f32 attention by tiles, random cases") {
  if (no_gpu("device: f32 attention by tiles, random cases")) return;
  sweep<Narrow>(1);
  sweep<Itself>(2);
  sweep<Odd>(3);
  sweep<Five>(4);
  sweep<Small>(5);
  sweep<Eighty>(6);
  sweep<Whole>(7);
  sweep<Wide>(8);
  sweep<WideDense>(9);
  sweep<Widest>(10);
}

constexpr Scores plain{.scale = 0.3f, .softcap = 0};

template <class S>
void invariances(const Cuda& gpu) {
  using Rows = Prompt<S::heads, float>;
  CAPTURE(S::heads.dim);
  constexpr std::int64_t length = 515;
  const Rows prompt(1, length), other(2, 57);
  const auto fresh = [&](std::int64_t chunk) {
    return DeviceCache<S, float, ByTiles>(
        gpu,
        TestCache<S::heads, float>(2, S::window == unbounded ? length : S::slots(chunk, length)));
  };
  // A cache with a slot for every position: nothing wraps.
  DeviceCache<S, float, ByTiles> full(gpu, TestCache<S::heads, float>(2, length));
  const std::vector<float> right = full.prefill(0, prompt, length, plain);
  CHECK(!differing_bits(full.prefill(0, prompt, length, plain), right));
  for (const std::int64_t chunk : {1, 2, 7, 64, 255, 256, 257}) {
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

TEST_CASE("device: f32 attention by tiles: chunks, rings and neighbours change no bit") {
  if (no_gpu("device: f32 attention by tiles: chunks, rings and neighbours change no bit")) return;
  const Stream stream;
  invariances<Narrow>(stream.backend());
  invariances<Itself>(stream.backend());
  invariances<Odd>(stream.backend());
  invariances<Small>(stream.backend());
  invariances<Whole>(stream.backend());
  invariances<Wide>(stream.backend());
  invariances<Widest>(stream.backend());
}

TEST_CASE("device: f32 attention by tiles: positions past 2^31") {
  if (no_gpu("device: f32 attention by tiles: positions past 2^31")) return;
  const Stream stream;
  constexpr std::int64_t warm = Narrow::window - 1, length = 100, chunk = 13;
  // The first rows only fill the window: what they would see was never written.
  const auto at = [&](std::int64_t begin) {
    using Rows = Prompt<Narrow::heads, float>;
    const Rows prompt(3, length, 1, begin);
    DeviceCache<Narrow, float, ByTiles> cache(stream.backend(),
                                              TestCache<Narrow::heads, float>(1, 32));
    cache.append(std::vector<Piece<Rows>>{{0, &prompt, begin, warm}});
    std::vector<float> all;
    for (std::int64_t p = begin + warm; p < prompt.end(); p += chunk) {
      const std::vector<Piece<Rows>> piece{{0, &prompt, p, std::min(chunk, prompt.end() - p)}};
      cache.append(piece);
      const std::vector<float> out = cache.attend(piece, plain);
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  };
  const std::vector<float> right = at(0);
  CHECK(!right.empty());
  for (const int bit : {31, 32, 40, 62}) {
    CHECK(!differing_bits(at((std::int64_t{1} << bit) - 64), right));
  }
}

}  // namespace
