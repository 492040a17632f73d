#!/usr/bin/env python3
"""Tables and plots of docs/performance.md from bench/results.

    report.py [--check] [--results FILE]   write the parts of the page between markers, and the plots;
                                           --check only says whether they are what would be written
    report.py --join RAW [--out DIR]       what bench/device.sh ran, as one DIR/device-DATE.json, and a
                                           short table

The parts of the page stand between <!-- report: NAME --> and <!-- end of report -->.

A session that measured decode and append alone, after the one that measured everything, may stand in
results/decode-DATE.json, of the same form: those rows of the page, with their floors and peers, come from it.

The floor of a row is what the machine allows, measured in the same session: arithmetic at the rate of a
bf16 product of 8192 x 8192 x 8192, bytes at the rate of a copy of 1 GiB, and never less than the time of an
empty kernel. For f32 it is the rate of fused multiply-adds that the chip's clock allows.
"""

import argparse
import json
import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results"
PLOTS = {"length": ROOT / "docs" / "performance-length.svg", "floor": ROOT / "docs" / "performance-floor.svg"}
# TFLOP/s of fused multiply-adds in f32: 2 x 128 lanes x SMs x the highest clock.
F32_PEAK = {"NVIDIA H100 80GB HBM3": 66.9, "NVIDIA H200": 66.9}

# What was expected of these rows before there was a kernel, and the roof: what mma.sync alone (626 TFLOP/s), or
# the traffic between it and shared memory, would allow on an H100.
PREDICTED = {
    "prefill/hd=64/heads=32:8/causal/length=8192": (340, 340, 626),
    "prefill/hd=96/heads=32:8/causal/length=8192": (330, 340, 626),
    "prefill/hd=128/heads=32:8/causal/length=8192": (365, 375, 626),
    "prefill/hd=256/heads=8:2/causal/length=8192": (325, 340, 504),
    "prefill/hd=512/heads=8:2/causal/length=8192": (266, 290, 408),
    "prefill/hd=256/heads=8:2/window=512/length=8192": (215, 240, 504),
    "prefill/hd=256/heads=8:2/window=1024/length=8192": (250, 275, 504),
    "prefill/hd=128/heads=32:8/window=1024/length=8192": (320, 335, 626),
    "prefill/hd=64/heads=64:8/window=128/length=8192": (120, 135, 626),
    "decode/hd=256/heads=8:2/window=512/length=32768/batch=1": (7.0, 7.7, None),
    "decode/hd=256/heads=8:2/window=512/length=32768/batch=128": (47, 47, 44),
    "decode/hd=512/heads=8:2/causal/length=32768/batch=1": (47, 49, 44),
    "decode/hd=128/heads=32:8/causal/length=131072/batch=1": (180, 184, 176),
    "fused_append/hd=256/heads=8:2/rows=4096": (2600, 2600, 2980),
    "fused_append/hd=256/heads=8:2/rows=16384": (2750, 2750, 2980),
    "simt/hd=128/heads=32:8/causal/length=4096": (38, 42, 66.9),
    "e2e/Gemma4_E4B/decode=5313": (270, 320, 337),
}


# --- join -----------------------------------------------------------------------------------------

def load(path):
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}


def our_runs(raw):
    """{name: [counters of the first run, of the second]}"""
    found = {}
    for turn in (1, 2):
        for path in sorted(raw.glob(f"*-{turn}.json")):
            try:
                benchmarks = load(path).get("benchmarks", [])
            except ValueError:  # a program that died left half a file
                print(f"{path.name} is not whole: left out")
                continue
            for one in benchmarks:
                name = re.sub(r"/iterations:\d+|/manual_time", "", one["name"])
                if one.get("error_occurred"):
                    one = {"error": one["error_message"]}
                found.setdefault(name, []).append(one)
    return found


def field(name, key):
    found = re.search(rf"/{key}=([\d.:]+)", name)
    return found[1] if found else None


