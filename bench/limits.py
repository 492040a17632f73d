#!/usr/bin/env python3
"""What is busy while a tuned kernel runs, by Nsight Compute's counters.

    limits.py [--bin DIR] [--out F]

Runs one launch of each row under ncu: the rate of each unit in percent of the most it could do. Needs ncu
and the right to read counters. bench/report.py puts F (default bench/results/limits.json) into
docs/performance.md. The clocks are left alone.
"""

import argparse
import csv
import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNITS = {
    "tensor cores": "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "shared memory": "l1tex__data_pipe_lsu_wavefronts.avg.pct_of_peak_sustained_elapsed",
    "exponentials": "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_elapsed",
    "f32 units": "sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "issue": "sm__inst_issued.avg.pct_of_peak_sustained_elapsed",
    "L2": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "DRAM": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
}
# (program, row)
ROWS = [("prefill", f"prefill/hd={dim}/heads={heads}/{seen}/length=8192") for dim, heads, seen in (
    (64, "32:8", "causal"), (96, "32:8", "causal"), (128, "32:8", "causal"), (256, "8:2", "causal"),
    (512, "8:2", "causal"), (256, "8:2", "window=512"), (64, "64:8", "window=128"))] + [
    ("wgmma", f"wgmma/hd={dim}/heads={heads}/{seen}/length=8192") for dim, heads, seen in (
    (128, "32:8", "causal"), (256, "8:2", "causal"), (512, "8:2", "causal"), (256, "8:2", "window=512"))] + [
    ("decode", "decode/hd=256/heads=8:2/window=512/length=32768/batch=1"),
    ("decode", "decode/hd=256/heads=8:2/window=512/length=32768/batch=128"),
    ("decode", "decode/hd=128/heads=32:8/causal/length=32768/batch=1"),
    ("append", "fused_append/hd=256/heads=8:2/rows=4096"),
    ("simt", "simt/hd=128/heads=32:8/causal/length=4096")]


def read(text):
    """{unit: percent} of the one launch in ncu's table."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    found = {}
    for row in csv.DictReader(lines):
        for unit, metric in UNITS.items():
            if row.get("Metric Name") == metric:
                try:
                    found[unit] = float(row["Metric Value"].replace(",", ""))
                except ValueError:
                    pass
    return found


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "bench")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "limits.json")
    options = parser.parse_args()
    if not shutil.which("ncu"):
        sys.exit("no ncu here")
    rows = {}
    for program, name in ROWS:
        done = subprocess.run(
            ["ncu", "--csv", "--clock-control", "none", "--kernel-name", "regex:run_kernel", "--launch-skip", "4",
             "--launch-count", "1", "--kill", "yes", "--metrics", ",".join(UNITS.values()), options.bin / f"bench-{program}",
             f"--benchmark_filter=^{re.escape(name)}/"], capture_output=True, text=True, timeout=120)
        rows[name] = read(done.stdout)
        if not rows[name]:
            print(name, "no counters:", (done.stdout + done.stderr).strip()[-300:])
        print(name, " ".join(f"{unit} {value:.0f}%" for unit, value in rows[name].items()), flush=True)
    options.out.write_text(json.dumps({"units": list(UNITS), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
