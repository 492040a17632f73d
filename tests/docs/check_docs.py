#!/usr/bin/env python3
"""README.md and docs/ say what is true.

    check_docs.py [--jobs N] [--no-compile]

Checked:
  rules    docs/checks.md and checks.hpp list the same rules, in the same order, with the same messages;
           each rule has a case in tests/compile_fail that bears its name, and the page names every case
  blocks   every block ```cpp compiles with g++ -std=c++20 -fsyntax-only -I include; a block that is
           only a part of a program follows <!-- after block N -->, the N-th of its page
  outputs  every block that follows <!-- printed by FILE --> or <!-- printed by block N --> is what that program
           prints, line by line, but for the lines left out
  excerpts every block that follows <!-- from FILE --> is lines of that file, in their order, but for `...`
  reports  every block that follows <!-- compiled from FILE with FLAGS --> is what g++ prints, line by
           line, but for the lines left out and the numbers of lines and columns
  ladder   the block that follows <!-- tests/layout/ladder.txt --> is that file without its comments, on fewer lines
  paths    every path in backticks, and every link, leads to a file of this repository
  length   no page is longer than 250 lines, and each page of docs/ begins with what its reader will be able to do
  traps    docs/traps.md has a row for each of 38 traps: its test exists, on the back ends and for the element
           types that the row says, or the case of tests/compile_fail that it names
  pictures those of docs/pictures are what its draw.py makes of the library's numbers
  figures  tables and plots of docs/performance.md are what bench/report.py makes of bench/results

Ends with one line: N passed, N failed, N skipped.
"""

import argparse
import concurrent.futures
import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INCLUDE = ROOT / "include"
CHECKS = INCLUDE / "kvring" / "checks.hpp"
CASES = ROOT / "tests" / "compile_fail"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

COMPILER = [os.environ.get("CXX", "g++"), "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
            "-fdiagnostics-color=never", "-fmessage-length=0", "-I", "include"]

# Where a path in the text may begin: a reader knows headers by their names.
FOLDERS = (ROOT, INCLUDE, INCLUDE / "kvring")
SUFFIXES = r"(?:hpp|cuh|cpp|cu|py|sh|md|txt|json|cmake|in|safetensors)"
PATH = re.compile(rf"^\.?\w[\w.*-]*(?:/[\w.*-]+)*(?:/|\.{SUFFIXES})$|"
                  r"^(?:include|tests|examples|bench|cmake|docs|build)/[\w./*-]+$")
MADE_BY_COMMANDS = ("build/", "bench/results/")  # not in a fresh clone


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def judge(self, what, reason):
        """`reason` is why it fails, or None."""
        self.passed += reason is None
        self.failed += reason is not None
        print(f"ok    {what}" if reason is None else f"FAIL  {what}: {reason}", flush=True)

    def skip(self, what, reason):
        self.skipped += 1
        print(f"SKIP  {what}: {reason}", flush=True)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def blocks(page):
    """(line number, what stands behind the fence, the line before it, text) of each block."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = None
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
        else:
            before = next((l for l in reversed(lines[:start - 1]) if l.strip()), "")
            yield start, lines[start - 1][3:].strip(), before.strip(), "\n".join(lines[start:number - 1])
            start = None
    if start is not None:
        yield start, "never closed", "", ""


def prose(page):
    """The text without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def difference(wanted, has):
    """Why two lists are not the same, or None."""
    if wanted == has and wanted:
        return None
    lacks, more = sorted(set(wanted) - set(has)), sorted(set(has) - set(wanted))
    return f"missing {lacks}, too many {more}" if lacks or more else "in another order, or empty"


def run(command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace", cwd=ROOT,
                          env={**os.environ, "LC_ALL": "C"})
    return done.returncode, done.stdout + done.stderr


# --- rules ----------------------------------------------------------------------------------------

def rules_in_code():
    """[(name, message)] in the order of checks.hpp."""
    text = CHECKS.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^struct (\w+) \{\n(.*?)^\};", text, re.M | re.S):
        message = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', match[2]))
        found.append((match[1], message))
    return found


