#!/usr/bin/env python3
"""Every source is as clang-format 14 writes it. Another version would differ, so it is not asked."""

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDERS = ("include", "tests", "examples", "bench")
SUFFIXES = (".hpp", ".cuh", ".cpp", ".cu")


def clang_format():
    for name in ("clang-format-14", "clang-format"):
        path = shutil.which(name)
        if path and re.search(r"version 14\.", subprocess.run(
                [path, "--version"], capture_output=True, text=True).stdout):
            return path
    return None


def main():
    sources = [str(path.relative_to(ROOT)) for folder in FOLDERS
               for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    tool = clang_format()
    if not sources:
        print("no source found: that is a failure\n0 passed, 1 failed, 0 skipped")
        sys.exit(1)
    if not tool:
        print("SKIP format: no clang-format 14 here\nkvring-skipped: format\n"
              "0 passed, 0 failed, 1 skipped")
        return
    done = subprocess.run([tool, "--dry-run", "-Werror", *sources], cwd=ROOT, capture_output=True,
                          text=True)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if ": error:" in line})
    for name in wrong:
        print(f"FAIL  {name}: run clang-format -i on it")
    if done.returncode and not wrong:
        print(done.stderr)
    print(f"{len(sources)} files, {len(wrong)} not formatted")
    right = done.returncode == 0
    print(f"{int(right)} passed, {int(not right)} failed, 0 skipped")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
