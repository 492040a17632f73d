// What a conformance suite covered, in numbers, printed when the run ends; and cases that could not
// run.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>

namespace kvring::testing::conformance {

/// Of one plan, with some kernels, on one back end.
struct Coverage {
  int cases = 0;
  long kinds = 0;                   // kinds of layer
  long plans = 0;                   // contexts and numbers of sequences whose bytes were counted
  long schedules = 0;               // ways in which a prompt was appended
  long appended = 0, attended = 0;  // rows
  long keys = 0;                    // seen by attended rows, all heads of a row as one
  long as_bits = 0, with_reference = 0;  // elements compared
  long exact = 0;                        // elements that must be 0, or must not
  long bytes = 0;                        // of caches, compared
  long refused = 0;                      // appends and rewinds that must be refused, and were
  double seconds = 0;
};

inline std::map<std::string, Coverage>& coverages() {
  static std::map<std::string, Coverage> all;
  return all;
}

/// The one that the running test case adds to.
inline Coverage*& covering() {
  static Coverage nothing;
  static Coverage* current = &nothing;
  return current;
}

/// Lives as long as a test case of the suite `name` runs.
class Covering {
 public:
  explicit Covering(const char* name) {
    covering() = &coverages()[name];
    ++covering()->cases;
  }
  Covering(const Covering&) = delete;
  Covering& operator=(const Covering&) = delete;
  ~Covering() {
    covering()->seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// Called once for each test case that cannot run here, before it returns. Yours may count it: what
/// was skipped has not passed.
inline void (*report_skip)(const char* name, const char* reason) =
    [](const char* name, const char* reason) { std::printf("SKIP %s: %s\n", name, reason); };

namespace detail {

/// Prints a paragraph for each suite that ran.
struct CoverageReport : doctest::IReporter {
  explicit CoverageReport(const doctest::ContextOptions&) {}

  void test_run_end(const doctest::TestRunStats&) override {
    for (const auto& [name, c] : coverages()) {
      std::printf(
          "conformance of %s: %d cases, %ld kinds of layer, %ld plans, %ld schedules; %ld rows "
          "appended, %ld "
          "attended, %ld keys in their sight; %ld elements compared as bits, %ld with the "
          "reference, %ld with 0; %ld bytes of caches; %ld refusals; %.1f s\n",
          name.c_str(), c.cases, c.kinds, c.plans, c.schedules, c.appended, c.attended, c.keys,
          c.as_bits, c.with_reference, c.exact, c.bytes, c.refused, c.seconds);
    }
    std::fflush(stdout);
  }

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

inline const int coverage_report =
    doctest::registerReporter<CoverageReport>("kvring conformance", 2, false);

}  // namespace detail
}  // namespace kvring::testing::conformance