def rules_in_page(page):
    """[(name, message, its section)]: a heading `### Name`, then the message as a quotation."""
    found = []
    for section in re.split(r"^### ", page.read_text(encoding="utf-8"), flags=re.M)[1:]:
        name, _, rest = section.partition("\n")
        quoted = re.findall(r"^> (.*)$", rest, re.M)
        found.append((name.strip(), " ".join(quoted), rest))
    return found


def check_rules(tally):
    code, page = rules_in_code(), rules_in_page(ROOT / "docs" / "checks.md")
    names = [name for name, _ in code]
    tally.judge("docs/checks.md lists the rules of checks.hpp in their order",
                difference(names, [name for name, _, _ in page]))
    messages = dict(code)
    named = set()
    for name, message, text in page:
        if name not in messages:
            continue
        tally.judge(f"docs/checks.md: message of {name}",
                    None if message == messages[name] else
                    f"`{message}` on the page, `{messages[name]}` in checks.hpp")
        cases = set(re.findall(r"`tests/compile_fail/(\w+)\.cpp`", text))
        named |= cases
        case = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        lacks = [what for what in ("**Cause**", "**Cure**") if what not in text]
        tally.judge(f"docs/checks.md: cause, cure and case of {name}",
                    f"no {' and no '.join(lacks)}" if lacks else
                    f"tests/compile_fail/{case}.cpp does not exist"
                    if not (CASES / f"{case}.cpp").exists() else
                    None if case in cases else f"does not name tests/compile_fail/{case}.cpp")
    there = {path.stem for path in CASES.glob("*.cpp")}
    tally.judge("docs/checks.md names every case of tests/compile_fail",
                difference(sorted(there), sorted(named)))


# --- blocks and reports ---------------------------------------------------------------------------

def without_positions(line):
    return re.sub(r":\d+:\d+:", ":", line).strip()


def stray_line(shown, whole):
    """The first line of an excerpt that the whole does not have, in this order, or None."""
    lines, at = [line.strip() for line in whole.splitlines()], 0
    for line in (line.strip() for line in shown.splitlines()):
        if not line or line == "...":
            continue
        if line not in lines[at:]:
            return line
        at = lines.index(line, at) + 1
    return None


def compile_block(item):
    page, line, text = item
    code, report = run([*COMPILER, "-x", "c++", "-"], text)
    return f"{name_of(page)}:{line}: the block compiles", None if code == 0 else report[:2000]


def compare_output(item):
    page, line, program, shown = item
    what = f"{name_of(page)}:{line}: what a program prints"
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "program.cpp"
        source.write_text(program, encoding="utf-8")
        binary = str(pathlib.Path(folder) / "program")
        code, report = run([COMPILER[0], "-std=c++20", "-O2", "-I", "include", str(source), "-o", binary])
        if code == 0:
            code, report = run([binary])
    if code != 0:
        return what, report[:2000] or f"it exits with {code}"
    stray = stray_line(shown, report)
    return what, None if stray is None else f"it does not print (or not in this order) `{stray}`"


def compare_report(item):
    page, line, flags, file, text = item
    code, report = run([*COMPILER, *flags.split(), file])
    printed = [without_positions(l) for l in report.splitlines()]
    shown = [without_positions(l) for l in text.splitlines() if l.strip() and l.strip() != "..."]
    at, reason = 0, None if shown else "it is empty"
    for wanted in shown:
        if wanted not in printed[at:]:
            reason = f"g++ does not print (or not in this order) `{wanted}`"
            break
        at = printed.index(wanted, at) + 1
    if code == 0:
        reason = f"{file} compiles with {flags}"
    return f"{name_of(page)}:{line}: what g++ says of {file} {flags}", reason


