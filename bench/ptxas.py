#!/usr/bin/env python3
"""Registers, spills, shared memory and compile time of the tuned kernels; needs nvcc and no GPU.

    ptxas.py [--out F] [--arch 90a --arch 80] [--no-times]

Compiles bench/ptxas/kernels.cu for each architecture, reads ptxas -v, and times the compilation of each
program of bench/ that holds kernels. bench/report.py puts F (default bench/results/ptxas.json) into
docs/performance.md.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNITS = ["prefill", "wgmma", "decode", "append", "simt"]
# Shared memory of an SM and threads it holds: CUDA C++ Programming Guide, compute capabilities.
SM = {"80": (164 * 1024, 2048), "86": (100 * 1024, 1536), "89": (100 * 1024, 1536), "90": (228 * 1024, 2048),
      "100": (228 * 1024, 2048), "120": (100 * 1024, 1536)}


def nvcc(*arguments):
    done = subprocess.run(["nvcc", "-std=c++20", "-O3", "-Iinclude", "-Ibench", *map(str, arguments)],
                          cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stderr


def target(arch):
    return ["-gencode", f"arch=compute_{arch},code=sm_{arch}"]


def demangled(names):
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def kernel_of(function):
    """`Kernel` of void kvring::detail::run_kernel<Kernel>(Kernel::Params)."""
    found = re.match(r"void kvring::detail::run_kernel<(.*)>\(", function)
    return "" if not found else re.sub(r"\s+", "", found[1])


def report_of(stderr):
    """{kernel: {registers, spills}}"""
    found = {}
    parts = re.split(r"Compiling entry function '(\w+)'", stderr)[1:]
    for name, function, text in zip(parts[::2], demangled(parts[::2]), parts[1::2]):
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", text)
        registers = re.search(r"Used (\d+) registers", text)
        if registers and spills:
            found[kernel_of(function) or name] = {"registers": int(registers[1]), "spills": int(spills[1])}
    return found


def blocks_per_sm(arch, registers, threads, shared):
    shared_of_sm, threads_of_sm = SM[arch.rstrip("a")]
    by_registers = 65536 // (math.ceil(registers / 8) * 8 * 32) // (threads // 32)
    return min(by_registers, shared_of_sm // (shared + 1024), threads_of_sm // threads, 32)


def kernels(arch, folder):
    program = folder / f"kernels-{arch}"
    told = nvcc(*target(arch), "-Xptxas", "-v", "bench/ptxas/kernels.cu", "-o", program)
    if re.search(r"\(C75\d\d\)", told):
        sys.exit("ptxas waits for each wgmma where several should be under way:\n" + told[:3000])
    compiled = report_of(told)
    told = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        label, threads, shared, kernel = line.split("\t")
        one = compiled.get(re.sub(r"\s+", "", kernel))
        if one is None:
            sys.exit(f"ptxas -v says nothing of {kernel}\nonly of\n" + "\n".join(compiled))
        yield label, {**one, "threads": int(threads), "shared": int(shared),
                      "blocks": blocks_per_sm(arch, one["registers"], int(threads), int(shared))}


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "ptxas.json")
    parser.add_argument("--arch", action="append")
    parser.add_argument("--no-times", action="store_true")
    options = parser.parse_args()
    version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    report = {"compiler": "nvcc " + re.search(r"V([\d.]+)", version)[1], "archs": options.arch or ["90a", "80"],
              "seconds": {}, "kernels": []}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for arch in report["archs"]:
            for label, one in kernels(arch, folder):
                rows.setdefault(label, {"kernel": label})[arch] = one
                print(f"{label:42} sm_{arch:4}", " ".join(f"{key} {value}" for key, value in one.items()), flush=True)
        report["kernels"] = list(rows.values())
        for unit in [] if options.no_times else UNITS:
            begin = time.monotonic()
            nvcc(*target("90a"), "-c", f"bench/{unit}.cu", "-o", folder / "unit.o")
            report["seconds"][f"bench/{unit}.cu"] = round(time.monotonic() - begin, 1)
            print(f"bench/{unit}.cu: {report['seconds'][f'bench/{unit}.cu']} s", flush=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    spilling = sum(one[arch]["spills"] > 0 for one in rows.values() for arch in report["archs"] if arch in one)
    print(f"{spilling} of them spill; written to {options.out}")


if __name__ == "__main__":
    main()
