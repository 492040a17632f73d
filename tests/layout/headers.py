#!/usr/bin/env python3
"""Every header compiles alone, and quickly.

With g++: each .hpp by itself, included twice, all warnings as errors. Headers of the ladder's [policy]
section get no include path but ours, so they need neither CUDA nor CCCL nor Eigen; they must also
compile within 1.5 s, the best of a few tries. With nvcc, where there is one: each section's headers,
.hpp and .cuh, in one translation unit (its start-up would cost more than all the rest), without those
for the host alone, which are the ones that include fmt or Eigen: nvcc cannot read fmt 9 as C++20, nor
Eigen 3.4 without warnings. Last, two units that include every .hpp must link: a
function that is not inline would be defined twice.

    headers.py [--cccl DIR] [--jobs N] [--no-nvcc] [--table FILE]
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
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import ladder

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INCLUDE = ROOT / "include"
POLICY_SECONDS = 1.5
TRIES = 5
LIBRARIES = ["-fopenmp", "-DTHRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_OMP",
             "-isystem", "/usr/include/eigen3"]


def gxx_command(policy, cccl):
    command = [os.environ.get("CXX", "g++"), "-std=c++20", "-Wall", "-Wextra", "-Werror",
               f"-I{INCLUDE}", "-x", "c++", "-c", "-O2", "-o", os.devnull]
    if not policy:
        command += LIBRARIES + (["-isystem", str(cccl)] if cccl else [])
    return command


def compile_alone(command, header):
    """(seconds, report, right) of a translation unit that includes the header twice."""
    source = f'#include "kvring/{header}"\n#include "kvring/{header}"\n'
    start = time.monotonic()
    done = subprocess.run([*command, "-"], input=source, capture_output=True, text=True,
                          errors="replace")
    return time.monotonic() - start, done.stderr, done.returncode == 0


def host_only(header, seen=None):
    """Does the header include fmt or Eigen, itself or through others of ours?"""
    seen = seen if seen is not None else set()
    seen.add(header)
    path = INCLUDE / "kvring" / header
    if not path.exists():
        return False
    included = [name for _, name in ladder.INCLUDE.findall(path.read_text(encoding="utf-8"))]
    if any(name.startswith(("fmt/", "Eigen/")) for name in included):
        return True
    ours = [name.removeprefix("kvring/") for name in included if name.startswith("kvring/")]
    return any(host_only(name, seen) for name in ours if name not in seen)


def nvcc_unit(nvcc, section, headers, folder):
    path = folder / f"{section}.cu"
    path.write_text("".join(f'#include "kvring/{name}"\n' for name in headers), encoding="utf-8")
    command = [nvcc, "-std=c++20", "-arch=sm_90a", f"-I{INCLUDE}", "-isystem", "/usr/include/eigen3",
               "-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror", "-c", str(path),
               "-o", str(folder / f"{section}.o")]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return time.monotonic() - start, done.stdout + done.stderr, done.returncode == 0


def link_two_units(cccl, headers):
    """(seconds, report, right) of a program of two units that include everything."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        units = [pathlib.Path(folder) / "one.cpp", pathlib.Path(folder) / "two.cpp"]
        text = "".join(f'#include "kvring/{name}"\n' for name in headers)
        units[0].write_text(text, encoding="utf-8")
        units[1].write_text(text + "int main() {}\n", encoding="utf-8")
        command = [os.environ.get("CXX", "g++"), "-std=c++20", f"-I{INCLUDE}", "-DFMT_HEADER_ONLY",
                   *LIBRARIES, *(["-isystem", str(cccl)] if cccl else [])]
        done = subprocess.run([*command, *map(str, units), "-o", str(units[0].with_suffix(".out"))],
                              capture_output=True, text=True, errors="replace")
    return time.monotonic() - start, done.stderr, done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--cccl", type=pathlib.Path, default=os.environ.get("KVRING_CCCL_INCLUDE"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-nvcc", action="store_true")
    parser.add_argument("--table", type=pathlib.Path, help="also write the table of seconds here")
    options = parser.parse_args()

    rungs = ladder.read_ladder(ROOT / "tests" / "layout" / "ladder.txt")
    found = [path.relative_to(INCLUDE / "kvring").as_posix()
             for path in sorted((INCLUDE / "kvring").rglob("*")) if path.suffix in (".hpp", ".cuh")]
    rung = {name: ladder.rung_of(name, rungs) for name in found}
    found.sort(key=lambda name: (rung[name] is None, rung[name] or 0, name))
    section = {name: "unlisted" if rung[name] is None else rungs[rung[name]][0] for name in found}
    passed = failed = 0
    rows = []

    def judge(what, seconds, report, right):
        nonlocal passed, failed
        passed += right
        failed += not right
        rows.append(f"{seconds:7.2f} s  {what}")
        print(f"{'ok  ' if right else 'FAIL'}  {seconds:6.2f} s  {what}", flush=True)
        if not right:
            print(report)

    # Policy headers one at a time, so that the seconds mean something.
    policy = [name for name in found if section[name] == "policy" and name.endswith(".hpp")]
    for name in policy:
        best = float("inf")
        for _ in range(TRIES):
            seconds, report, right = compile_alone(gxx_command(True, None), name)
            best = min(best, seconds)
            if not right or best <= POLICY_SECONDS:
                break
        judge(f"g++   kvring/{name}", best, report, right)
        slow = best > POLICY_SECONDS
        passed += not slow
        failed += slow
        if slow:
            print(f"FAIL  kvring/{name} takes {best:.2f} s, more than {POLICY_SECONDS} s")

    rest = [name for name in found if section[name] != "policy" and name.endswith(".hpp")]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        command = gxx_command(False, options.cccl)
        for name, result in zip(rest, pool.map(lambda name: compile_alone(command, name), rest)):
            judge(f"g++   kvring/{name}", *result)

        everything = [name for name in policy + rest if section[name] != "testing"]
        judge("g++   all headers in two units, linked",
              *link_two_units(options.cccl, everything))

        nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
        if nvcc and not options.no_nvcc:
            units = {}
            for name in found:
                if not host_only(name) and not name.startswith("testing/"):
                    units.setdefault(section[name], []).append(name)
            with tempfile.TemporaryDirectory() as folder:
                run = lambda item: nvcc_unit(nvcc, *item, pathlib.Path(folder))
                for (name, headers), result in zip(units.items(), pool.map(run, units.items())):
                    judge(f"nvcc  {len(headers)} headers of [{name}]", *result)

    if options.table:
        options.table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    if not found:
        print("no header found: that is a failure")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
