// The sweep that the tensor-core kernels have to pass, for a kind of attention and an element type.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "device_attention.cuh"
#include "kvring/kernels/attend_mma.cuh"

namespace kvring::test {

/// Ring is the type of the storage; the slots of a case come at run time, as they do for a cache
/// whose context is shorter than its ring.
template <class P, Heads H>
struct Attention {
  using Policy = P;
  static constexpr Heads heads = H;
  static constexpr std::int64_t window = P::window;
  using Storage = std::conditional_t<window == unbounded, Full, Ring<64>>;

  static std::string name(const char* type) {
    const std::string seen =
        window == unbounded ? std::string("causal") : "W " + std::to_string(window);
    return std::string(type) + " hd " + std::to_string(H.dim) + " " + std::to_string(H.q) + "/" +
           std::to_string(H.kv) + " " + seen;
  }
};

template <class T>
constexpr const char* element_name() {
  return std::is_same_v<T, f32> ? "f32" : std::is_same_v<T, f16> ? "f16" : "bf16";
}

/// The kernel under test, as the sweeps call it.
struct Prefill {
  static constexpr std::int64_t most_rows = 9000;
  template <class P, class View>
  void operator()(const Cuda& gpu, P policy, View view, Batch batch,
                  const typename View::Element* q, typename View::Element* out, Scores score) {
    attend_mma(gpu, policy, view, batch, q, out, score);
  }
};

struct SweepTally {
  int cases = 0;
  Shares shares;
};

/// Under a sanitizer, which is a hundred times slower: few cases of short prompts. With "run" they
/// are run, and not compared.
inline std::string small_sweep() {
  const char* small = std::getenv("KVRING_SMALL_SWEEP");
  return small == nullptr ? "" : small;
}

/// Lengths, chunks, sequences, slots and scores that follow from the seed.
template <class A, class T, class Kernel>
void random_attention(const Cuda& gpu, Kernel kernel, std::uint64_t seed, SweepTally& tally) {
  constexpr Heads heads = A::heads;
  using Prompt = DevicePrompt<heads, T>;
  Random random(seed);
  const Scores score{.scale = static_cast<float>((0.2 + 2 * random.unit()) /
                                                 std::sqrt(static_cast<double>(heads.dim))),
                     .softcap = random.between(0, 3) == 0 ? 5.0f : 0.0f};
  std::vector<float> host_sinks;
  for (std::int64_t h = 0; h < heads.q; ++h) host_sinks.push_back(3 * random.signed_unit());
  const auto sinks = to_device(gpu, host_sinks);
  Scores with_sinks = score;
  if (random.between(0, 3) == 0) with_sinks.sinks = sinks.data();

  // Keys times rows is what a case costs: few rows far in, or many rows near the start.
  const double budget = 2e9 / static_cast<double>(heads.q_dim());
  const std::int64_t sequences = random.between(1, 4);
  std::vector<Prompt> prompts;
  std::vector<DevicePiece<heads, T>> pieces;
  std::int64_t most_slots = 1, needed = 1;
  for (std::int64_t s = 0; s < sequences; ++s) {
    const std::int64_t length = random.log_between(1, !small_sweep().empty() ? 300 : 9000);
    const std::int64_t seen = std::min(A::window, length);
    const auto affordable = static_cast<std::int64_t>(budget / 4 / static_cast<double>(seen));
    const std::int64_t rows = random.log_between(
        1, std::clamp<std::int64_t>(affordable, 1, std::min(length, Kernel::most_rows)));
    prompts.emplace_back(gpu, seed * 8 + static_cast<std::uint64_t>(s), length,
                         random.between(0, 1) ? 3.0f : 1.0f);
    most_slots = std::max(most_slots, length);
    if constexpr (A::window != unbounded) needed = std::max(needed, A::window - 1 + rows);
    pieces.push_back({.sequence = s, .prompt = nullptr, .start = length - rows, .rows = rows});
  }
  std::int64_t slots = most_slots;  // a full cache
  if (A::window != unbounded && random.between(0, 3) != 0) {
    slots = round_up(needed, 64) + 64 * random.between(0, 2);
  }
  PoisonedCache<heads, T, typename A::Storage> cache(gpu, sequences, slots);
  for (std::size_t s = 0; s < pieces.size(); ++s) {
    pieces[s].prompt = &prompts[s];
    cache.fill(pieces[s], A::window);
  }
  std::reverse(pieces.begin(), pieces.end());  // a launch need not be in the caches' order
  DeviceLaunch<heads, T> launch(gpu, pieces);
  kernel(gpu, typename A::Policy{}, cache.view(), launch.batch(), launch.q.data(),
         launch.out.data(), with_sinks);
  check_cuda(cudaGetLastError());
  for (std::size_t i = 0; i < pieces.size() && small_sweep() != "run"; ++i) {
    compare_with_reference<heads, T>(
        gpu, pieces[i], A::window, with_sinks,
        launch.out.data() + launch.host_segments[i].first_row * heads.q_dim(), tally.shares);
  }
  ++tally.cases;
}

template <class A, class T, class Kernel>
void sweep(Kernel kernel, std::uint64_t seed, int cases) {
  const Stream stream;
  SweepTally tally;
  if (!small_sweep().empty()) cases = small_sweep() == "run" ? 1 : 2;
  for (int i = 0; i < cases; ++i) {
    random_attention<A, T>(stream.backend(), kernel, seed * 1000 + static_cast<std::uint64_t>(i),
                           tally);
  }
  const std::string name = A::name(element_name<T>());
  CAPTURE(name);
  CHECK(tally.cases == cases);
  CHECK(tally.shares.wrong == 0);
  if (small_sweep().empty()) {
    CHECK(tally.shares.compared > 0);
    CHECK(tally.shares.worst > 0.02);  // a bound that nothing comes near would prove nothing
  }
  MESSAGE(name, ": ", tally.cases, " cases, ", tally.shares.compared, " values, the worst at ",
          tally.shares.worst, " of what is allowed");
}

/// All rows of a prompt, `chunk` at a time through a cache of `slots` slots in which only what the
/// chunk may see is not NaN. With `neighbour`, each launch has the rows of another prompt before.
template <class A, class T, class Kernel>
std::vector<T> by_chunks(const Cuda& gpu, Kernel kernel, const DevicePrompt<A::heads, T>& prompt,
                         std::int64_t first, std::int64_t chunk, std::int64_t slots, Scores score,
                         const DevicePrompt<A::heads, T>* neighbour = nullptr) {
  constexpr Heads heads = A::heads;
  PoisonedCache<heads, T, typename A::Storage> cache(gpu, 2, slots);
  std::vector<T> all;
  for (std::int64_t p = first; p < prompt.length(); p += chunk) {
    cache.poison();
    std::vector<DevicePiece<heads, T>> pieces;
    if (neighbour != nullptr) {
      const std::int64_t rows = std::min<std::int64_t>(1 + p % 13, Kernel::most_rows);
      pieces.push_back({0, neighbour, neighbour->length() - rows, rows});
    }
    pieces.push_back({1, &prompt, p, std::min(chunk, prompt.length() - p)});
    for (const auto& piece : pieces) cache.fill(piece, A::window);
    DeviceLaunch<heads, T> launch(gpu, pieces);
    kernel(gpu, typename A::Policy{}, cache.view(), launch.batch(), launch.q.data(),
           launch.out.data(), score);
    const std::vector<T> out = to_host(gpu, launch.out);
    all.insert(all.end(), out.begin() + launch.host_segments.back().first_row * heads.q_dim(),
               out.end());
  }
  return all;
}

/// The same bits for any chunk, in a ring or a full cache, beside others, and again.
template <class A, class T, class Kernel>
void invariance(Kernel kernel, std::uint64_t seed, std::int64_t length, std::int64_t first,
                const std::vector<std::int64_t>& chunks) {
  const Stream stream;
  const Cuda gpu = stream.backend();
  const DevicePrompt<A::heads, T> prompt(gpu, seed, length), other(gpu, seed + 1, 3 * length / 4);
  const Scores score{.scale = 0.1f};
  const std::int64_t whole = std::min(length - first, chunks.back());
  const auto right = by_chunks<A, T>(gpu, kernel, prompt, first, whole, length, score);
  const std::string name = A::name(element_name<T>());
  CAPTURE(name);
  for (const std::int64_t chunk : chunks) {
    CAPTURE(chunk);
    std::int64_t slots = length;
    if (A::window != unbounded)
      slots = round_up(A::window - 1 + std::max(chunk, std::int64_t{13}), 64);
    CHECK(differing_bytes(by_chunks<A, T>(gpu, kernel, prompt, first, chunk, slots, score),
                          right) == 0);
    CHECK(differing_bytes(by_chunks<A, T>(gpu, kernel, prompt, first, chunk, slots, score, &other),
                          right) == 0);
  }
}

}  // namespace kvring::test
