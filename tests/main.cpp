// main() of every test executable. It ends with one line, `N passed, N failed, N skipped`, counted
// in test cases, and fails if no test case was selected: doctest alone would call that a success.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "skip.hpp"

namespace {

struct Tally {
  int passed = 0, failed = 0, skipped = 0;
};
Tally tally;

/// Counts test cases as they end.
struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions&) {}

  void test_case_start(const doctest::TestCaseData&) override { kvring::test::skipped = false; }

  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!stats.testCaseSuccess) {
      ++tally.failed;
    } else if (kvring::test::skipped) {
      ++tally.skipped;
    } else {
      ++tally.passed;
    }
  }

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("kvring", 1, Counter);

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit()) return result;  // a query such as --list-test-cases

  const bool ran_none = tally.passed + tally.failed + tally.skipped == 0;
  if (ran_none) {
    std::printf("no test case was selected: that is a failure\n");
    tally.failed = 1;
  }
  std::printf("%d passed, %d failed, %d skipped\n", tally.passed, tally.failed, tally.skipped);
  return ran_none ? 1 : result;
}