def decode_bytes(name):
    """What a decode step must read and write; None for ragged batches, which know it themselves."""
    if "ragged" in name:
        return None
    dim, (q, kv) = int(field(name, "hd")), map(int, field(name, "heads").split(":"))
    held = int(field(name, "window") or field(name, "length"))
    return int(field(name, "batch")) * (4 * held * kv * dim + 4 * q * dim)


def pairs(rows, window):
    window = min(window or rows, rows)
    return window * (window + 1) // 2 + (rows - window) * window


class Model:
    """What a token and a prompt cost at least; bf16."""

    def __init__(self, hidden, ffn, layers, q, kv, local, wide, window, owners, extra=0, extra_once=0):
        vocabulary = 262_144
        self.head = hidden * vocabulary
        self.blocks, self.attention = extra_once, []
        for i in range(layers):
            dim = wide if (i + 1) % 6 == 0 else local
            kv_weights = 2 * hidden * kv * dim if i < owners else 0
            self.blocks += 2 * hidden * q * dim + kv_weights + 3 * hidden * ffn + extra
            self.attention.append((dim, q, kv, 0 if (i + 1) % 6 == 0 else window))

    def prefill_flops(self, rows):
        return 2 * rows * self.blocks + 2 * self.head + sum(
            4 * dim * q * pairs(rows, window) for dim, q, _, window in self.attention)

    def decode_bytes(self, length):
        return 2 * (self.blocks + self.head) + sum(
            4 * min(window or length, length) * kv * dim for dim, _, kv, window in self.attention)


MODELS = {
    "Gemma4_E4B": Model(2560, 10_240, 42, 8, 2, 256, 512, 512, 24, extra=2 * 2560 * 256,
                        extra_once=2560 * 42 * 256),
    "Gemma3_270M": Model(640, 2048, 18, 4, 1, 256, 256, 512, 18),
}


def row_of(name, runs, ceilings):
    """Our row: values of both runs, and the floor in the row's unit."""
    good = [run for run in runs if "error" not in run]
    if not good:
        return {"name": name, "reason": runs[0]["error"]}
    row = {"name": name}
    for key in ("median_us", "graph_us", "row_us", "full_us", "ring_us", "parts", "copy_us", "copy_GB/s", "share_alone"):
        if key in good[0]:
            row[key] = [run[key] for run in good]
    kind = name.split("/")[0]
    copy, product, empty = (ceilings.get(key) for key in ("copy", "matmul", "empty_us"))
    if kind in ("prefill", "wgmma"):
        row.update(unit="TFLOP/s", ours=[run["TFLOP/s"] for run in good])
        row.update(floor=product, floor_by="bf16 product")
    elif kind == "simt":
        row.update(unit="TFLOP/s", ours=[run["TFLOP/s"] for run in good])
        row.update(floor=ceilings.get("f32"), floor_by="f32 peak")
    elif kind == "decode":
        row.update(unit="GB/s", ours=[run["GB/s"] for run in good], floor=copy, floor_by="copy")
        data = decode_bytes(name)
        if data and copy and empty and data / copy * 1e-3 < empty:
            row.update(floor=data / empty * 1e-3, floor_by="empty kernel")
    elif kind in ("append", "fused_append"):
        row.update(unit="GB/s", ours=[run["GB/s"] for run in good], floor_by="copy of the same bytes")
        row.update(floor=median(run["copy_GB/s"] for run in good))
    elif kind.startswith("ring_"):
        row.update(unit="slower than full", ours=[run["slower"] for run in good])
    elif kind == "copy":
        row.update(unit="GB/s", ours=[run["GB/s"] for run in good])
    else:
        row.update(unit="us", ours=row.pop("median_us"))
    return row