def check_blocks(tally, jobs):
    programs, reports, outputs, others = [], [], [], 0
    for page in PAGES:
        of_page = []
        for line, info, before, text in blocks(page):
            if info == "cpp":
                of_page.append(text)
            after = re.fullmatch(r"<!-- after block (\d+) -->", before)
            if after:
                text = of_page[int(after[1]) - 1] + "\n" + text
            printed = re.fullmatch(r"<!-- printed by (?:block (\d+)|(\S+)) -->", before)
            if printed:
                outputs.append((page, line, of_page[int(printed[1]) - 1] if printed[1] else
                                (ROOT / printed[2]).read_text(encoding="utf-8"), text))
            excerpt = re.fullmatch(r"<!-- from (\S+) -->", before)
            if excerpt:
                stray = stray_line(text, (ROOT / excerpt[1]).read_text(encoding="utf-8"))
                tally.judge(f"{name_of(page)}:{line}: an excerpt of {excerpt[1]}",
                            None if stray is None else f"that file has no such line, or earlier: `{stray}`")
            if info == "never closed":
                tally.judge(f"{name_of(page)}:{line}: the block ends", "it does not")
            elif info == "cpp":
                programs.append((page, line, text))
            elif info.startswith("cpp"):
                others += 1
            made = re.fullmatch(r"<!-- compiled from (\S+) with (.+) -->", before)
            if made:
                reports.append((page, line, made[2], made[1], text))
    tally.judge("there are blocks to compile", None if programs and reports else "there are none")
    tally.judge("every block of C++ is compiled", None if others == 0 else f"{others} are marked otherwise")
    if jobs == 0 or not shutil.which(COMPILER[0]):
        tally.skip(f"{len(programs)} blocks, {len(outputs)} outputs and {len(reports)} reports",
                   "--no-compile" if jobs == 0 else f"no {COMPILER[0]} here")
        return
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for work, items in ((compile_block, programs), (compare_output, outputs)):
            for verdict in pool.map(work, items):
                tally.judge(*verdict)
        if "g++" not in os.path.basename(COMPILER[0]):
            tally.skip(f"{len(reports)} reports", f"they are g++'s, and CXX is {COMPILER[0]}")
            return
        for verdict in pool.map(compare_report, reports):
            tally.judge(*verdict)


# --- the ladder, paths, lengths -------------------------------------------------------------------

def check_ladder(tally):
    ladder = ROOT / "tests" / "layout" / "ladder.txt"
    wanted = re.sub(r"#.*", "", ladder.read_text(encoding="utf-8")).split()
    shown = [text for page in PAGES for _, _, before, text in blocks(page)
             if before == "<!-- tests/layout/ladder.txt -->"]
    tally.judge("the page that shows the ladder", "there is none" if len(shown) != 1 else None)
    for text in shown:
        tally.judge("the ladder is that of tests/layout/ladder.txt",
                    difference(wanted, text.split()))


def exists(path):
    if path.startswith(MADE_BY_COMMANDS):
        return True
    return any(glob.glob(str(folder / path)) for folder in FOLDERS)


def check_paths(tally):
    for page in PAGES:
        text = prose(page)
        said = [word for quoted in re.findall(r"`([^`\n]+)`", text) for word in quoted.split()[:1]]
        lost = sorted({path for path in said if PATH.match(path) and not exists(path)})
        links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", text)
        lost += sorted({link for link in links if not re.match(r"https?:", link)
                        and not (page.parent / link).exists()})
        count = sum(bool(PATH.match(path)) for path in said) + len(links)
        tally.judge(f"{name_of(page)}: {count} paths and links", f"no {', no '.join(lost)}" if lost else None)


def check_lengths(tally):
    for page in PAGES:
        lines = len(page.read_text(encoding="utf-8").splitlines())
        tally.judge(f"{name_of(page)}: {lines} lines", None if lines <= 250 else "more than 250")


FIRST_WORDS = ("After this page you can ", "After this page you know ")


def check_first_sentences(tally):
    for page in PAGES[1:]:
        lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.strip()]
        tally.judge(f"{name_of(page)}: the page begins with what its reader will be able to do",
                    None if len(lines) > 1 and lines[0].startswith("# ") and lines[1].startswith(FIRST_WORDS)
                    else f"its first words are not `{FIRST_WORDS[0].strip()}`")


# --- traps ----------------------------------------------------------------------------------------

TRAPS = 38
ELEMENTS = {"f32", "f16", "bf16"}
# What a kernel of the GPU must be tested with, by the type that stands for it in the list of a test.
GPU_ELEMENTS = {"mma": {"f16", "bf16"}, "wgmma": {"f16", "bf16"}, "wgmma512": {"f16", "bf16"}, "decode": {"f16", "bf16"}, "simt": {"f32"},
                "rows": ELEMENTS}


