#!/usr/bin/env python3
"""Gemma 3 270M on the host or a GPU, by kvring-generate: load, prefill, decode, memory.

    generate.py [--device host|cuda] [--bin DIR] [--model F] [--repeat N] [--out F]

The prompt is the beginning of the GNU GPL 3, whose ids are in tests/data/real. Each figure is the best
of --repeat runs, all runs are kept in the JSON file (default bench/results/DEVICE-DATE.json). Run it
on a machine that does nothing else: the load average before the run is written down too. Without a git
repository, the environment's KVRING_COMMIT is taken for the commit.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT, STEPS, SHORT = 5313, 64, 700


def prompt_ids():
    data = (ROOT / "tests/data/real/gemma3-270m-gpl3.safetensors").read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    entry = json.loads(data[8:8 + size])["ids"]
    begin, end = entry["data_offsets"]
    code, width = {"I32": ("i", 4), "I64": ("q", 8)}[entry["dtype"]]
    return list(struct.unpack_from(f"<{(end - begin) // width}{code}", data, 8 + size + begin))


def output_of(*command):
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine(programs, device):
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    compiler = ""
    cache = programs.parent / "CMakeCache.txt"
    if cache.exists():
        found = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache.read_text(), re.M)
        compiler = output_of(found[1], "--version").split("\n")[0] if found else ""
    name = cpu[1] if cpu else os.uname().machine
    if device == "cuda":
        name = output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").split("\n")[0]
    return {
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": output_of("git", "rev-parse", "HEAD") or os.environ.get("KVRING_COMMIT", ""),
        "changed_files": len(output_of("git", "status", "--porcelain", "-uno").splitlines()),
        "compiler": compiler,
        "load_average": os.getloadavg()[0],
    }


def generate(options, folder, ids, tokens, *more):
    """One run of kvring-generate: its JSON, without the ids, and its peak memory."""
    prompt, result = folder / "ids.json", folder / "result.json"
    prompt.write_text(json.dumps(ids))
    command = [options.bin / "kvring-generate", "--model", options.model, "--ids", prompt, "--tokens",
               tokens, "--json", result, "--device", options.device, *more]
    with open(os.devnull, "wb") as nothing, open(folder / "err.txt", "wb") as err:
        child = subprocess.Popen(list(map(str, command)), stdin=nothing, stdout=nothing, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit((folder / "err.txt").read_text())
    out = json.loads(result.read_text())
    seconds = out["seconds"]
    return {
        "path": out["path"], "chunk": out["chunk"], "cache": out["cache"],
        "prompt_tokens": len(ids), "decode_steps": out["decode_steps"], "seconds": seconds,
        "prefill_tokens_per_second": len(ids) / seconds["prefill"],
        "decode_tokens_per_second": out["decode_steps"] / seconds["decode"],
        "peak_bytes": usage.ru_maxrss * 1024,
        "cache_bytes": out["cache_bytes"], "scratch_bytes": out["scratch_bytes"],
    }


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--device", choices=["host", "cuda"], default="host")
    parser.add_argument("--bin", type=pathlib.Path)
    parser.add_argument("--model", default=os.environ.get("KVRING_GEMMA3"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cache", default="f32")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    if not options.model:
        sys.exit("name the model: --model, or KVRING_GEMMA3")
    options.bin = (options.bin or ROOT / "build" / options.device / "bin").resolve()

    ids = prompt_ids()
    report = machine(options.bin, options.device)
    if report["load_average"] > 0.5:
        print(f"the load average is {report['load_average']:.1f}: figures will be too low")
    runs = {"long": [], "short": [], "short_per_token": []}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for _ in range(options.repeat):
            cache = ("--cache", options.cache)
            runs["long"].append(generate(options, folder, ids[:PROMPT], STEPS + 1, *cache))
            runs["short"].append(generate(options, folder, ids[:SHORT], 1, *cache))
        runs["short_per_token"].append(
            generate(options, folder, ids[:SHORT], 1, "--chunk", 1, *cache))

    def best(name, figure):
        return max(run[figure] for run in runs[name])
    chunked = best("short", "prefill_tokens_per_second")
    per_token = best("short_per_token", "prefill_tokens_per_second")
    report["figures"] = {
        "load_seconds": min(run["seconds"]["load"] for run in runs["long"]),
        "prefill_tokens_per_second": best("long", "prefill_tokens_per_second"),
        "decode_tokens_per_second": best("long", "decode_tokens_per_second"),
        "peak_bytes": best("long", "peak_bytes"),
        "short_prefill_tokens_per_second": chunked,
        "per_token_prefill_tokens_per_second": per_token,
        "chunked_over_per_token": chunked / per_token,
    }
    report["runs"] = runs
    out = options.out or ROOT / "bench/results" / f"{options.device}-{report['date'][:10]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['device']}, {report['cores']} cores, {report['compiler']}")
    for name, value in report["figures"].items():
        print(f"{name:38} {value:>15,.2f}")
    print(out)


if __name__ == "__main__":
    main()
