// Traps of caches of many layers and of their copies, in memory of the GPU.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "device.cuh"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/snapshot.hpp"
#include "prompts.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

template <class T>
std::vector<T> noise(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = from_f32<T>(random.signed_unit());
  return values;
}

struct Narrow : Layer<Swa<5>, Heads{.q = 2, .kv = 1, .dim = 8}> {};
struct Odd : Layer<Swa<7>, Heads{.q = 3, .kv = 3, .dim = 7}> {};
struct Large : Layer<Dense, Heads{.q = 4, .kv = 2, .dim = 20}> {};
struct Unlike {
  using Layers = Hybrid<6, Narrow, Odd, Large>;
};
template <class T>
using UnlikePlan = Plan<Unlike, T, Chunk<4>, Rewind<6>, KeyTile<4>>;

/// Appends position `p` to all layers: values that follow from layer, sequence, position and place.
template <class T, Backend B>
void write(const B& backend, Caches<UnlikePlan<T>, B>& caches, std::int64_t sequence,
           std::int64_t p) {
  using PlanType = UnlikePlan<T>;
  for (std::int64_t layer = 0; layer < PlanType::layers; ++layer) {
    PlanType::with_kind(PlanType::kind_of[static_cast<std::size_t>(layer)], [&](auto of) {
      using Kind = typename decltype(of)::type;
      const auto row =
          noise<T>(2 * Kind::heads.kv_dim(),
                   static_cast<std::uint64_t>(layer * 1'000'000 + sequence * 1'000 + p));
      const std::vector<Segment> one{
          {.sequence = sequence, .start = {p}, .first_row = 0, .rows = 1}};
      const auto view = caches.template view<Kind>(layer);
      if constexpr (std::is_same_v<B, Cuda>) {
        const auto rows = to_device(backend, row);
        const auto segments = to_device(backend, one);
        append_rows(backend, view, Batch{segments.data(), 1, 1}, static_cast<const T*>(rows.data()),
                    rows.data() + Kind::heads.kv_dim());
      } else {
        Append<std::remove_const_t<decltype(view)>, T>{
            view, {one.data(), 1, 1}, row.data(), row.data() + Kind::heads.kv_dim()}(0);
      }
    });
  }
}

TEST_CASE_TEMPLATE("device trap_24_layers_of_unlike_heads_keep_to_their_own_rows", T, f32, f16,
                   bf16) {
  if (no_gpu("device trap_24")) return;
  // Three sequences grow in turn, here and on the host, where counting by hand found each row.
  using PlanType = UnlikePlan<T>;
  const Stream stream;
  const Cuda gpu = stream.backend();
  Caches<PlanType, Cuda> caches(gpu, 40, 3);
  Caches<PlanType, Host> right(Host{}, 40, 3);
  for (std::int64_t p = 0; p < 40; ++p) {
    for (std::int64_t s = 0; s < 3; ++s) {
      write<T>(gpu, caches, s, p);
      write<T>(Host{}, right, s, p);
      caches.timeline(s).append(1);
      right.timeline(s).append(1);
    }
  }
  for (std::int64_t s = 0; s < 3; ++s) {
    const Snapshot<PlanType> here(caches, s), there(right, s);
    REQUIRE(here.bytes() == there.bytes());
    CHECK(std::memcmp(here.rows().data(), there.rows().data(), here.bytes()) == 0);
  }
}

TEST_CASE_TEMPLATE("device trap_33_a_copy_knows_how_far_it_was_written", T, f32, f16, bf16) {
  if (no_gpu("device trap_33")) return;
  using PlanType = UnlikePlan<T>;
  const Stream stream;
  const Cuda gpu = stream.backend();
  for (std::int64_t length = 5; length <= 38; length += 3) {
    for (const std::int64_t taken_back : {0, 2, 4}) {
      CAPTURE(length);
      CAPTURE(taken_back);
      Caches<PlanType, Cuda> caches(gpu, 40, 2), elsewhere(gpu, 47, 1);
      for (std::int64_t p = 0; p < length; ++p) {
        write<T>(gpu, caches, 0, p);
        caches.timeline(0).append(1);
      }
      caches.timeline(0).rewind_to({length - taken_back});
      const Position floor = caches.timeline(0).rewind_floor();
      const Snapshot<PlanType> saved(caches, 0);
      fork(caches, 0, 1);
      saved.restore(elsewhere, 0);
      for (auto* timeline : {&caches.timeline(1), &elsewhere.timeline(0)}) {
        CHECK(timeline->rewind_floor() == floor);
        CHECK(timeline->written() == length);
        if (floor.value > 1) CHECK_THROWS_AS(timeline->rewind_to(floor - 1), Error);
      }
      const Snapshot<PlanType> forked(caches, 1), restored(elsewhere, 0);
      REQUIRE((forked.bytes() == saved.bytes() && restored.bytes() == saved.bytes()));
      CHECK(std::memcmp(forked.rows().data(), saved.rows().data(), saved.bytes()) == 0);
      CHECK(std::memcmp(restored.rows().data(), saved.rows().data(), saved.bytes()) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("device trap_35_the_plan_is_what_is_allocated", T, f32, f16, bf16) {
  if (no_gpu("device trap_35")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const auto in_use = [&] {
    check_cuda(cudaStreamSynchronize(gpu.stream));
    cudaMemPool_t pool;
    check_cuda(cudaDeviceGetDefaultMemPool(&pool, 0));
    std::uint64_t bytes = 0;
    check_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &bytes));
    return static_cast<std::int64_t>(bytes);
  };
  const std::int64_t before = in_use();
  for (const std::int64_t context : {1, 13, 1'000, 1'000'000}) {
    const Caches<UnlikePlan<T>, Cuda> caches(gpu, context, 2);
    const std::int64_t more = in_use() - before - UnlikePlan<T>::cache_bytes(context, 2);
    // The pool rounds each of the 6 layers' blocks up, to 512 bytes or, if they are large, to 2
    // MiB.
    CHECK(more >= 0);
    CHECK(more <= 6 * (std::int64_t{2} << 20));
  }
  CHECK(in_use() == before);
}

}  // namespace