def end_to_end(raw, ceilings):
    for path in sorted(raw.glob("e2e-*.json")):
        one = load(path)
        model, prompt = one["model"], one["prompt"]
        cost = MODELS.get(model)
        chunk = "" if one["chunk"] > 1 else "/chunk=1"
        for what, key in (("prefill", "prefill_tokens_per_s"), ("decode", "decode_tokens_per_s")):
            if what == "decode" and chunk:
                continue
            row = {"name": f"e2e/{model}/{what}={prompt}{chunk}", "unit": "tokens/s",
                   "ours": [run[key] for run in one["runs"]],
                   "note": "random weights" if one["weights"] == "random" else "real weights"}
            if cost and what == "prefill" and "matmul" in ceilings:
                row["floor"] = prompt * ceilings["matmul"] * 1e12 / cost.prefill_flops(prompt)
                row["floor_by"] = "bf16 product"
            if cost and what == "decode" and "copy" in ceilings:
                row["floor"] = ceilings["copy"] * 1e9 / cost.decode_bytes(prompt + one["generate"] // 2)
                row["floor_by"] = "copy"
            yield row


def join(raw, out):
    peers, runs = load(raw / "peers.json"), our_runs(raw)
    context = next((load(path)["context"] for path in sorted(raw.glob("*-1.json")) if "context" in load(path)), {})
    machine = load(raw / "machine.json")
    date = peers.get("date") or context.get("date") or ""
    report = {"device": peers.get("device") or machine.get("device", ""),
              "driver": peers.get("driver") or machine.get("driver", ""), "date": date,
              "commit": machine.get("commit") or peers.get("commit", ""),
              "nvcc": machine.get("nvcc", "")}
    report["versions"] = {key: peers[key] for key in ("torch", "cudnn", "transformers") if key in peers}
    if "missing" in peers:
        report["versions"]["torch"] = peers["missing"]

    ceilings = {}
    for row in peers.get("rows", []):
        if row["name"].startswith("matmul") and "value" in row:
            ceilings["matmul"] = row["value"]
    if "copy/bytes=1GiB" in runs:
        ceilings["copy"] = median(run["GB/s"] for run in runs["copy/bytes=1GiB"])
    if "empty_kernel" in runs:
        ceilings["empty_us"] = median(run["median_us"] for run in runs["empty_kernel"])
    if report["device"] in F32_PEAK:
        ceilings["f32"] = F32_PEAK[report["device"]]
    report["ceilings"] = ceilings

    rows = [row_of(name, ours, ceilings) for name, ours in runs.items()]
    rows += end_to_end(raw, ceilings)
    by_name = {row["name"]: row for row in rows}
    for peer in peers.get("rows", []):
        row = by_name.get(peer["name"])
        if row is None:
            row = by_name[peer["name"]] = {"name": peer["name"]}
            rows.append(row)
        told = {key: value for key, value in peer.items() if key not in ("name", "peer")}
        row.setdefault("peers", {})[peer["peer"]] = told
        row.setdefault("unit", peer.get("unit", ""))
    for row in rows:
        if row.get("floor") and row.get("ours"):
            row["share"] = median(row["ours"]) / row["floor"]
        elif "floor" in row and row["floor"] is None:
            del row["floor"], row["floor_by"]
    report["build_seconds"] = {load(path)["name"]: load(path)["value"] for path in sorted(raw.glob("build-*.json"))}
    report["rows"] = rows
    file = out / f"device-{date[:10]}.json"
    file.write_text(json.dumps(rounded(report), indent=1) + "\n")
    print_short(report)
    print(file)


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def median(values):
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def commit_of(report):
    return report["commit"][:10] + (" with changes" if report["commit"].endswith("-dirty") else "")


def short_name(name):
    for long, short in (("length=", ""), ("heads=", ""), ("window=", "W"), ("hd=", "hd"), ("rows=", "rows ")):
        name = name.replace("/" + long, " " + short)
    return name


def print_short(report):
    print(f"{report['device']}, driver {report['driver']}, {report['date']}, commit {commit_of(report)}")
    rows = [row for row in report["rows"] if not is_prefill(row) or not is_plot_row(row)]
    for row in rows[:57]:
        values = row.get("ours", [])
        ours = " / ".join(f"{100 * value:+.2f}%" if "slower" in row["unit"] else number(value) for value in values)
        more = [ours or row.get("reason", "-"), row.get("unit", "")]
        more += [f"{number(median(row['median_us']))} us"] if row["name"].startswith("decode") and values else []
        more += [f"node {number(median(row['graph_us']))}"] if "graph_us" in row else []
        more += [f"{100 * row['share']:.0f}%"] if "share" in row else []
        peers = ", ".join(f"{name} {number(one['value'])}" if "value" in one else f"{name}: {one['reason'][:24]}"
                          for name, one in row.get("peers", {}).items())
        print(f"{short_name(row['name'])[:46]:46} {' '.join(more)} | {peers}"[:150])


# --- tables ---------------------------------------------------------------------------------------

def number(value):
    if value == 0 or not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def both(values):
    return " / ".join(dict.fromkeys(number(value) for value in values))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def peer_cell(row, *names):
    """The best of these peers, with its name if there are several; or why there is none."""
    found = {name: row["peers"][name] for name in names if name in row.get("peers", {})}
    good = {name: one["value"] for name, one in found.items() if "value" in one}
    if good:
        best = max(good, key=good.get)
        return number(good[best]) + (f" ({best})" if len(names) > 1 else "")
    return "refuses" if found else "-"


def share_cell(row):
    return f"{100 * row['share']:.0f}%" if "share" in row else "-"


def shape_of(name):
    what = [f"hd {field(name, 'hd')}", field(name, "heads").replace(":", "/")]
    window = field(name, "window")
    what.append(f"W {window}" if window else "causal")
    return ", ".join(what)


def tokens(text):
    return f"{int(text):,}" if text and text.isdigit() else text or ""


def is_prefill(row):
    return row["name"].startswith(("prefill", "wgmma"))


def is_plot_row(row):
    """Rows whose only use is the plot of time against length."""
    length = field(row["name"], "length") or "8192"  # a ragged batch has none
    return length not in ("8192", "16384") or (length == "16384" and field(row["name"], "hd") == "256")


def kinds(report, *wanted):
    return [row for row in report["rows"] if row["name"].split("/")[0] in wanted and "ours" in row]


def prefill_part(report):
    rows = [row for row in kinds(report, "prefill") if not is_plot_row(row)]
    hopper = {row["name"].replace("wgmma", "prefill"): both(row["ours"]) for row in kinds(report, "wgmma")}
    shares = {row["name"].replace("wgmma", "prefill"): share_cell(row) for row in kinds(report, "wgmma")}
    body = [[shape_of(row["name"]), tokens(field(row["name"], "length")) or "256 x 16-8,192", both(row["ours"]),
             hopper.get(row["name"], "-"), peer_cell(row, "flash"), peer_cell(row, "cudnn"), peer_cell(row, "flex"),
             peer_cell(row, "efficient"), " / ".join(share for share in (share_cell(row), shares.get(row["name"])) if share)]
            for row in rows]
    return table(["prefill", "tokens", "`attend_mma`", "sm_90a", "flash", "cuDNN", "flex", "efficient", "of a matrix product"], body)


def copy_share(row):
    """Of a copy of as many bytes, launched and timed as the row is; results before it was timed have none."""
    return f"; {100 * median(row['copy_us']) / median(row['median_us']):.0f}% of a copy of the same bytes" if "copy_us" in row else ""


def decode_part(report):
    body = []
    for row in kinds(report, "decode"):
        name = row["name"]
        body.append([shape_of(name) if "ragged" not in name else "hd 256, 8/4, W 1024, ragged",
                     tokens(field(name, "batch")), tokens(field(name, "length") or "1-8192"), both(row["median_us"]),
                     both(row["graph_us"]), both(row["ours"]), peer_cell(row, "flash", "cudnn", "flex", "efficient"),
                     (f"{share_cell(row)} of {row['floor_by']}" if "share" in row else "-") + copy_share(row)])
    return table(["decode", "batch", "tokens", "us by events", "us as graph node", "GB/s", "best peer, GB/s", "share"], body)


def rest_part(report):
    body = []
    for row in kinds(report, "fused_append", "append"):
        name = row["name"]
        body.append([f"{name.split('/')[0].replace('_', ' ')}, hd {field(name, 'hd')}, {field(name, 'heads').replace(':', '/')}, "
                     f"{tokens(field(name, 'rows'))} rows", both(row["ours"]) + " GB/s",
                     f"{share_cell(row)} of a copy of the same bytes; "
                     f"one call alone {both(row['median_us'])} us, {100 * median(row['share_alone']):.0f}%"])
    for row in kinds(report, "simt"):
        body.append([f"f32 prefill, {shape_of(row['name'])}, {tokens(field(row['name'], 'length'))} tokens",
                     both(row["ours"]) + " TFLOP/s", f"{share_cell(row)} of the f32 peak"])
    for row in kinds(report, "ring_prefill", "ring_wgmma", "ring_decode"):
        name = row["name"]
        what = "`attend_mma`" if "prefill" in name else "`attend_wgmma`" if "wgmma" in name else f"decode, batch {field(name, 'batch')}"
        body.append([f"{what}, {shape_of(name)}: ring over full", " / ".join(f"{100 * v:+.2f}%" for v in row["ours"]),
                     f"{both(row['ring_us'])} us, full {both(row['full_us'])} us"])
    return table(["work", "measured", "against"], body)


def models_part(report):
    body = []
    for row in kinds(report, "e2e"):
        _, model, what, *more = row["name"].split("/")
        what = what.replace("=", " at " if what.startswith("decode") else " of ")
        peer = row.get("peers", {}).get("transformers", {})
        value = peer.get("value")
        body.append([f"{model.replace('_', ' ')}, {row['note']}, {what}" + (", one token at a time" if more else ""),
                     both(row["ours"]), number(value) if value else peer.get("reason", "-"),
                     f"{median(row['ours']) / value:.1f}" if value else "-", share_cell(row)])
    return table(["model", "tokens/s", "transformers", "times", "of the floor"], body)


def label_of(name):
    kind = name.split("/")[0].replace("_", " ")
    if kind == "e2e":
        return " ".join(name.split("/")[1:]).replace("_", " ").replace("=", " ")
    if "ragged" in name:
        return "decode ragged, 1,024 sequences" if kind == "decode" else f"{kind}, {shape_of(name)}, ragged"
    if "append" in kind:
        return f"{kind}, hd {field(name, 'hd')}, {tokens(field(name, 'rows'))} rows"
    batch = f", batch {field(name, 'batch')}" if field(name, "batch") else ""
    return f"{kind}, {shape_of(name)}, {tokens(field(name, 'length'))}{batch}"


def predictions_part(report):
    body = []
    for row in report["rows"]:
        if row["name"] not in PREDICTED or "ours" not in row:
            continue
        low, high, roof = PREDICTED[row["name"]]
        is_time = row["name"].startswith("decode/")
        expected = number(low) if low == high else f"{number(low)}-{number(high)}"
        body.append([label_of(row["name"]), f"{expected} {'us' if is_time else row['unit']}",
                     both(row["median_us"] if is_time else row["ours"]), number(roof) if roof else "-"])
    return table(["row", "predicted", "measured", "roof"], body)


def refusals_part(report):
    lines = {}
    for row in report["rows"]:
        for peer, one in row.get("peers", {}).items():
            if "reason" in one:
                reason = next((part for part in one["reason"].split("; ")
                              if "runtime disabled" not in part and not part.endswith("because:")), one["reason"])
                dims = f"hd {field(row['name'], 'hd')}" if field(row["name"], "hd") else row["name"]
                lines.setdefault((peer, reason[:200]), []).append(dims)
    if not lines:
        return "No peer refused."
    return "\n".join(f"- {peer}, {', '.join(dict.fromkeys(dims))}: {reason}" for (peer, reason), dims in lines.items())


DECODE = ("decode", "fused_append", "append")


def with_decode_of(report, later):
    """The report with the rows of decode and append of a later session, whole: no row mixes sessions."""
    fresh = {row["name"]: row for row in kinds(later, *DECODE)}
    return report | {"rows": [fresh.get(row["name"], row) for row in report["rows"]]}


def source_part(report, file):
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    ceilings = report["ceilings"]
    text = (f"{report['device']}, driver {report['driver']}, {report['date'][:10]}, commit {commit_of(report)}; "
            f"{versions}. From `bench/results/{file.name}`.")
    if {"matmul", "copy", "empty_us"} <= set(ceilings):
        text += (f"\nIn the same session: bf16 product {number(ceilings['matmul'])} TFLOP/s, copy {number(ceilings['copy'])} GB/s, "
                 f"an empty kernel {number(ceilings['empty_us'])} us by events.")
    return text


def limits_part(results):
    report = load(results / "limits.json")
    if not report:
        return "Not read yet: `python3 bench/limits.py` on a machine with a GPU and ncu."
    body = [[label_of(name)] + [f"{rates[unit]:.0f}%" if unit in rates else "-" for unit in report["units"]]
            for name, rates in report["rows"].items()]
    return table(["one launch"] + report["units"], body)


def ptxas_part(results):
    report = load(results / "ptxas.json")
    if not report:
        return "Not compiled yet: `python3 bench/ptxas.py`."
    body = []
    for row in report["kernels"]:
        cells = [row["kernel"]]
        for arch in report["archs"]:
            one = row.get(arch)
            cells.append("-" if not one else f"{one['registers']}, {one['spills']}, {one['shared']:,}, {one['blocks']}")
        body.append(cells)
    text = table(["kernel"] + [f"sm_{arch}: registers, spilled bytes, shared bytes, blocks an SM" for arch in report["archs"]], body)
    units = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report["seconds"].items())
    return f"{text}\n\nCompile time of each translation unit, {report['compiler']}, sm_90a, one core: {units}."


