#!/usr/bin/env python3
"""The suite on the own model: green with right kernels, and red with each wrong one.

    run.py CONSUMER

CONSUMER is the program that CMakeLists.txt builds. Prints which cases caught each mistake, and ends
with one line: N passed, N failed, N skipped.
"""

import concurrent.futures
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

# As kernels.hpp names them.
MISTAKES = ["absolute index", "window one short", "window one long", "mask on slots",
            "stale slots attended", "padding appended", "longest length for all", "last tile forgotten",
            "heads dealt in turn", "another sequence", "softmax without maximum", "masked by 0",
            "no causal mask", "one window for all rows", "append truncates", "bits follow the chunk"]
RIGHT = [("kvring's kernels", "Plan on host", ""), ("own kernels", "Plan, Kernels on host", ""),
         ("own kernels, within the tolerance", "Plan, LooseKernels on host", "bits follow the chunk")]


def run(suite, mistake):
    """({case: passed}, what the suite covered, why it is not known what failed or None)."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [sys.argv[1], f"--test-suite={suite.replace(',', chr(92) + ',')}", "--reporters=xml",
                   f"--out={report.name}"]
        done = subprocess.run(command, env={**os.environ, "OWN_MISTAKE": mistake}, capture_output=True,
                              text=True, errors="replace", timeout=300)
        covered = next((l for l in done.stdout.splitlines() if l.startswith("conformance of")), "")
        try:
            tree = xml.etree.ElementTree.parse(report.name)
        except xml.etree.ElementTree.ParseError as error:
            return {}, covered, f"exit code {done.returncode}, no report: {error}"
    cases = {case.get("name").partition(": ")[2]:
             case.find("OverallResultsAsserts").get("test_case_success") == "true"
             for case in tree.iter("TestCase") if case.find("OverallResultsAsserts") is not None}
    return cases, covered, None if cases else "no test case ran"


def main():
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        right = [(name, pool.submit(run, suite, mistake)) for name, suite, mistake in RIGHT]
        wrong = [(name, pool.submit(run, "Plan, Kernels on host", name)) for name in MISTAKES]
        count = None
        for name, result in right:
            cases, covered, reason = result.result()
            count = count or len(cases)  # every suite has the same cases
            red = [case for case, green in cases.items() if not green]
            good = reason is None and not red and len(cases) == count
            passed += good
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'}  {name}: {len(cases)} cases" +
                  (f", {len(red)} failed: {'; '.join(red)}" if red else "") + (reason or ""))
            print(f"      {covered}")
        print("\nwrong kernel | caught by")
        for name, result in wrong:
            cases, _, reason = result.result()
            red = [case for case, green in cases.items() if not green]
            # A mistake must not keep cases from running: a crash tells nobody what is wrong.
            good = reason is None and red and len(cases) == count
            passed += bool(good)
            failed += not good
            print(f"{name} | {'; '.join(red) or 'NOTHING'}" +
                  ("" if good else f" <- FAIL: {reason or 'it survived'}"))
    print(f"\n{passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
