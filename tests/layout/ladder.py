#!/usr/bin/env python3
"""The include ladder, enforced by reading includes. ladder.txt holds the order; the rules are here.

    ladder.py [--root DIR]     check include/kvring under DIR (default: this repository)
    ladder.py --self-test      shows that every rule can fail
"""

import argparse
import fnmatch
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)


def read_ladder(path):
    """[(section, pattern)] in order."""
    section, rungs = None, []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            rungs.append((section, line))
    return rungs


def rung_of(name, rungs):
    """Index of the line that names a header such as kernels/append.hpp, or None."""
    bare = re.sub(r"\.(hpp|cuh)$", "", name)
    for index, (_, pattern) in enumerate(rungs):
        if pattern in (bare, name):
            return index
    for index, (_, pattern) in enumerate(rungs):
        if "*" in pattern and fnmatch.fnmatchcase(bare, pattern):
            return index
    return None


def blank(text):
    """The text without comments and strings, so that words in them don't count."""
    return COMMENT_OR_STRING.sub(" ", text)


def faults_of(name, text, headers, rungs):
    """What is wrong with one header, as sentences."""
    own = rung_of(name, rungs)
    if own is None:
        yield "no line of tests/layout/ladder.txt names it"
        return
    section = rungs[own][0]
    code = blank(text)

    if not re.search(r"^#pragma once$", text, re.M):
        yield "has no #pragma once"
    for kind, included in INCLUDE.findall(text):
        if kind == '"' or included.startswith("kvring/"):
            if kind == "<" or not included.startswith("kvring/"):
                yield f'includes {included}: write "kvring/..."'
                continue
            target = included.removeprefix("kvring/")
            if target not in headers:
                yield f"includes {included}, which does not exist"
                continue
            rung = rung_of(target, rungs)
            if rung is None:
                continue  # reported for that header
            same_pattern = rung == own and "*" in rungs[own][1] and target != name
            if rung >= own and not same_pattern:
                yield f"includes {included}, which is no earlier line of the ladder"
        else:
            if section == "policy" and re.search(r"[/.]|^cuda|^nv", included):
                yield f"is a policy header and includes <{included}>: only the standard library"
            if included.startswith("fmt/") and not name.startswith("report"):
                yield f"includes <{included}>: only report headers may"
            if included.startswith("doctest") and section != "testing":
                yield f"includes <{included}>: only testing/ may"
            if included.startswith("nlohmann/") and section != "io":
                yield f"includes <{included}>: only io/ and programs may"
            if re.match(r"CLI/|benchmark/", included):
                yield f"includes <{included}>: only programs may"
    if "<<<" in code and not name.startswith("kernels/launch"):
        yield "writes <<<: only kernels/launch may"
    if re.search(r"\b(asm|__asm__|__asm)\b", code) and not name.startswith("arch/"):
        yield "writes asm: only arch/ may"


def circles(headers):
    """Headers that include themselves, through others or not."""
    edges = {name: [i.removeprefix("kvring/") for kind, i in INCLUDE.findall(text) if kind == '"']
             for name, text in headers.items()}
    for start in edges:
        seen, todo = set(), list(edges[start])
        while todo:
            name = todo.pop()
            if name == start:
                yield start
                break
            if name not in seen:
                seen.add(name)
                todo += edges.get(name, [])


def check(folder, rungs, say=print):
    """(passed, failed), one for each header."""
    headers = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
               for path in sorted(folder.rglob("*")) if path.suffix in (".hpp", ".cuh")}
    in_circle = set(circles(headers))
    passed = failed = 0
    for name, text in headers.items():
        faults = list(faults_of(name, text, headers, rungs))
        if name in in_circle:
            faults.append("includes itself in a circle")
        for fault in faults:
            say(f"FAIL  kvring/{name}: {fault}")
        passed += not faults
        failed += bool(faults)
    known = {index for name in headers if (index := rung_of(name, rungs)) is not None}
    for index, (_, pattern) in enumerate(rungs):
        if "*" not in pattern and index not in known:
            say(f"FAIL  tests/layout/ladder.txt names {pattern}, which does not exist")
            failed += 1
    return passed, failed


def self_test():
    rungs = [("policy", "config"), ("policy", "units"), ("memory", "cache"), ("arch", "arch/*"),
             ("kernels", "kernels/launch"), ("kernels", "kernels/*"), ("report", "report*")]
    good = {
        "config.hpp": "#include <cstdint>\n",
        "units.hpp": '#include "kvring/config.hpp"\n',
        "cache.hpp": '#include <thrust/device_vector.h>\n#include "kvring/units.hpp"\n',
        "arch/mma.cuh": 'inline void f() { asm volatile(""); }\n',
        "kernels/launch.cuh": "void f() { g<<<1, 1>>>(); }\n",
        "kernels/append.hpp": "// no <<< and no asm here\n",
        "kernels/attend.hpp": '#include "kvring/kernels/append.hpp"\n',
        "report.hpp": "#include <fmt/format.h>\n",
    }
    bad = {
        "later rung": ("config.hpp", '#include "kvring/units.hpp"\n'),
        "later section": ("units.hpp", '#include "kvring/cache.hpp"\n'),
        "unknown header": ("surprise.hpp", ""),
        "missing header": ("units.hpp", '#include "kvring/nothing.hpp"\n'),
        "policy sees CUDA": ("units.hpp", "#include <cuda_bf16.h>\n"),
        "policy sees libcu++": ("units.hpp", "#include <cuda/std/span>\n"),
        "policy sees Thrust": ("units.hpp", "#  include <thrust/fill.h>\n"),
        "policy sees Eigen": ("units.hpp", "#include <Eigen/Core>\n"),
        "policy sees OpenMP": ("units.hpp", "#include <omp.h>\n"),
        "fmt outside report": ("cache.hpp", "#include <fmt/core.h>\n"),
        "a test's file": ("cache.hpp", '#include "skip.hpp"\n'),
        "relative include": ("kernels/attend.hpp", '#include "append.hpp"\n'),
        "angle brackets": ("cache.hpp", "#include <kvring/units.hpp>\n"),
        "chevrons": ("kernels/append.hpp", "void f() { g<<<1, 1>>>(); }\n"),
        "asm": ("kernels/append.hpp", 'void f() { asm(""); }\n'),
        "circle": ("kernels/append.hpp", '#include "kvring/kernels/attend.hpp"\n'),
        "no pragma once": ("cache.hpp", None),
        "a line without a header": ("units.hpp", False),
    }
    passed = failed = 0
    for case, (name, text) in {"all good": (None, ""), **bad}.items():
        files = {file: "#pragma once\n" + body for file, body in good.items()}
        if text is None:
            files[name] = ""
        elif text is False:
            del files[name]
            files["cache.hpp"] = "#pragma once\n"
        elif name:
            files[name] = "#pragma once\n" + text
        with tempfile.TemporaryDirectory() as root:
            for file, body in files.items():
                path = pathlib.Path(root) / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(body, encoding="utf-8")
            said = []
            _, faults = check(pathlib.Path(root), rungs, said.append)
        right = (faults == 0) == (name is None)
        passed += right
        failed += not right
        print(f"{'ok  ' if right else 'FAIL'}  self-test {case}: {'; '.join(said) or 'no fault'}")
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--root", type=pathlib.Path, default=HERE.parent.parent)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()

    if options.self_test:
        passed, failed = self_test()
    else:
        passed, failed = check(options.root / "include" / "kvring", read_ladder(HERE / "ladder.txt"))
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
