#!/usr/bin/env python3
"""What others reach on the same GPU: PyTorch's attentions, flex_attention, transformers.

    peers.py [--parts copy,matmul,sdpa,flex,decode,transformers] [--prepare] [--quick] [--out F]

Rows have the names of the rows of bench-prefill and bench-decode, so that bench/device.sh can put them
side by side. A peer that is missing, refuses or takes too long gets a row that says why. Each figure is
the median of event times after 10 calls to warm up, with 100 us of idle spinning before each call, so that
the time of the launch is hidden; a cold L2 for decode. Every output is compared with f32 arithmetic on
some rows. --prepare only fills the disk cache of compiled flex_attention kernels, several at a time.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ["copy", "matmul", "sdpa", "flex", "decode", "transformers"]
WARM_UPS, SPIN_CYCLES = 10, 180_000
MODEL_LIMIT = 60  # seconds for one model of transformers
device = "cuda"

# (head_dim, q heads, kv heads, window or 0)
CAUSAL = [(64, 32, 8, 0), (96, 32, 8, 0), (128, 32, 8, 0), (256, 8, 2, 0), (512, 8, 2, 0)]
WINDOWS = [(256, 8, 2, 512), (256, 8, 2, 1024), (128, 32, 8, 1024), (64, 64, 8, 128)]
LENGTH = 8192
# Tiles for flex_attention where its own choice does not fit or is slow; the best one counts.
TILES = {512: [{"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 2},
               {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 8, "num_stages": 2},
               {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 3},
               {"BLOCK_M": 128, "BLOCK_N": 32, "num_warps": 8, "num_stages": 1},
               {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 1},
               {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 8, "num_stages": 1}]}
# (head_dim, q heads, kv heads, window or 0, batch, length)
DECODES = [(256, 8, 2, 512, 1, 32768), (256, 8, 2, 512, 16, 32768), (256, 8, 2, 512, 128, 32768),
           (256, 8, 2, 1024, 1, 32768), (64, 64, 8, 128, 1, 32768)] + [
    (dim, q, kv, 0, batch, 32768)
    for batch in (1, 16) for dim, q, kv in ((128, 32, 8), (256, 8, 2), (512, 8, 2))] + [
    (128, 32, 8, 0, 1, 131072)]


def name_of(what, dim, q, kv, window, length):
    seen = f"window={window}" if window else "causal"
    return f"{what}/hd={dim}/heads={q}:{kv}/{seen}/length={length}"


def decode_name(dim, q, kv, window, batch, length):
    return f"{name_of('decode', dim, q, kv, window, length)}/batch={batch}"


def reason_of(error, heard=()):
    """One line: what the library warned of, then what it raised."""
    texts = [str(w.message) for w in heard] + [f"{type(error).__name__}: {error}"]
    lines = [" ".join(text.split("(Triggered internally")[0].split()) for text in texts]
    lines = [line for line in lines if "runtime disabled" not in line and not line.endswith("not used because:")]
    return "; ".join(dict.fromkeys(line for line in lines if line))[:300]


class Rows(list):
    def add(self, name, peer, **more):
        self.append({"name": name, "peer": peer, **more})
        print(f"{name:64} {peer:22}", " ".join(
            f"{key}={value:.5g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in more.items()), flush=True)


# --- time and truth -------------------------------------------------------------------------------

def event_seconds(work, repeats=30):
    """Median seconds of work(i)."""
    import torch
    times = []
    for i in range(WARM_UPS + repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(SPIN_CYCLES)
        begin.record()
        work(i)
        end.record()
        end.synchronize()
        if i >= WARM_UPS:
            times.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(times)


def pairs(rows, window):
    return sum(min(p + 1, window or rows) for p in range(rows))


def inputs(batch, rows, length, dim, q, kv):
    """q, k, v as [batch, heads, rows, dim], laid out with the heads of a row side by side."""
    import torch

    def noise(rows, heads):
        return torch.randn(batch, rows, heads, dim, device=device, dtype=torch.bfloat16).transpose(1, 2)
    return noise(rows, q), noise(length, kv), noise(length, kv)


def error_of(out, q, k, v, window):
    """Largest difference from f32 arithmetic on the last rows of the first sequence."""
    import torch
    rows, length = min(16, q.shape[2]), k.shape[2]
    group = q.shape[1] // k.shape[1]
    query = q[0, :, -rows:].float()
    keys, values = (x[0].float().repeat_interleave(group, 0) for x in (k, v))
    scores = query @ keys.transpose(1, 2) / q.shape[3] ** 0.5
    at = torch.arange(length - rows, length, device=q.device)[:, None]
    key = torch.arange(length, device=q.device)[None]
    hidden = (key > at) | (key <= at - window if window else key < 0)
    wanted = torch.softmax(scores.masked_fill(hidden, float("-inf")), -1) @ values
    return float((out[0, :, -rows:].float() - wanted).abs().max())


# --- PyTorch's scaled_dot_product_attention -------------------------------------------------------

def sdpa(backend):
    """A function of q, k, v, which takes fewer heads of K and V than of Q."""
    import torch
    from torch.nn.attention import sdpa_kernel

    def attend(q, k, v, causal):
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
    return attend


def repeated(k, group):
    return k.repeat_interleave(group, 1)


def backends():
    from torch.nn.attention import SDPBackend
    return {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION}


def try_sdpa(rows, name, peer, backend, q, k, v, causal, window, report):
    """Times it on a list of k and v; with K and V repeated for each head if it knows no groups."""
    attend = sdpa(backend)
    group = q.shape[1] // k[0].shape[1]
    wide = ""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            try:
                out = attend(q, k[0], v[0], causal)
            except RuntimeError:
                if group == 1:
                    raise
                heard.clear()
                keys, values = ([repeated(x, group) for x in xs] for xs in (k, v))
                out = attend(q, keys[0], values[0], causal)
                k, v, wide = keys, values, "K and V repeated for each query head beforehand"
            seconds = event_seconds(lambda i: attend(q, k[i % len(k)], v[i % len(v)], causal))
        except Exception as error:  # whatever the library raises is what the row says
            rows.add(name, peer, reason=reason_of(error, heard))
            return
    if wide:
        report = {**report, "note": wide}
    finish(rows, name, peer, seconds, error_of(out, q, k[0], v[0], window), report)


def finish(rows, name, peer, seconds, error, report):
    more = {"median_us": seconds * 1e6, "error": error}
    if not error < 0.05:
        rows.add(name, peer, reason=f"its output is off by {error}")
        return
    if "flops" in report:
        more.update(value=report["flops"] / seconds * 1e-12, unit="TFLOP/s")
    else:
        more.update(value=report["bytes"] / seconds * 1e-9, unit="GB/s")
    if "note" in report:
        more["note"] = report["note"]
    rows.add(name, peer, **more)


def run_sdpa(rows, options):
    for dim, q_heads, kv_heads, window in CAUSAL:
        name = name_of("prefill", dim, q_heads, kv_heads, window, LENGTH)
        q, k, v = inputs(1, LENGTH, LENGTH, dim, q_heads, kv_heads)
        report = {"flops": 4.0 * dim * q_heads * pairs(LENGTH, 0)}
        for peer, backend in backends().items():
            if peer == "efficient" and dim <= 256:
                continue  # the others are there
            try_sdpa(rows, name, peer, backend, q, [k], [v], True, 0, report)


# --- flex_attention -------------------------------------------------------------------------------

def flex_jobs(options):
    """[(name, dim, q heads, kv heads, window, batch, rows, length)]"""
    causal = [shape for shape in CAUSAL if shape[0] in ((128, 256, 512) if not options.quick else (512,))]
    jobs = [(name_of("prefill", *shape, LENGTH), *shape, 1, LENGTH, LENGTH)
            for shape in WINDOWS + causal]
    if not options.quick:
        jobs += [(decode_name(*shape), *shape[:4], shape[4], 1, shape[5]) for shape in DECODES
                 if shape[3] in (0, 512) and shape[4] in (1, 16) and shape[5] == 32768 and
                 not (shape[3] == 512 and shape[4] == 16)]
    return jobs


def compiled_flex():
    import torch
    from torch.nn.attention.flex_attention import flex_attention
    torch._dynamo.reset()
    return torch.compile(flex_attention, dynamic=False)


def block_mask(rows, length, window):
    from torch.nn.attention.flex_attention import create_block_mask
    start = length - rows

    def causal(batch, head, query, key):
        return key <= query + start

    def windowed(batch, head, query, key):
        return (key <= query + start) & (key > query + start - window)
    return create_block_mask(windowed if window else causal, None, None, rows, length, device=device)


def tiles_of(job):
    _, dim, *_, rows, _ = job
    return TILES.get(dim, [None]) if rows > 1 else [None]


def flex_call(mask, tiles):
    """A function of q, k, v; nothing is compiled before its first call."""
    call = compiled_flex()
    return lambda q, k, v: call(q, k, v, block_mask=mask, enable_gqa=True, kernel_options=tiles)


def compile_flex(job, tiles):
    _, dim, q_heads, kv_heads, window, batch, q_rows, length = job
    flex_call(block_mask(q_rows, length, window), tiles)(*inputs(batch, q_rows, length, dim, q_heads, kv_heads))


def run_flex_job(rows, job):
    name, dim, q_heads, kv_heads, window, batch, q_rows, length = job
    in_sight = min(window or length, length)
    data = batch * in_sight * kv_heads * dim * 4
    copies = 1 if q_rows > 1 else min(16, (256 << 20) // data + 1)
    while copies > 1 and copies * batch * length * kv_heads * dim * 4 > 8 << 30:
        copies //= 2
    q, *kv = inputs(batch, q_rows, length, dim, q_heads, kv_heads)
    caches = [kv] + [inputs(batch, 1, length, dim, q_heads, kv_heads)[1:] for _ in range(copies - 1)]
    best, reasons = None, []
    mask = block_mask(q_rows, length, window)
    for tiles in tiles_of(job):
        call = flex_call(mask, tiles)
        try:
            out = call(q, *kv)
            seconds = event_seconds(lambda i: call(q, *caches[i % copies]))
            if best is None or seconds < best[0]:
                best = (seconds, error_of(out, q, *kv, window), tiles)
        except Exception as error:
            reasons.append(reason_of(error))
    if best is None:
        rows.add(name, "flex", reason=reasons[0])
        return
    report = {"flops": 4.0 * dim * q_heads * pairs(length, window)} if q_rows > 1 else {
        "bytes": data + 4 * batch * q_heads * dim}
    if best[2]:
        report["note"] = "tiles " + ", ".join(f"{key} {value}" for key, value in best[2].items())
    finish(rows, name, "flex", best[0], best[1], report)


def run_flex(rows, options):
    for job in flex_jobs(options):
        run_flex_job(rows, job)


def prepare(options):
    """Compiles in several processes; a failure shows up again, and is reported, in the timed run."""
    count = sum(len(tiles_of(job)) for job in flex_jobs(options))
    children = [subprocess.Popen(
        [sys.executable, __file__, "--prepare-one", str(n)] + ["--quick"] * options.quick,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for n in range(count)]
    end = time.monotonic() + 120
    for child in children:
        try:
            child.wait(timeout=max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


# --- decode ---------------------------------------------------------------------------------------

def run_decode(rows, options):
    for dim, q_heads, kv_heads, window, batch, length in DECODES:
        if options.quick and (batch == 16 or length > 32768):
            continue
        name = decode_name(dim, q_heads, kv_heads, window, batch, length)
        held = window or length  # a window's keys alone: the peer is not asked to skip the others
        data = batch * held * kv_heads * dim * 4
        copies = max(2, min(64, (256 << 20) // data + 1))
        q, k, v = inputs(batch, 1, held, dim, q_heads, kv_heads)
        caches = [(k, v)] + [inputs(batch, 1, held, dim, q_heads, kv_heads)[1:] for _ in range(copies - 1)]
        report = {"bytes": data + 4.0 * batch * q_heads * dim}
        for peer in ("flash", "cudnn") if dim <= 256 else ("flash", "efficient"):
            try_sdpa(rows, name, peer, backends()[peer], q, [c[0] for c in caches], [c[1] for c in caches],
                     False, 0, report)
        del caches, k, v


# --- ceilings -------------------------------------------------------------------------------------

def run_copy(rows, options):
    import torch
    size = 1 << 30
    a = torch.randn(size // 4, device=device)
    b = torch.empty_like(a)
    seconds = event_seconds(lambda i: b.copy_(a))
    rows.add("copy/bytes=1GiB", "torch", value=2 * size / seconds * 1e-9, unit="GB/s", median_us=seconds * 1e6)


def run_matmul(rows, options):
    import torch
    n = 8192
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    seconds = event_seconds(lambda i: torch.mm(a, b, out=out))
    rows.add("matmul/8192x8192x8192", "torch", value=2.0 * n ** 3 / seconds * 1e-12, unit="TFLOP/s",
             median_us=seconds * 1e6)


# --- transformers ---------------------------------------------------------------------------------

def pattern(layers):
    return ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)]


def gemma4_e4b():
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig
    return Gemma4ForCausalLM, Gemma4TextConfig(
        vocab_size=262144, hidden_size=2560, intermediate_size=10240, num_hidden_layers=42,
        num_attention_heads=8, num_key_value_heads=2, head_dim=256, global_head_dim=512, sliding_window=512,
        layer_types=pattern(42), num_kv_shared_layers=18, hidden_size_per_layer_input=256,
        vocab_size_per_layer_input=262144, final_logit_softcapping=30.0)


def gemma3_270m():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig
    return Gemma3ForCausalLM, Gemma3TextConfig(
        vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18,
        num_attention_heads=4, num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256,
        sliding_window=512, layer_types=pattern(18), max_position_embeddings=32768)


MODELS = {"Gemma4_E4B": (gemma4_e4b, 5313), "Gemma3_270M": (gemma3_270m, 5400)}


def run_model(rows, name, out):
    """Prefill and decode of one model with random weights; what is known is written at once."""
    import torch
    make, prompt = MODELS[name]
    model_type, config = make()
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = model_type(config).eval()
    ids = torch.randint(2, config.vocab_size, (1, prompt), device=device)
    note = f"{config._attn_implementation}, random weights, one stream of Python calls"

    def wall(work):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        result = work()
        torch.cuda.synchronize()
        return time.perf_counter() - begin, result

    def save(what, value):
        rows.add(f"e2e/{name}/{what}", "transformers", value=value, unit="tokens/s", note=note)
        pathlib.Path(out).write_text(json.dumps(rows))

    with torch.inference_mode():
        def prefill():
            return model(input_ids=ids, use_cache=True, logits_to_keep=1)
        prefill()
        times = []
        for _ in range(5):
            seconds, state = wall(prefill)
            times.append(seconds)
        save(f"prefill={prompt}", prompt / statistics.median(times))

        cache, token = state.past_key_values, state.logits[:, -1:].argmax(-1)

        def steps(count):
            nonlocal token
            for _ in range(count):
                state = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
                token = state.logits[:, -1:].argmax(-1)
        steps(4)
        count = 24
        seconds, _ = wall(lambda: steps(count))
        save(f"decode={prompt}", count / seconds)


def run_transformers(rows, options):
    for name, (_, prompt) in MODELS.items():
        wanted = [f"e2e/{name}/prefill={prompt}", f"e2e/{name}/decode={prompt}"]
        reason = f"more than {MODEL_LIMIT} s"
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "rows.json"
            try:
                done = subprocess.run([sys.executable, __file__, "--model", name, "--out", out],
                                      capture_output=True, text=True, timeout=MODEL_LIMIT)
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or ["no word"])[-1][:300]
            except subprocess.TimeoutExpired:
                pass
            found = json.loads(out.read_text()) if out.exists() else []
        for row in found:
            rows.add(**row)
        for missing in set(wanted) - {row["name"] for row in found}:
            rows.add(missing, "transformers", reason=reason)


# --- all ------------------------------------------------------------------------------------------

def word_of(*command):
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


def machine(options):
    import torch
    versions = {"torch": torch.__version__, "cudnn": str(torch.backends.cudnn.version())}
    try:
        import transformers
        versions["transformers"] = transformers.__version__
    except ImportError:
        versions["transformers"] = "missing"
    return {"device": torch.cuda.get_device_name(),
            "driver": word_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "commit": options.commit, **versions}


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--commit", default=os.environ.get("KVRING_COMMIT") or
                        word_of("git", "rev-parse", "HEAD"))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--prepare-one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}")

    rows = Rows()
    try:
        import torch
        if not torch.cuda.is_available():
            raise ImportError("PyTorch sees no GPU")
    except ImportError as error:
        if options.out:
            options.out.write_text(json.dumps({"missing": reason_of(error), "rows": []}) + "\n")
        sys.exit(f"no peers: {error}")
    if options.prepare:
        return prepare(options)
    if options.prepare_one is not None:
        both = [(job, tiles) for job in flex_jobs(options) for tiles in tiles_of(job)]
        return compile_flex(*both[options.prepare_one])
    if options.model:
        return run_model(rows, options.model, options.out)

    report = machine(options)
    report["seconds"], report["rows"] = {}, rows
    for part in options.parts.split(","):
        begin = time.monotonic()
        try:
            globals()[f"run_{part}"](rows, options)
        except Exception as error:
            rows.add(part, "all", reason=reason_of(error))
        torch.cuda.empty_cache()
        report["seconds"][part] = round(time.monotonic() - begin, 1)
        if options.out:  # now and not at the end: whoever is stopped has shown something
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(report, indent=1) + "\n")
    print("seconds:", report["seconds"])


if __name__ == "__main__":
    main()
