// Staged chunks on the GPU: the bits of chunks that are appended first, and then a ring that holds
// the bytes of one that got its rows one after the other.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "device.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_prefill.cuh"
#include "kvring/kernels/attend_simt.cuh"
#include "kvring/kernels/stage_rows.cuh"
#include "kvring/live_range.hpp"
#include "kvring/stage_plan.hpp"
#include "prompts.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr Scores scores{.scale = 0.2f, .softcap = 0};
constexpr std::int64_t length = 700, context = 704, tile = 64, rewind = 20;
constexpr std::int64_t longest = 256, sequences = 2;

template <class P, Heads H, class Element, PrefillKernel Kernel = PrefillKernel::mma>
struct Shape {
  using Policy = P;
  using T = Element;
  static constexpr Heads heads = H;
  static constexpr PrefillKernel kernel = Kernel;
  using Rows = Prompt<H, T>;
  using View = CacheView<Ring<context>, H, T>;  // cut to fewer slots
  using Staged = StagedView<View, tile>;

  static constexpr std::int64_t slots(std::int64_t rows) {
    return round_up(P::window - 1 + larger(rows, rewind), tile);
  }
};

/// Memory of bytes 0xff: NaN in every type.
template <class T>
Buffer<T, Cuda> not_a_number(const Cuda& gpu, std::int64_t count) {
  Buffer<T, Cuda> buffer(gpu, count);
  check_cuda(cudaMemsetAsync(buffer.data(), 0xff, buffer.bytes(), gpu.stream));
  return buffer;
}

template <class S>
struct Device {
  using T = typename S::T;
  using Pieces = std::vector<Piece<typename S::Rows>>;
  Cuda gpu;
  std::int64_t slots;
  Buffer<T, Cuda> k = not_a_number<T>(gpu, sequences* slots* S::heads.kv_dim());
  Buffer<T, Cuda> v = not_a_number<T>(gpu, sequences* slots* S::heads.kv_dim());

  typename S::View view() { return {k.data(), v.data(), slots}; }

  /// Appends the pieces and attends, by way of a stage or not.
  std::vector<T> attend(const Pieces& pieces, bool staged) {
    const Launch launch(pieces);
    const auto segments = to_device(gpu, launch.segments);
    Batch batch = launch.batch();
    batch.segments = segments.data();
    const auto new_k = to_device(gpu, launch.k), new_v = to_device(gpu, launch.v);
    std::vector<T> q_values(launch.q.size());
    std::transform(launch.q.begin(), launch.q.end(), q_values.begin(), from_f32<T>);
    const auto q = to_device(gpu, q_values);
    auto out = not_a_number<T>(gpu, q.size());
    const auto over = [&](auto view) {
      append_rows(gpu, view, batch, new_k.data(), new_v.data());
      if constexpr (S::kernel == PrefillKernel::wgmma) {
        attend_wgmma(gpu, typename S::Policy{}, view, batch, q.data(), out.data(), scores);
      } else if constexpr (std::is_same_v<T, float>) {
        attend_simt(gpu, typename S::Policy{}, view, batch, q.data(), out.data(), scores);
      } else {
        attend_mma(gpu, typename S::Policy{}, view, batch, q.data(), out.data(), scores);
      }
    };
    if (!staged) {
      over(view());
      return to_host(gpu, out);
    }
    const std::int64_t rows = stage_rows(launch.rows, batch.count, tile);
    auto stage_k = not_a_number<T>(gpu, rows * S::heads.kv_dim());
    auto stage_v = not_a_number<T>(gpu, rows * S::heads.kv_dim());
    const typename S::Staged stage{view(), stage_k.data(), stage_v.data(), batch};
    open_stage(gpu, stage);
    over(stage);
    commit_stage(gpu, stage);
    return to_host(gpu, out);
  }
};

