// The conformance suite: what kvring promises, asked of a plan of yours, with your shapes and, if
// you like, your kernels. A file of your doctest tests needs two lines:
//   #include "kvring/testing/conformance.hpp"
//   KVRING_CONFORMANCE_SUITE(MyPlan);
// In a .cu file the same line also tests the GPU; where there is none, those cases are skipped and
// counted (report_skip). docs/testing.md says what each case asks.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>

#include "kvring/testing/conformance_attention.hpp"
#include "kvring/testing/conformance_memory.hpp"
#include "kvring/testing/conformance_plan.hpp"
#include "kvring/testing/conformance_rewind.hpp"
#include "kvring/testing/conformance_sequences.hpp"
#if defined(__CUDACC__)
#include "kvring/testing/conformance_cuda.cuh"
#endif

namespace kvring::testing::conformance {

/// The cases of a suite; a plan's kinds of layer one after the other.
template <Backend B, class PlanType, class Kernels = LibraryKernels>
struct Cases {
  template <class Kind>
  using Of = Subject<PlanType, Kind, Kernels, B>;

  static void plan(const B& b) { plan_is_allocator<PlanType>(b); }
  static void layers(const B& b) { layers_and_donors<PlanType, Kernels>(b); }
  static void append(const B& b) {
    for_each_kind([&]<class S>(S) { appends<S>(b); });
  }
  static void edges(const B& b) {
    for_each_kind([&]<class S>(S) { boundaries<S>(b); });
  }
  static void sight(const B& b) {
    for_each_kind([&]<class S>(S) { who_sees_what<S>(b); });
  }
  static void scores(const B& b) {
    for_each_kind([&]<class S>(S) { large_scores<S>(b); });
  }
  static void chunking(const B& b) {
    for_each_kind([&]<class S>(S) { chunks<S>(b); });
  }
  static void full(const B& b) {
    for_each_kind([&]<class S>(S) {
      ring_is_full<S>(b);
      staged_is_full<S>(b);
    });
  }
  static void start(const B& b) {
    for_each_kind([&]<class S>(S) { any_start<S>(b); });
  }
  static void nan(const B& b) {
    for_each_kind([&]<class S>(S) { poison<S>(b); });
  }
  static void batch(const B& b) {
    for_each_kind([&]<class S>(S) { batch_neighbours<S>(b); });
  }
  static void rewind(const B& b) {
    legality<PlanType>();
    for_each_kind([&]<class S>(S) { rewinds<S>(b); });
  }
  static void drafts(const B& b) {
    for_each_kind([&]<class S>(S) { rejected_drafts<S>(b); });
  }
  static void copies(const B& b) { snapshot_and_fork<PlanType, Kernels>(b); }

  static void run(const char* suite, const char* name, void (*test)(const B&)) {
    if (const char* reason = why_not<B>()) return report_skip(name, reason);
    const Covering covering_this(suite);
    covering()->kinds = PlanType::kinds;
    test(B{});
  }

 private:
  template <class F>
  static void for_each_kind(F f) {
    for (int kind = 0; kind < PlanType::kinds; ++kind) {
      PlanType::with_kind(kind, [&](auto of) {
        using S = Of<typename decltype(of)::type>;
        const std::int64_t window = S::window, ring = S::ring;
        CAPTURE(kind);
        CAPTURE(window);
        CAPTURE(ring);
        f(S{});
      });
    }
  }
};

}  // namespace kvring::testing::conformance

#define KVRING_CONFORMANCE_CASE_(what, function, suite, backend, ...)          \
  TEST_CASE(suite ": " what* ::doctest::test_suite(suite)) {                   \
    using Cases = ::kvring::testing::conformance::Cases<backend, __VA_ARGS__>; \
    Cases::run(suite, suite ": " what, &Cases::function);                      \
  }
#define KVRING_CONFORMANCE_CASES_(suite, ...)                                           \
  KVRING_CONFORMANCE_CASE_("plan = allocator", plan, suite, __VA_ARGS__)                \
  KVRING_CONFORMANCE_CASE_("layers and donors", layers, suite, __VA_ARGS__)             \
  KVRING_CONFORMANCE_CASE_("append", append, suite, __VA_ARGS__)                        \
  KVRING_CONFORMANCE_CASE_("boundaries", edges, suite, __VA_ARGS__)                     \
  KVRING_CONFORMANCE_CASE_("who sees what", sight, suite, __VA_ARGS__)                  \
  KVRING_CONFORMANCE_CASE_("large scores", scores, suite, __VA_ARGS__)                  \
  KVRING_CONFORMANCE_CASE_("chunked = per token = whole", chunking, suite, __VA_ARGS__) \
  KVRING_CONFORMANCE_CASE_("ring = full = staged", full, suite, __VA_ARGS__)            \
  KVRING_CONFORMANCE_CASE_("any start", start, suite, __VA_ARGS__)                      \
  KVRING_CONFORMANCE_CASE_("poison", nan, suite, __VA_ARGS__)                           \
  KVRING_CONFORMANCE_CASE_("batch neighbours", batch, suite, __VA_ARGS__)               \
  KVRING_CONFORMANCE_CASE_("rewind", rewind, suite, __VA_ARGS__)                        \
  KVRING_CONFORMANCE_CASE_("rejected drafts", drafts, suite, __VA_ARGS__)               \
  KVRING_CONFORMANCE_CASE_("snapshot and fork", copies, suite, __VA_ARGS__)             \
  static_assert(true)

/// KVRING_CONFORMANCE_SUITE(Plan) or KVRING_CONFORMANCE_SUITE(Plan, Kernels): registers the suite
/// on the host, and under nvcc on the GPU as well. Both are names of types without a comma.
#if defined(__CUDACC__)
#define KVRING_CONFORMANCE_SUITE(...)                                              \
  KVRING_CONFORMANCE_CASES_(#__VA_ARGS__ " on host", ::kvring::Host, __VA_ARGS__); \
  KVRING_CONFORMANCE_CASES_(#__VA_ARGS__ " on cuda", ::kvring::Cuda, __VA_ARGS__)
#else
#define KVRING_CONFORMANCE_SUITE(...) \
  KVRING_CONFORMANCE_CASES_(#__VA_ARGS__ " on host", ::kvring::Host, __VA_ARGS__)
#endif

/// The same on one back end: KVRING_CONFORMANCE_SUITE_ON(kvring::Cuda, MyPlan);
#define KVRING_CONFORMANCE_SUITE_ON(backend, ...) \
  KVRING_CONFORMANCE_CASES_(#__VA_ARGS__ " on " #backend, backend, __VA_ARGS__)