def trap_tests():
    """{number: (names, element types on the host, {back end of the GPU: element types})} of all tests."""
    tests = {}
    for path in [*(ROOT / "tests").glob("*/*_test.cpp"), *(ROOT / "tests").glob("*/*_test.cu")]:
        for match in re.finditer(r'TEST_CASE(?:_TEMPLATE)?\(\s*"(device )?(trap_(\d\d)_\w+)"\s*(?:,\s*\w+\s*,([^{]*?))?\)\s*\{',
                                 path.read_text(encoding="utf-8")):
            names, host, gpu = tests.setdefault(int(match[3]), (set(), {}, {}))
            names.add(match[2])
            types = [word.strip() for word in (match[4] or "").split(",") if word.strip()]
            if path.suffix == ".cpp":
                host.setdefault(match[2], set()).update(types)
                continue
            for word in types:
                kernel = re.fullmatch(r"(\w+)<(\w+)>", word)
                end, element = (kernel[1].lower(), kernel[2]) if kernel else ("rows", word)
                gpu.setdefault(end, set()).add(element)
    return tests


def wrong_with_trap(number, named, host, gpu, tests):
    """Why a row of the table is not true, or None."""
    cases = re.findall(r"`tests/compile_fail/(\w+)\.cpp`", named)
    for case in cases:
        if not (CASES / f"{case}.cpp").exists():
            return f"tests/compile_fail/{case}.cpp does not exist"
    name = re.search(r"`(trap_(\d\d)_\w+)`", named)
    if not name:
        return None if cases and not host and not gpu else "it names neither a test nor a case that proves it cannot occur"
    names, on_host, on_gpu = tests.get(number, (set(), {}, {}))
    if int(name[2]) != number or name[1] not in names:
        return f"there is no test {name[1]}"
    if set(host) != on_host.get(name[1], set()):
        return f"host {sorted(host)} in the row, {sorted(on_host.get(name[1], set()))} in the test"
    if set(gpu) != set(on_gpu):
        return f"GPU {sorted(gpu)} in the row, {sorted(on_gpu)} in the tests"
    for end, elements in on_gpu.items():
        if elements != GPU_ELEMENTS.get(end):
            return f"{end} is tested with {sorted(elements)}, not {sorted(GPU_ELEMENTS.get(end, []))}"
    return None


def check_traps(tally):
    tests = trap_tests()
    numbers = []
    for line in (ROOT / "docs" / "traps.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or not cells[0].isdigit():
            continue
        numbers.append(int(cells[0]))
        host, gpu = ([word for word in cell.split() if word != "–"] for cell in cells[4:])
        tally.judge(f"docs/traps.md: trap {cells[0]}", wrong_with_trap(numbers[-1], cells[3], host, gpu, tests))
    tally.judge(f"docs/traps.md has a row for each of {TRAPS} traps",
                difference(sorted(range(1, TRAPS + 1)), sorted(numbers)))


def check_pictures(tally, compiles):
    if not compiles or not shutil.which(COMPILER[0]):
        tally.skip("docs/pictures", "--no-compile" if not compiles else f"no {COMPILER[0]} here")
        return
    code, report = run([sys.executable, "docs/pictures/draw.py", "--check"])
    tally.judge("docs/pictures are what draw.py makes", report.strip() or "it fails" if code else None)


def check_figures(tally):
    if not list((ROOT / "bench" / "results").glob("device-*.json")):
        tally.skip("figures of docs/performance.md", "no results of bench/device.sh")
        return
    code, report = run([sys.executable, "bench/report.py", "--check"])
    tally.judge("docs/performance.md shows what bench/results hold", report.strip() or "it fails" if code else None)


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    tally = Tally()
    check_rules(tally)
    check_ladder(tally)
    check_paths(tally)
    check_lengths(tally)
    check_first_sentences(tally)
    check_traps(tally)
    check_figures(tally)
    check_pictures(tally, not options.no_compile)
    check_blocks(tally, 0 if options.no_compile else max(1, options.jobs))
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


if __name__ == "__main__":
    main()