template <class T>
bool same_bytes(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

template <class S>
void check_shape(const Cuda& gpu) {
  using T = typename S::T;
  CAPTURE(S::Policy::window);
  CAPTURE(S::heads.dim);
  const typename S::Rows prompt(1, length);
  Device<S> full{gpu, context}, headroom{gpu, S::slots(longest)}, ring{gpu, S::slots(1)};
  Device<S> one_by_one{gpu, S::slots(1)};
  const std::vector<T> right = full.attend({{0, &prompt, 0, length}}, false);
  for (std::int64_t p = 0; p < length; p += longest) {
    const std::int64_t rows = std::min(longest, length - p);
    CHECK(same_bytes<T>(headroom.attend({{0, &prompt, p, rows}}, false),
                        std::span(right).subspan(p * S::heads.q_dim(), rows * S::heads.q_dim())));
  }

  Random random(2);
  std::vector<LiveRange> ranges(sequences, {S::slots(1), S::Policy::window, length, longest});
  int staged = 0, in_place = 0, rewinds = 0, wrong = 0;
  for (int step = 0; step < 60; ++step) {
    typename Device<S>::Pieces pieces;
    const std::int64_t most = random.between(0, 1) == 0 ? longest : random.log_between(1, longest);
    bool fits = true;
    for (std::int64_t s = sequences - 1; s >= 0; --s) {
      LiveRange& range = ranges[static_cast<std::size_t>(s)];
      if (range.length() == length || random.between(0, 3) == 0) {
        const std::int64_t back = random.between(0, range.length() - range.rewind_floor().value);
        range.rewind_to({range.length() == length ? 0 : range.length() - back});
        ++rewinds;
      }
      const std::int64_t rows = random.between(0, std::min(most, range.appendable()));
      if (rows == 0) continue;
      pieces.push_back({s, &prompt, range.length(), rows});
      fits = fits && rows <= range.appendable_in_place();
      range.append(rows);
    }
    if (pieces.empty()) continue;
    const std::vector<T> out = ring.attend(pieces, !fits);
    (fits ? in_place : staged) += 1;
    std::vector<T> expected;
    for (const auto& piece : pieces) {
      const auto from = right.begin() + piece.start * S::heads.q_dim();
      expected.insert(expected.end(), from, from + piece.rows * S::heads.q_dim());
    }
    wrong += !same_bytes<T>(out, expected);

    // The same rows, no more at a time than the other ring has slots.
    for (const auto& piece : pieces) {
      for (std::int64_t row = 0; row < piece.rows; row += one_by_one.slots) {
        one_by_one.attend({{piece.sequence, &prompt, piece.start + row,
                            std::min(one_by_one.slots, piece.rows - row)}},
                          false);
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(staged > 5);
  CHECK(in_place > 5);
  CHECK(rewinds > 5);
  CHECK(same_bytes<T>(to_host(gpu, ring.k), to_host(gpu, one_by_one.k)));
  CHECK(same_bytes<T>(to_host(gpu, ring.v), to_host(gpu, one_by_one.v)));
}

}  // namespace

using Narrow = Shape<Swa<100>, Heads{.q = 8, .kv = 2, .dim = 64}, bf16>;
using Middle = Shape<Swa<70>, Heads{.q = 4, .kv = 2, .dim = 128}, f16>;
using Wide = Shape<Swa<200>, Heads{.q = 4, .kv = 1, .dim = 256}, bf16>;
using Widest = Shape<Swa<1>, Heads{.q = 2, .kv = 1, .dim = 512}, bf16>;
using InFull = Shape<Swa<100>, Heads{.q = 4, .kv = 2, .dim = 36}, f32>;

TEST_CASE_TEMPLATE("device: staged chunks, chunks with headroom and full caches: the same bits", S,
                   Narrow, Middle, Wide, Widest, InFull) {
  if (no_gpu("device: staged chunks")) return;
  const Stream stream;
  check_shape<S>(stream.backend());
}

constexpr PrefillKernel wgmma = PrefillKernel::wgmma;
using NarrowByWgmma = Shape<Swa<100>, Heads{.q = 8, .kv = 2, .dim = 64}, bf16, wgmma>;
// Tiles of 128 keys: one may lie in the ring, across its wrap, and in the stage.
using MiddleByWgmma = Shape<Swa<70>, Heads{.q = 4, .kv = 2, .dim = 128}, f16, wgmma>;
using LongByWgmma = Shape<Swa<300>, Heads{.q = 4, .kv = 1, .dim = 128}, bf16, wgmma>;
using Blocks96ByWgmma = Shape<Swa<520>, Heads{.q = 4, .kv = 2, .dim = 96}, bf16, wgmma>;
using Blocks192ByWgmma = Shape<Swa<70>, Heads{.q = 4, .kv = 1, .dim = 192}, f16, wgmma>;
using WideByWgmma = Shape<Swa<200>, Heads{.q = 4, .kv = 1, .dim = 256}, bf16, wgmma>;

TEST_CASE_TEMPLATE("device: staged chunks by attend_wgmma: the same bits", S, NarrowByWgmma,
                   MiddleByWgmma, LongByWgmma, Blocks96ByWgmma, Blocks192ByWgmma, WideByWgmma) {
  if (no_gpu("device: staged chunks by attend_wgmma")) return;
  const Stream stream;
  check_shape<S>(stream.backend());
}
