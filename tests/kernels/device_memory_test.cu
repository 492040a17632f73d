// Memory of the GPU: exact, given back, and refused without harm when there is no more.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "device.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/kernels/rows.hpp"
#include "refusal.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

struct Local : Layer<Swa<100>, Heads{.q = 4, .kv = 2, .dim = 64}> {};
struct Global : Layer<Dense, Heads{.q = 4, .kv = 2, .dim = 64}> {};
struct Model {
  using Layers = Hybrid<6, Local, Global>;
};
using SmallPlan = Plan<Model, bf16, Chunk<64>>;

/// Bytes that the pool of asynchronous allocations has handed out.
std::uint64_t in_use(const Cuda& gpu) {
  check_cuda(cudaStreamSynchronize(gpu.stream));
  cudaMemPool_t pool;
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, 0));
  std::uint64_t bytes = 0;
  check_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &bytes));
  return bytes;
}

std::int64_t total_memory() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(total);
}

/// A kernel still runs, and its result arrives.
bool works(const Cuda& gpu) {
  const auto x = to_device(gpu, std::vector<float>(1'000, 2.0f));
  auto y = to_device(gpu, std::vector<float>(1'000, 40.0f));
  for_each(gpu, 1'000, AddRows{x.data(), y.data(), 1});
  return to_host(gpu, y) == std::vector<float>(1'000, 42.0f);
}

TEST_CASE("device: out of memory is an Error with the bytes, and the process goes on") {
  if (no_gpu("device: out of memory")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  REQUIRE(works(gpu));
  const std::uint64_t before = in_use(gpu);
  for (int time = 0; time < 3; ++time) {
    const std::int64_t bytes = 2 * total_memory();
    const std::string message = refusal([&] { Buffer<char, Cuda>(gpu, bytes); });
    CHECK(contains(message, "out of memory"));
    CHECK(contains(message, std::to_string(bytes) + " more were asked for"));
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(works(gpu));
  }
  CHECK(in_use(gpu) == before);
}

TEST_CASE("device: caches that do not fit are refused, and the layers that did are given back") {
  if (no_gpu("device: caches that do not fit")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const std::uint64_t before = in_use(gpu);
  // One Global layer is more than the GPU has; the Local one before it fits.
  const std::int64_t context = 2 * total_memory() / SmallPlan::row_bytes(1);
  const std::string message = refusal([&] { Caches<SmallPlan, Cuda>(gpu, context, 1); });
  CHECK(contains(message, "out of memory"));
  CHECK(contains(message, std::to_string(SmallPlan::layer_bytes(1, context)) + " more"));
  CHECK(in_use(gpu) == before);
  CHECK(works(gpu));
}

TEST_CASE("device: caches take what the plan says, and give it back") {
  if (no_gpu("device: caches take what the plan says")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  const std::uint64_t before = in_use(gpu);
  for (const std::int64_t context : {1, 163, 164, 1'000, 100'000}) {
    Caches<SmallPlan, Cuda> caches(gpu, context, 2);
    const std::uint64_t bytes = static_cast<std::uint64_t>(SmallPlan::cache_bytes(context, 2));
    const std::uint64_t taken = in_use(gpu) - before;
    CHECK(taken >= bytes);
    // The pool rounds each of the 6 blocks up, to no more than 2 MiB.
    CHECK(taken <= bytes + 6 * (std::uint64_t{2} << 20));
  }
  CHECK(in_use(gpu) == before);
}

TEST_CASE("device: a failed call is told once, with its place") {
  if (no_gpu("device: a failed call is told once")) return;
  const std::string message = refusal([] { check_cuda(cudaSetDevice(1'000'000)); });
  CHECK(contains(message, "invalid device ordinal"));
  CHECK(contains(message, "device_memory_test.cu:"));
  CHECK(cudaGetLastError() == cudaSuccess);
}

}  // namespace
