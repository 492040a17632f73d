#!/usr/bin/env python3
"""The compile-fail gate: what must not compile fails for the stated reason, and its twin compiles.

A case is a file *.cpp beside this script. It begins with

    // expect: WORDS     the words of a static assertion; they must stand on its error line
    // also: WORDS       optional: words (say, both numbers) anywhere in the compiler's report

in any number, on consecutive lines. A case passes if
  1. the compiler refuses it, and every `expect` stands on a line that says "error: static assertion
     failed" (an error of another kind, a typo say, does not count), and every `also` in the report;
  2. the same file with -DKVRING_FIXED, its twin, compiles without a warning.

Compilers: g++ always, nvcc where there is one. Neither is let to echo the source, so that words in a
comment of the case cannot match.

    gate.py [--compiler g++|nvcc] [--jobs N] [FILE...]
    gate.py --self-test      shows that the gate refuses cases that fail for another reason
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
INCLUDE = HERE.parent.parent / "include"
HEADING = re.compile(r"//\s*(expect|also):\s*(.+?)\s*$")
ASSERTION = re.compile(r"error:? (#\d+-?D?: )?static assertion failed")


def commands():
    """How each compiler runs its front end, and only that, without echoing source lines."""
    gxx = os.environ.get("CXX", "g++")
    found = {
        "g++": [gxx, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                "-fno-diagnostics-show-caret", "-fdiagnostics-color=never", "-fmessage-length=0"],
    }
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc:
        # -ptx stops after the device compiler, whose front end reads all of the file.
        found["nvcc"] = [nvcc, "-x", "cu", "-std=c++20", "-arch=sm_90a", "-ptx", "-o", os.devnull,
                         "-Werror", "all-warnings", "-Xcudafe", "--brief_diagnostics"]
    return found


def headings(path):
    """The expect and also lines that a case begins with."""
    wanted = {"expect": [], "also": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = HEADING.match(line)
        if not match:
            break
        wanted[match[1]].append(match[2])
    return wanted


def compile_it(command, path, *more):
    done = subprocess.run([*command, f"-I{INCLUDE}", *more, str(path)], capture_output=True,
                          text=True, errors="replace", env={**os.environ, "LC_ALL": "C"})
    return done.returncode, done.stdout + done.stderr


def judge(command, path):
    """Why the case fails the gate, or None if it passes."""
    wanted = headings(path)
    if not wanted["expect"]:
        return "its first line is not `// expect: WORDS`"

    code, report = compile_it(command, path)
    if code == 0:
        return "it compiles, and must not"
    errors = [line for line in report.splitlines() if ASSERTION.search(line)]
    for words in wanted["expect"]:
        if not any(words in line for line in errors):
            return f"no static assertion failed with the words `{words}`; the report was\n{report}"
    for words in wanted["also"]:
        if words not in report:
            return f"the report lacks the words `{words}`; it was\n{report}"

    code, report = compile_it(command, path, "-DKVRING_FIXED")
    if code != 0:
        return f"its twin (-DKVRING_FIXED) does not compile:\n{report}"
    return None


def run_gate(compilers, paths, jobs):
    passed = failed = 0
    work = [(name, command, path) for name, command in compilers.items() for path in paths]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        verdicts = pool.map(lambda item: judge(item[1], item[2]), work)
        for (name, _, path), reason in zip(work, verdicts):
            if reason is None:
                passed += 1
                print(f"ok    {name:4} {path.name}")
            else:
                failed += 1
                print(f"FAIL  {name:4} {path.name}: {reason}")
    return passed, failed


SELF_TEST = {
    # name: (must pass the gate, source)
    "true_case": (True, '''// expect: kvring: ring too short
// also: 1024
template <long Have, long Need>
struct RingHolds { static_assert(Have >= Need, "kvring: ring too short: lengthen it"); };
#ifdef KVRING_FIXED
template struct RingHolds<1279, 1279>;
#else
template struct RingHolds<1024, 1279>;
#endif
'''),
    "typo_instead": (False, '''// expect: kvring: ring too short
#ifndef KVRING_FIXED
itn x = 0;  // static assertion failed: kvring: ring too short
#endif
'''),
    "typo_whose_error_line_has_the_words": (False, '''// expect: kvring: ring too short
#ifndef KVRING_FIXED
#error kvring: ring too short
#endif
'''),
    "another_assertion": (False, '''// expect: kvring: ring too short
#ifndef KVRING_FIXED
static_assert(false, "kvring: chunk below 1");  // kvring: ring too short
#endif
'''),
    "words_on_another_line": (False, '''// expect: kvring: ring too short
#ifndef KVRING_FIXED
[[deprecated("kvring: ring too short")]] inline void f() {}
inline void g() { f(); }
static_assert(false, "kvring: chunk below 1");
#endif
'''),
    "it_compiles": (False, '''// expect: kvring: ring too short
static_assert(true, "kvring: ring too short");
'''),
    "twin_is_broken": (False, '''// expect: kvring: ring too short
static_assert(false, "kvring: ring too short");
'''),
    "number_is_missing": (False, '''// expect: kvring: ring too short
// also: 1279
#ifndef KVRING_FIXED
static_assert(false, "kvring: ring too short");
#endif
'''),
    "no_expectation": (False, '''#ifndef KVRING_FIXED
static_assert(false, "kvring: ring too short");
#endif
'''),
}


def self_test(compilers):
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for case, (must_pass, source) in SELF_TEST.items():
            path = pathlib.Path(folder) / f"{case}.cpp"
            path.write_text(source, encoding="utf-8")
            for name, command in compilers.items():
                reason = judge(command, path)
                right = (reason is None) == must_pass
                passed += right
                failed += not right
                said = "accepted" if reason is None else "refused"
                print(f"{'ok  ' if right else 'FAIL'}  {name:4} self-test {case}: {said}")
                if not right and reason:
                    print(reason)
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--compiler", choices=["g++", "nvcc"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()

    compilers = commands()
    if options.compiler:
        if options.compiler not in compilers:
            sys.exit(f"gate.py: no {options.compiler} here")
        compilers = {options.compiler: compilers[options.compiler]}

    if options.self_test:
        passed, failed = self_test(compilers)
    else:
        paths = options.files or sorted(HERE.glob("*.cpp"))
        if not paths:
            print("no case found: that is a failure")
        passed, failed = run_gate(compilers, paths, options.jobs)
        failed += not paths
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