# --- plots ----------------------------------------------------------------------------------------

COLOURS = ["#1668b0", "#c8501e", "#2c8a4b", "#7d4fa8"]
STYLE = ('<style>text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:bold}'
         '.g{stroke:#ddd}.a{stroke:#888}</style>')


def svg(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">\n{STYLE}\n<rect width="{width}" height="{height}" fill="#fff"/>\n'
            + "\n".join(parts) + "\n</svg>\n")


def length_plot(report):
    """Time against length, both axes logarithmic: what has slope 1 is linear in length."""
    lines = {}
    for row in kinds(report, "prefill", "wgmma"):
        if field(row["name"], "hd") == "256" and field(row["name"], "length"):
            kernel = "attend_wgmma" if row["name"].startswith("wgmma") else "attend_mma"
            lines.setdefault(f"{shape_of(row['name'])}, {kernel}", []).append(
                (int(field(row["name"], "length")), median(row["median_us"]) * 1e-3))
    lines = {name: sorted(points) for name, points in lines.items() if len(points) > 3}
    width, height, left, right, top, bottom = 640, 400, 70, 20, 40, 50
    parts = ['<text class="t" x="70" y="22">Prefill attention of one layer: time against length</text>']
    if not lines:
        parts.append('<text x="70" y="60">These results hold no rows of other lengths.</text>')
        return svg(width, height, parts)
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x0, x1 = math.log2(min(xs)), math.log2(max(xs))
    y0, y1 = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def at(x, y):
        return (left + (math.log2(x) - x0) / (x1 - x0) * (width - left - right),
                height - bottom - (math.log10(y) - y0) / (y1 - y0) * (height - top - bottom))
    for power in range(y0, y1 + 1):
        _, y = at(min(xs), 10.0 ** power)
        parts.append(f'<path class="g" d="M{left} {y:.1f}H{width - right}"/>'
                     f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0 ** power:g} ms</text>')
    for power in range(math.ceil(x0), math.floor(x1) + 1):
        x, _ = at(2 ** power, 10.0 ** y0)
        parts.append(f'<path class="g" d="M{x:.1f} {top}V{height - bottom}"/>'
                     f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{2 ** power // 1024}K</text>')
    for n, (name, points) in enumerate(lines.items()):
        colour = COLOURS[n % len(COLOURS)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (at(*point) for point in points)]
        parts.append(f'<text x="{left + 12}" y="{top + 18 + 18 * n}" style="fill:{colour}">{name}</text>')
    parts.append(f'<text x="{(left + width) // 2}" y="{height - 10}" text-anchor="middle">tokens</text>')
    return svg(width, height, parts)


def floor_plot(report):
    rows = [row for row in kinds(report, "prefill", "wgmma", "decode", "fused_append", "append", "simt", "e2e")
            if "share" in row and not (is_prefill(row) and is_plot_row(row))]
    width, left, line = 760, 330, 20
    height = 60 + line * len(rows)
    parts = ['<text class="t" x="20" y="22">Share of the floor</text>']
    for percent in (0, 25, 50, 75, 100):
        x = left + percent * 3.8
        parts.append(f'<path class="g" d="M{x:g} 36V{height - 12}"/><text x="{x:g}" y="32" text-anchor="middle">{percent}%</text>')
    for n, row in enumerate(rows):
        kind, y = row["name"].split("/")[0], 44 + line * n
        colour = COLOURS[["prefill", "decode", "append", "e2e"].index(
            {"fused_append": "append", "simt": "prefill", "wgmma": "prefill"}.get(kind, kind))]
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{label_of(row["name"])}</text>'
                     f'<rect x="{left}" y="{y + 1}" width="{380 * min(row["share"], 1.05):.1f}" height="{line - 6}" fill="{colour}"/>'
                     f'<text x="{left + 380 * min(row["share"], 1.05) + 5:.1f}" y="{y + 12}">{100 * row["share"]:.0f}%</text>')
    return svg(width, height, parts)


# --- the page -------------------------------------------------------------------------------------

def written(page, parts):
    def fill(match):
        name = match[1]
        if name not in parts:
            sys.exit(f"docs/performance.md asks for a part {name}; there are {', '.join(parts)}")
        return f"<!-- report: {name} -->\n{parts[name]}\n<!-- end of report -->"
    return re.sub(r"<!-- report: (\w+) -->\n.*?<!-- end of report -->", fill, page, flags=re.S)


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--join", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    if options.join:
        return join(options.join, options.out)

    file = options.results or max(RESULTS.glob("device-*.json"), default=None)
    if file is None:
        sys.exit("no bench/results/device-*.json: run bench/device.sh on a machine with a GPU")
    report = load(file)
    source = source_part(report, file)
    decode_file = max(RESULTS.glob("decode-*.json"), default=None)
    if decode_file and not options.results and load(decode_file)["date"] > report["date"]:
        source += "\n\nDecode and append: " + source_part(load(decode_file), decode_file)
        report = with_decode_of(report, load(decode_file))
    parts = {"source": source, "prefill": prefill_part(report), "decode": decode_part(report),
             "rest": rest_part(report), "models": models_part(report), "refusals": refusals_part(report), "predictions": predictions_part(report),
             "ptxas": ptxas_part(RESULTS), "limits": limits_part(RESULTS)}
    wanted = {PAGE: written(PAGE.read_text(encoding="utf-8"), parts), PLOTS["length"]: length_plot(report),
              PLOTS["floor"]: floor_plot(report)}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    names = ", ".join(path.relative_to(ROOT).as_posix() for path in stale)
    if options.check:
        sys.exit(f"not what bench/report.py makes of {file.name}: {names}" if stale else 0)
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
    print(f"written: {names}" if stale else "nothing to change")


if __name__ == "__main__":
    main()
