#!/usr/bin/env python3
"""The contract of the programs: what they print, what they write, what they refuse, and how they end.

    run.py [BIN_DIR] [--only WORD]      BIN_DIR: where the programs are; default $KVRING_BIN

Exit codes of the programs: 0 done, 1 bad input, 2 wrong usage. A refusal is one line on standard
error that begins with "error: " and holds the numbers. Most cases run on a model of zeros that knows
one sentence (fake_model.py); cases on real weights need KVRING_GEMMA3 or KVRING_SMOLLM2 and are
skipped without it.
"""

import argparse
import json
import math
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
import fake_model

CASES = []


def case(function):
    CASES.append((function, None))
    return function


def real(function):
    """A case that needs the weights of Gemma 3 270M."""
    CASES.append((function, "KVRING_GEMMA3"))
    return function


def smollm2(function):
    """A case that needs the weights of SmolLM2 135M Instruct."""
    CASES.append((function, "KVRING_SMOLLM2"))
    return function


class Failure(Exception):
    pass


def check(right, *about):
    if not right:
        raise Failure(" ".join(str(part) for part in about))


class Ended:
    """A program that has ended."""

    def __init__(self, command, done):
        self.command, self.code = command, done.returncode
        self.out = done.stdout
        self.err = done.stderr.decode(errors="replace")

    def __str__(self):
        return (f"{' '.join(map(str, self.command))}\n  exit code {self.code}\n  stdout "
                f"{self.out[:300]!r}\n  stderr {self.err[:1500]!r}")


class Bench:
    """Where the programs are, and a folder for files."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, folder
        self._model = self._safetensors = None
        self.smollm2 = os.environ.get("KVRING_SMOLLM2")
        self.real = os.environ.get("KVRING_GEMMA3")

    def file(self, name, content=b""):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    @property
    def model(self):
        if self._model is None:
            self._model = self.folder / "sentence.gguf"
            self.ends = fake_model.write_model(self._model)
        return self._model

    @property
    def safetensors(self):
        if self._safetensors is None:
            self._safetensors = fake_model.write_folder(self.folder / "sentence")
        return self._safetensors

    def run(self, program, *arguments, stdin=b"", code=0, limit=120, before=None, stdout=None):
        command = [self.programs / program, *map(str, arguments)]
        # Threads that wait actively make a busy machine crawl.
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
        done = subprocess.run(command, input=stdin, stdout=stdout or subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=limit, env=environment,
                              preexec_fn=before)
        done.stdout = done.stdout or b""
        ended = Ended(command, done)
        check(ended.code == code, f"wanted exit code {code}:", ended)
        return ended

    def refused(self, program, *arguments, words=(), code=1, **options):
        """The program ends with a one-line error that holds every word, and prints nothing else."""
        ended = self.run(program, *arguments, code=code, **options)
        check(ended.out == b"", "it printed to standard output:", ended)
        errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
        check(len(errors) == 1, "wanted one line `error: ...`:", ended)
        check(ended.err.endswith(errors[0] + "\n"), "the error is not the last word:", ended)
        for word in map(str, words):
            check(word in errors[0], f"the error lacks {word!r}:", ended)
        return ended

    def generate(self, *arguments, model=None, tokens=6, **options):
        """Runs kvring-generate; returns its --json."""
        result = self.folder / "generate.json"
        result.unlink(missing_ok=True)
        self.ended = self.run("kvring-generate", "--model", model or self.model, "--tokens", tokens,
                              "--json", result, *arguments, **options)
        return json.loads(result.read_bytes())

    def score(self, *arguments, model=None, **options):
        result = self.folder / "score.json"
        result.unlink(missing_ok=True)
        self.ended = self.run("kvring-score", "--model", model or self.model, "--json", result,
                              *arguments, **options)
        return json.loads(result.read_bytes())


def close(a, b, bound):
    return abs(a - b) <= bound  # NaN is not


# --- kvring-generate ------------------------------------------------------------------------------

@case
def generate_says_the_sentence_and_stops(bench):
    result = bench.generate("--prompt", "abc", tokens=50)
    check(result["generated_ids"] == fake_model.SENTENCE, result)
    check(result["text"] == fake_model.SENTENCE_TEXT and result["ended"] is True, result)
    check(bench.ended.out == fake_model.SENTENCE_TEXT.encode(), bench.ended)


@case
def generate_stops_at_tokens(bench):
    result = bench.generate("--prompt", "abc", tokens=3)
    check(result["generated_ids"] == fake_model.SENTENCE[:3] and not result["ended"], result)


@case
def generate_of_no_tokens_only_reads(bench):
    result = bench.generate("--prompt", "abc", tokens=0)
    check(result["generated_ids"] == [] and bench.ended.out == b"", result)


@case
def generate_json_holds_the_contract(bench):
    result = bench.generate("--prompt", "ab c", "--context", 100)
    check(result["prompt_ids"] == [fake_model.BOS, 501, 502, 500, 503], result)
    check(set(result["seconds"]) == {"load", "prefill", "decode"}, result)
    check(all(value >= 0 for value in result["seconds"].values()), result)
    check("one chunk" in result["path"] and "5 tokens" in result["path"], result)
    check(result["context"] == 100 and result["chunk"] == 4096 and result["device"] == "host", result)
    check(result["cache_bytes"] == 18 * 100 * 2 * 256 * 4, result)


@case
def generate_prints_the_plan_first_and_the_speeds_last(bench):
    bench.generate("--prompt", "abc", "--context", 6000)
    err = bench.ended.err
    check(re.search(r"local +15 .*4,608 +135\.0", err), bench.ended)
    check(re.search(r"global +3 .*6,000 +35\.2", err), bench.ended)
    check("full caches would take" in err, bench.ended)
    check(err.index("local") < err.index("loaded") < err.index("prefill:") < err.index("decode:"),
          bench.ended)
    check(err.count("tokens/s") == 2 and "\r" not in err, bench.ended)


@case
def generate_reads_every_source_of_prompts(bench):
    ids = [fake_model.BOS, 501, 502, 503]
    for arguments, stdin in ((("--prompt", "abc"), b""),
                             (("--prompt-file", bench.file("prompt.txt", "abc")), b""),
                             (("--ids", bench.file("ids.json", json.dumps(ids))), b""),
                             ((), b"abc")):
        result = bench.generate(*arguments, stdin=stdin, tokens=2)
        check(result["prompt_ids"] == ids, arguments, result)


@case
def generate_takes_text_that_is_no_utf8(bench):
    result = bench.generate("--prompt-file", bench.file("latin1.txt", b"a\xff\xc3"), tokens=1)
    first = fake_model.FIRST_BYTE
    check(result["prompt_ids"] == [fake_model.BOS, 501, first + 0xff, first + 0xc3], result)


@case
def generate_needs_the_markers_of_a_chat(bench):
    """The sentence model has <end_of_turn>, but no <start_of_turn>."""
    bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1, "--chat",
                  words=("<start_of_turn>", "chat template"))


@case
def generate_in_chunks_and_caches_of_every_kind(bench):
    for chunk, path in ((1, "per-token"), (2, "3 chunks"), (5, "one chunk")):
        for cache in ("f32", "f16", "bf16"):
            result = bench.generate("--prompt", "abcd", "--chunk", chunk, "--cache", cache)
            check(result["generated_ids"] == fake_model.SENTENCE, chunk, cache, result)
            check(path in result["path"], result)
            size = 4 if cache == "f32" else 2
            check(result["cache_bytes"] == 18 * 64 * 2 * 256 * size, result)


@case
def generate_fills_a_context_to_the_last_position(bench):
    result = bench.generate("--prompt", "abc", "--context", 7, tokens=3)
    check(len(result["generated_ids"]) == 3, result)


@case
def generate_refuses_what_does_not_fit(bench):
    bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 3,
                  "--context", 6, words=("prompt of 4 tokens", "3 to generate", "context of 6"))
    bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 32765,
                  words=("32765", "32768"))
    bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens",
                  2**63 - 1, words=(2**63 - 1, 32768))
    bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1,
                  "--context", 32769, words=("32769", "32768", "Gemma3_270M"))
    bench.refused("kvring-generate", "--model", bench.model, "--prompt", "a" * 40000, "--tokens", 1,
                  words=("40001", "32768"))


@case
def generate_refuses_before_it_loads(bench):
    start = time.monotonic()
    bench.run("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1)
    whole = time.monotonic() - start
    start = time.monotonic()
    ended = bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens",
                          9, "--context", 10, words=("10",))
    refusal = time.monotonic() - start
    check("loaded" not in ended.err and "MiB" not in ended.err, ended)
    check(refusal < whole, f"refused after {refusal:.2f} s, a run takes {whole:.2f} s")


@case
def generate_refuses_empty_prompts(bench):
    run = ("kvring-generate", "--model", bench.model, "--tokens", 1)
    bench.refused(*run, "--prompt", "", words=("empty",))
    bench.refused(*run, "--prompt-file", bench.file("empty.txt"), words=("empty",))
    bench.refused(*run, "--ids", bench.file("none.json", "[]"), words=("empty",))
    bench.refused(*run, stdin=b"", words=("empty",))


@case
def generate_refuses_ids_that_are_none(bench):
    run = ("kvring-generate", "--model", bench.model, "--tokens", 1, "--ids")
    for content, words in (("[2, 262144]", ("262144", "entry 1")), ("[-1]", ("-1", "262144")),
                           ("[99999999999999999999]", ("entry 0",)), ("[4294967298]", ("4294967298",)),
                           ("[18446744073709551615]", ("18446744073709551615",)),
                           ("[1.5]", ("entry 0", "number")), ('["a"]', ("entry 0", "string")),
                           ("{}", ("object",)), ("[1, 2", ("JSON",)), ("", ("JSON",)),
                           ("[[1]]", ("array",)), ("[" * 100000, ("JSON",)), ("[null]", ("null",)),
                           (b"[\xff]", ("JSON",))):
        bench.refused(*run, bench.file("bad.json", content), words=words)
    bench.refused(*run, bench.folder / "no.json", words=("no.json", "No such file"))
    bench.refused(*run, bench.folder, words=("directory",))


@case
def generate_refuses_long_chunks(bench):
    bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1,
                  "--chunk", 4097, words=("4097", "4096"))


@case
def generate_names_the_missing_device(bench):
    ended = bench.run("kvring-generate", "--help")
    try:
        bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1,
                      "--device", "cuda", words=("CUDA",))
    except Failure:
        check(shutil.which("nvidia-smi"), "a build without CUDA, but --device cuda is not refused",
              ended)


@case
def wrong_usage_is_2(bench):
    generate = ("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1)
    score = ("kvring-score", "--model", bench.model, "--text", bench.file("text.txt", "abc"))
    for arguments, words in (
            ((*generate, "--no-such-flag"), ("no-such-flag",)),
            ((*generate, "--context", 0), ("--context", "0")),
            ((*generate, "--context", -5), ("-5",)),
            ((*generate, "--context", "many"), ("--context",)),
            ((*generate, "--chunk", 0), ("--chunk", "0")),
            ((*generate, "--chunk", -1), ("-1",)),
            ((*generate, "--cache", "f8"), ("f8", "bf16")),
            ((*generate, "--device", "tpu"), ("tpu", "cuda")),
            ((*generate, "--temp", -0.1), ("--temp", "-0.1")),
            ((*generate, "--temp", "nan"), ("--temp",)),
            ((*generate, "--temp", "inf"), ("--temp",)),
            ((*generate, "--top-k", -1), ("--top-k", "-1")),
            ((*generate, "--top-p", 0), ("--top-p", "0")),
            ((*generate, "--top-p", 1.5), ("--top-p", "1.5")),
            ((*generate, "--seed", "x"), ("--seed",)),
            ((*generate, "--prompt-file", "x"), ("--prompt",)),
            ((*generate, "--ids", "x"), ("--ids",)),
            ((*generate[:3], "--tokens", 1, "--chat", "--ids", "x"), ("--ids", "--chat")),
            ((*generate[:-1], -1), ("--tokens", "-1")),
            ((*generate[:-1], 1.5), ("--tokens",)),
            (generate[:-2], ("--tokens",)),
            (("kvring-generate", "--tokens", 1, "--prompt", "a"), ("--model",)),
            ((*generate, "more"), ("more",)),
            (score[:-2], ("--text", "--ids")),
            ((*score, "--ids", "x"), ("--text", "--ids")),
            ((*score, "--tokens", 0), ("--tokens", "0")),
            ((*score, "--top", -1), ("--top", "-1")),
            ((*score, "--context", 7), ("--context",)),
            (("kvring-tokenize", "--model", bench.model), ("--file",)),
            (("kvring-plan",), ("--context",)),
            (("kvring-plan", "--context", 0), ("--context", "0")),
            (("kvring-plan", "--context", 1, "--sequences", 0), ("--sequences", "0")),
            (("kvring-plan", "--context", 1, "--chunk", 0), ("--chunk", "0")),
            (("kvring-plan", "--context", 1, "--cache", "q8"), ("q8",))):
        bench.refused(*arguments, words=words, code=2)


@case
def help_is_0(bench):
    for program in ("generate", "score", "tokenize", "plan"):
        ended = bench.run(f"kvring-{program}", "--help")
        check(b"--" in ended.out and ended.err == "", ended)


@case
def json_that_cannot_be_written(bench):
    text = bench.file("text.txt", "abc")
    for run in (("kvring-generate", "--prompt", "abc", "--tokens", 1), ("kvring-score", "--text", text)):
        run = (*run, "--model", bench.model, "--json")
        ended = bench.refused(*run, "/dev/full", words=("/dev/full", "No space left"))
        check("loaded" not in ended.err, "it loaded a model first:", ended)
        bench.refused(*run, bench.folder / "no" / "such.json", words=("such.json", "No such file"))
        bench.refused(*run, bench.folder, words=("directory",))
    check(pathlib.Path("/dev/full").is_char_device(), "/dev/full has been replaced")


@case
def json_is_there_whole_or_not_at_all(bench):
    folder = bench.folder / "whole"
    folder.mkdir()
    target = folder / "result.json"
    target.write_text("before")
    run = ("kvring-generate", "--model", bench.model, "--prompt", "abc", "--json", target)
    bench.refused(*run, "--tokens", 9, "--context", 10, words=("10",))
    check(target.read_text() == "before", "a failed run has changed the file")

    def small_files():  # a disk that takes 100 bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    bench.refused(*run, "--tokens", 1, words=("result.json",), before=small_files)
    check(target.read_text() == "before", "a failed write has changed the file")
    check(sorted(p.name for p in folder.iterdir()) == ["result.json"], list(folder.iterdir()))

    link = folder / "link.json"
    link.symlink_to(target)
    bench.run(*run[:-1], link, "--tokens", 1)
    check(link.is_symlink() and json.loads(target.read_bytes())["generated_ids"] == [1000], "link")
    check(sorted(p.name for p in folder.iterdir()) == ["link.json", "result.json"],
          list(folder.iterdir()))


@case
def json_must_not_overwrite_an_input(bench):
    ids = bench.file("ids.json", "[2, 501]")
    for run in (("kvring-generate", "--tokens", 1), ("kvring-score",)):
        for target in (bench.model, ids, bench.folder / "." / "ids.json"):
            bench.refused(*run, "--model", bench.model, "--ids", ids, "--json", target, code=2,
                          words=("overwrite", target.name))


@case
def json_may_go_to_a_pipe(bench):
    ended = bench.run("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 0,
                      "--json", "/dev/stdout")
    check(json.loads(ended.out)["generated_ids"] == [], ended)


@case
def a_full_standard_output(bench):
    ids = bench.file("ids.json", "[2, 501]")
    for run in (("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 2),
                ("kvring-tokenize", "--model", bench.model, "--file", ids),
                ("kvring-plan", "--context", 100)):
        with open("/dev/full", "wb") as full:
            bench.refused(*run, words=("standard output", "No space left"), stdout=full)


@case
def sampling_is_reproducible(bench):
    run = ("--prompt", "abc", "--temp", 100, "--top-k", 50)
    first = bench.generate(*run, "--seed", 7, tokens=8)["generated_ids"]
    check(first == bench.generate(*run, "--seed", 7, tokens=8)["generated_ids"], "same seed")
    others = [bench.generate(*run, "--seed", seed, tokens=8)["generated_ids"] for seed in (8, 9)]
    check(any(other != first for other in others), "three seeds, one text", first)
    greedy = bench.generate("--prompt", "abc", "--temp", 5, "--top-k", 1, "--seed", 3)
    check(greedy["generated_ids"] == fake_model.SENTENCE, greedy)


# --- drafts and states ----------------------------------------------------------------------------

@case
def lookup_changes_no_token(bench):
    prompt = [fake_model.BOS, *fake_model.SENTENCE[:5], 501, 502]
    ids = bench.file("ids.json", json.dumps(prompt))
    plain = bench.generate("--ids", ids, tokens=50)
    for drafts in (1, 2, 3, 8, 63):
        result = bench.generate("--ids", ids, "--lookup", drafts, "--context", 64, tokens=50)
        check(result["generated_ids"] == plain["generated_ids"] == fake_model.SENTENCE, result)
        check(result["ended"] and result["text"] == plain["text"], result)
    result = bench.generate("--ids", ids, "--lookup", 8, tokens=6)
    # One token from the prefill, one plain step, then "they promised" in drafts from the prompt.
    lookup = result["lookup"]
    check(result["generated_ids"] == fake_model.SENTENCE, result)
    check(lookup["accepted"] == 3 and lookup["passes"] == 1 and lookup["tokens"] == 4, lookup)
    check(re.search(r"lookup: 4 tokens in 1 passes, \d drafted, 3 of them accepted \(\d+%\), "
                    r"[\d.]+ tokens/s, [\d.]+ times the [\d.]+ of the steps before", bench.ended.err),
          bench.ended)


@case
def lookup_refuses_what_cannot_be_taken_back(bench):
    run = ("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 9)
    bench.refused(*run, "--lookup", 64, words=("--lookup 64", "rewind of 64", "1 to 63"))
    bench.refused(*run, "--lookup", 4, "--chunk", 4, words=("--lookup 4", "chunk of 4", "1 to 3"))
    bench.refused(*run, "--lookup", 0, code=2, words=("--lookup", "0", "1 or more"))
    bench.refused(*run, "--lookup", 4, "--temp", 0.5, code=2, words=("--lookup", "--temp"))


def small_disk(limit):
    def before():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return before


@case
def a_state_goes_on_where_it_was(bench):
    state = bench.folder / "on.state"
    for cache in ("f32", "f16", "bf16"):
        whole = bench.generate("--prompt", "abc", "--cache", cache, tokens=6)
        first = bench.generate("--prompt", "abc", "--cache", cache, "--save-state", state, tokens=3)
        size = 4 if cache == "f32" else 2
        # Four tokens of the prompt and two of three are appended, in 18 layers.
        check(first["saved_bytes"] == 18 * 6 * 2 * 256 * size, first)
        check(first["saved_bytes"] < state.stat().st_size < first["saved_bytes"] + 4000, state.stat())
        rest = bench.generate("--load-state", state, "--cache", cache, tokens=3)
        check(rest["loaded_positions"] == 6 and rest["prompt_ids"] == [], rest)
        check(first["generated_ids"] + rest["generated_ids"] == whole["generated_ids"], first, rest)
        check(first["text"] + rest["text"] == whole["text"], first, rest)
        check("state: 6 positions" in bench.ended.err, bench.ended)


@case
def a_state_takes_a_prompt_and_is_saved_again(bench):
    state = bench.folder / "prompt.state"
    bench.generate("--prompt", "abc", "--save-state", state, tokens=0)
    same = bench.generate("--load-state", state, tokens=2)  # nothing new: the last token once more
    check(same["generated_ids"] == fake_model.SENTENCE[:2] and same["loaded_positions"] == 3, same)
    for i in range(3):  # a file may be loaded and saved at once
        result = bench.generate("--load-state", state, "--prompt", "de", "--save-state", state, tokens=1)
        check(result["prompt_ids"] == [504, 505], result)
        check(result["loaded_positions"] == (4, 6, 9)[i], result)
        check(result["generated_ids"] == fake_model.SENTENCE[:1], result)
    # The last token of the file was not appended, and lookup may draft from all of them.
    result = bench.generate("--load-state", state, "--lookup", 8, tokens=8)
    check(result["generated_ids"] == fake_model.SENTENCE[1:], result)
    check(sorted(p.name for p in bench.folder.glob("prompt.state*")) == ["prompt.state"], "left over")


@case
def a_state_of_another_model_is_refused(bench):
    state = bench.folder / "other.state"
    bench.generate("--prompt", "abc", "--save-state", state, tokens=2)
    load = ("--tokens", 1, "--load-state", state)
    ended = bench.refused("kvring-generate", "--model", bench.model, *load, "--cache", "bf16",
                          words=("other.state is the state of another model",
                                 "element is f32 in the file, bf16 here"))
    check("loaded" not in ended.err, "it loaded a model first:", ended)
    bench.refused("kvring-generate", "--model", bench.safetensors, *load, "--ids",
                  bench.file("ids.json", "[1]"),
                  words=("model is Gemma3_270M in the file, SmolLM2_135M here",
                         "hidden width is 640 in the file, 576 here"))
    retrained = bench.folder / "retrained.gguf"
    shutil.copyfile(bench.model, retrained)
    with open(retrained, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    bench.refused("kvring-generate", "--model", retrained, *load, words=("weights is", "here"))
    bench.refused("kvring-generate", "--model", bench.model, *load, "--context", 5, words=("5",))
    bench.refused("kvring-generate", "--model", bench.model, *load, "--chat", code=2,
                  words=("--chat", "--load-state"))


@case
def a_state_that_is_damaged_is_refused(bench):
    state = bench.folder / "whole.state"
    bench.generate("--prompt", "abc", "--save-state", state, tokens=2)
    whole = state.read_bytes()
    run = ("kvring-generate", "--model", bench.model, "--tokens", 1, "--load-state")
    for size in (1, 7, 8, 11, 47, 48, 300, len(whole) // 2, len(whole) - 1):
        bench.refused(*run, bench.file("cut.state", whole[:size]), words=("cut.state", "truncated"))
    for at in (13, 17, 60, len(whole) // 2, len(whole) - 3):
        flipped = bytearray(whole)
        flipped[at] ^= 16
        bench.refused(*run, bench.file("flip.state", bytes(flipped)), words=("flip.state",))
    bench.refused(*run, bench.file("next.state", whole[:8] + struct.pack("<I", 2) + whole[12:]),
                  words=("version 2", "reads version 1"))
    bench.refused(*run, bench.model, words=("no state file",))
    bench.refused(*run, bench.folder / "none.state", words=("none.state", "No such file"))
    bench.refused(*run, bench.file("empty.state"), words=("empty",))


@case
def a_state_is_written_whole_or_not_at_all(bench):
    folder = bench.folder / "states"
    folder.mkdir()
    state = folder / "a.state"
    run = ("kvring-generate", "--model", bench.model, "--prompt", "abc", "--save-state")
    bench.run(*run, state, "--tokens", 2)
    before = state.read_bytes()
    ended = bench.refused(*run, state, "--tokens", 3, words=("a.state", "no room"),
                          before=small_disk(100_000))
    check("loaded" not in ended.err, "it loaded a model first:", ended)
    check(state.read_bytes() == before, "a failed write has changed the file")
    check([p.name for p in folder.iterdir()] == ["a.state"], list(folder.iterdir()))
    ended = bench.run(*run, "/dev/full", "--tokens", 1, code=1)
    check("error: cannot write /dev/full: No space left" in ended.err, ended)
    bench.refused(*run, folder, "--tokens", 1, words=("directory",))
    bench.refused(*run, folder / "no" / "such", "--tokens", 1, words=("No such file",))
    bench.refused(*run, bench.model, "--tokens", 1, code=2, words=("--save-state would overwrite",))


@case
def a_writer_that_is_killed_leaves_the_old_state(bench):
    folder = bench.folder / "killed"
    folder.mkdir()
    state = folder / "a.state"
    bench.generate("--prompt", "abc", "--save-state", state, tokens=2)
    before, killed = state.read_bytes(), 0
    for _ in range(3):
        child = subprocess.Popen(
            [bench.programs / "kvring-generate", "--model", bench.model, "--prompt", "a" * 600,
             "--tokens", "1", "--save-state", state], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in child.stderr:  # the attempt to reserve room is over, the state comes next
            if line.startswith(b"decode:"):
                break
        while child.poll() is None and not any(p.stat().st_size > 0 for p in folder.glob("*.tmp")):
            time.sleep(0.0002)
        child.kill()
        killed += child.wait() == -signal.SIGKILL
        child.stderr.close()
        if state.read_bytes() != before:
            check(len(state.read_bytes()) > 18 * 600 * 2048, "part of a state was moved into place")
            state.write_bytes(before)
        for left_over in folder.glob("*.tmp"):
            left_over.unlink()
        check(bench.generate("--load-state", state, tokens=1)["loaded_positions"] == 5, "the old state")
    check(killed > 0, "no writer was killed before it was done")


# --- files that are no model ----------------------------------------------------------------------

@case
def files_that_cannot_be_opened(bench):
    text = bench.file("text.txt", "abc")
    for run in (("kvring-generate", "--prompt", "abc", "--tokens", 1), ("kvring-score", "--text", text),
                ("kvring-tokenize", "--file", text)):
        run = (*run, "--model")
        bench.refused(*run, bench.folder / "none.gguf", words=("none.gguf", "No such file"))
        bench.refused(*run, bench.file("empty.gguf"), words=("empty.gguf", "empty"))
        bench.refused(*run, bench.folder, words=("directory",))
        bench.refused(*run, "/dev/null", words=("/dev/null",))
        bench.refused(*run, text, words=("text.txt",))


@case
def files_that_end_early(bench):
    whole = bench.model.stat().st_size
    header, meta, table = bench.ends
    path = bench.folder / "cut.gguf"
    with open(bench.model, "rb") as source:
        start = source.read(table)
    for size in (1, 3, 4, 8, header - 1, header, header + 9, meta // 2, meta - 1, meta, meta + 1,
                 (meta + table) // 2, table - 1, table, table + 1, whole // 2, whole - 1):
        with open(path, "wb") as out:
            out.write(start[:size])
            out.truncate(size)
        bench.refused("kvring-generate", "--model", path, "--prompt", "abc", "--tokens", 1,
                      words=("cut.gguf",))


@case
def files_of_another_kind(bench):
    run = ("kvring-generate", "--prompt", "abc", "--tokens", 1, "--model")
    path = bench.folder / "other.gguf"
    values = fake_model.metadata(size=600)
    fake_model.write(path, values, {}, magic=b"GGML")
    bench.refused(*run, path, words=("GGUF",))
    fake_model.write(path, values, {}, version=2)
    bench.refused(*run, path, words=("version 2", "3"))
    fake_model.write(path, {**values, "general.alignment": 3}, {})
    bench.refused(*run, path, words=("alignment", "3"))
    fake_model.write(path, {**values, "general.architecture": "evil\nname\x1b[2J"}, {})
    bench.refused(*run, path, words=("general.architecture",))


@case
def a_model_of_other_numbers(bench):
    """The nearest type is named, with every field that differs."""
    run = ("kvring-generate", "--prompt", "abc", "--tokens", 1, "--model")
    path = bench.folder / "near.gguf"
    numbers = {**fake_model.NUMBERS, "embedding_length": 641, "attention.sliding_window": 513}
    fake_model.write(path, fake_model.metadata(numbers, size=600), {})
    bench.refused(*run, path, words=("nearest type is Gemma3_270M", "gemma3.embedding_length is 641",
                                     "640", "sliding_window is 513", "512", "vocabulary is 600",
                                     "262144"))
    numbers = {**fake_model.NUMBERS, "block_count": 26, "embedding_length": 1152,
               "feed_forward_length": 6912}
    fake_model.write(path, fake_model.metadata(numbers, size=600), {})
    bench.refused(*run, path, words=("nearest type is Gemma3_1B", "vocabulary is 600",
                                     "beside models::Gemma3_1B", "examples/engine.hpp"))
    numbers = {**QWEN3_1_7B, "attention.head_count": 32, "embedding_length": 2560}
    fake_model.write(path, fake_model.metadata(numbers, size=151936, architecture="qwen3"), {})
    bench.refused(*run, path, words=("nearest type is Qwen3_1_7B", "qwen3.embedding_length is 2560",
                                     "2048", "qwen3.attention.head_count is 32", "16 in the type"))
    numbers = {"block_count": 36, "embedding_length": 2880}
    fake_model.write(path, fake_model.metadata(numbers, size=600, architecture="gpt-oss"), {})
    bench.refused(*run, path, words=("nearest type is GptOss_120B, and that is a plan only: mixtures",))
    fake_model.write(path, fake_model.metadata(size=600, architecture="rwkv"), {})
    bench.refused(*run, path, words=("general.architecture is rwkv",))
    missing = fake_model.metadata(size=600)
    del missing["gemma3.feed_forward_length"]
    fake_model.write(path, missing, {})
    bench.refused(*run, path, words=("gemma3.feed_forward_length",))


QWEN3_1_7B = {
    "block_count": 28, "context_length": 40960, "embedding_length": 2048, "feed_forward_length": 6144,
    "attention.head_count": 16, "attention.head_count_kv": 8, "attention.key_length": 128,
    "attention.value_length": 128, "rope.freq_base": 1e6, "attention.layer_norm_rms_epsilon": 1e-6,
}


@case
def a_known_model_that_is_not_compiled(bench):
    path = bench.folder / "other.gguf"
    fake_model.write(path, fake_model.metadata(QWEN3_1_7B, size=151936, architecture="qwen3"), {})
    words = ("is a Qwen3_1_7B", "not compiled", "Gemma3_270M", "add `models::Qwen3_1_7B` to `Models`",
             "examples/engine.hpp")
    bench.refused("kvring-generate", "--prompt", "abc", "--tokens", 1, "--model", path, words=words)
    folder = bench.folder / "360"
    config = {**fake_model.SMOLLM2, "hidden_size": 2048, "intermediate_size": 8192,
              "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 32,
              "rope_theta": 130000}
    fake_model.write_folder(folder, config, shapes={"model.norm.weight": [576]})
    ids = bench.file("ids.json", "[2, 501]")
    bench.refused("kvring-score", "--ids", ids, "--model", folder,
                  words=("is a SmolLM2_1_7B", "add `models::SmolLM2_1_7B` to `Models`"))


@case
def every_compiled_type_answers_to_its_file(bench):
    """Metadata without tensors: the type is chosen, then the first tensor is missed."""
    gemma = {**fake_model.NUMBERS, "block_count": 26, "embedding_length": 1152,
             "feed_forward_length": 6912}
    qwen = {**QWEN3_1_7B, "embedding_length": 1024, "feed_forward_length": 3072}
    smol = {"block_count": 32, "context_length": 8192, "embedding_length": 960,
            "feed_forward_length": 2560, "attention.head_count": 15, "attention.head_count_kv": 5,
            "rope.freq_base": 1e5, "attention.layer_norm_rms_epsilon": 1e-5}
    ids = bench.file("ids.json", "[2, 501]")
    for name, architecture, size, numbers in (("Gemma3_1B", "gemma3", 262144, gemma),
                                              ("Qwen3_0_6B", "qwen3", 151936, qwen),
                                              ("SmolLM2_360M", "llama", 49152, smol)):
        path = bench.folder / "metadata.gguf"
        fake_model.write(path, fake_model.metadata(numbers, size=size, architecture=architecture), {})
        for cache in ("f32", "f16", "bf16"):
            ended = bench.run("kvring-score", "--ids", ids, "--model", path, "--cache", cache, code=1)
            check(f"{name}: 1 sequence of 2 positions in {cache}" in ended.err, ended)
            check("error: " in ended.err and "token_embd.weight" in ended.err, ended)


# --- safetensors ----------------------------------------------------------------------------------

@case
def gguf_says_where_turns_and_contexts_end(bench):
    def spoil(values, shapes, data):
        values["gemma3.context_length"] = 128
        values["tokenizer.ggml.eot_token_id"] = fake_model.SENTENCE[1]
    path = bench.folder / "eot.gguf"
    fake_model.write_model(path, spoil)
    result = bench.generate("--prompt", "abc", model=path, tokens=50)
    check(result["generated_ids"] == fake_model.SENTENCE[:2] and result["ended"], result)
    bench.refused("kvring-generate", "--model", path, "--prompt", "abc", "--tokens", 200,
                  words=("do not fit a context of 128",))


@case
def safetensors_take_ids_and_give_ids(bench):
    ids = bench.file("ids.json", json.dumps([7, fake_model.BOS]))
    for shards in (1, 3):
        folder = bench.safetensors if shards == 1 else bench.folder / "shards"
        if shards > 1:
            fake_model.write_folder(folder, shards=shards)
        for cache in ("f32", "bf16"):
            result = bench.generate("--ids", ids, "--cache", cache, model=folder, tokens=50)
            check(result["generated_ids"] == fake_model.SENTENCE and result["ended"], result)
            check(result["model"] == "SmolLM2_135M" and result["text"] is None, result)
            check(json.loads(bench.ended.out) == fake_model.SENTENCE, bench.ended)
    result = bench.generate("--ids", ids, model=bench.safetensors / "model.safetensors", tokens=2)
    check(json.loads(bench.ended.out) == fake_model.SENTENCE[:2] and not result["ended"], result)


@case
def safetensors_end_where_their_config_says(bench):
    ids = bench.file("ids.json", json.dumps([fake_model.BOS]))
    folder = bench.folder / "ends"
    for ends, wanted in (([5, fake_model.SENTENCE[1]], fake_model.SENTENCE[:2]),
                         (None, [*fake_model.SENTENCE, fake_model.SENTENCE[-1]])):
        fake_model.write_folder(folder, {**fake_model.SMOLLM2, "eos_token_id": ends})
        result = bench.generate("--ids", ids, model=folder, tokens=len(wanted))
        check(result["generated_ids"][:len(wanted) - 1] == wanted[:-1], result)
        check(result["ended"] == (ends is not None), result)
    fake_model.write_folder(folder, {**fake_model.SMOLLM2, "eos_token_id": ["x"]})
    bench.refused("kvring-generate", "--model", folder, "--ids", ids, "--tokens", 1,
                  words=("eos_token_id", "x"))


@case
def safetensors_are_scored(bench):
    ids = [fake_model.BOS, *fake_model.SENTENCE]
    result = bench.score("--ids", bench.file("ids.json", json.dumps(ids)), "--top", 1,
                         model=bench.safetensors)
    check([top[0] for top in result["top_ids"][:-1]] == fake_model.SENTENCE, result)
    folder = bench.file("uniform.json", json.dumps([5, 6, 7]))  # zeros: every token is as likely
    result = bench.score("--ids", folder, model=bench.safetensors)
    check(all(close(nll, math.log(49152), 1e-5) for nll in result["nll"]), result)


@case
def safetensors_have_no_text(bench):
    model = ("--model", bench.safetensors)
    text = bench.file("text.txt", "abc")
    words = ("no tokenizer", "--ids")
    bench.refused("kvring-generate", *model, "--prompt", "abc", "--tokens", 1, words=words)
    bench.refused("kvring-generate", *model, "--prompt", "abc", "--chat", "--tokens", 1, words=words)
    bench.refused("kvring-score", *model, "--text", text, words=words)
    bench.refused("kvring-tokenize", *model, "--file", text, words=words)


@case
def safetensors_that_are_no_model(bench):
    ids = bench.file("ids.json", "[2, 501]")
    run = ("kvring-generate", "--ids", ids, "--tokens", 1, "--model")
    folder = bench.folder / "bad"
    shapes = fake_model.safetensors_shapes()

    def refused(*words, path=folder):
        bench.refused(*run, path, words=words)

    fake_model.write_folder(folder, {**fake_model.SMOLLM2, "hidden_size": 577, "rope_theta": 1e6})
    refused("nearest type is SmolLM2_135M", "hidden_size is 577", "576", "rope_theta", "1e+05 in the type",
            "examples/engine.hpp")
    fake_model.write_folder(folder, {**fake_model.SMOLLM2, "model_type": "rwkv"})
    refused("model_type is rwkv")
    fake_model.write_folder(folder, shapes={k: v for k, v in shapes.items() if "layers.7.mlp.up" not in k})
    refused("model.layers.7.mlp.up_proj.weight")
    fake_model.write_folder(folder, shapes={**shapes, "model.norm.bias": [576]})
    refused("model.norm.bias")
    fake_model.write_folder(folder)
    (folder / "config.json").write_text("{")
    refused("config.json", "JSON")
    (folder / "config.json").unlink()
    refused("without config.json")
    refused("config.json", path=folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fake_model.SMOLLM2))
    (folder / "model.safetensors").unlink()
    refused("model.safetensors")
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    refused("model.safetensors")


@case
def tensors_that_are_not_as_they_should_be(bench):
    run = ("kvring-generate", "--prompt", "abc", "--tokens", 1, "--model")
    name = "blk.7.ffn_up.weight"

    def missing(values, shapes, data):
        del shapes[name]

    def misshaped(values, shapes, data):
        shapes[name] = ((640, 2016), fake_model.TYPE_Q8_0)

    def extra(values, shapes, data):
        shapes["blk.18.ffn_up.weight"] = ((640, 2048), fake_model.TYPE_Q8_0)

    def unknown(values, shapes, data):
        shapes["output_norm.weight"] = ((640,), 99)
        del data["output_norm.weight"]

    for change, words in ((missing, (name,)), (misshaped, (name, "640, 2016", "2048")),
                          (extra, ("blk.18.ffn_up.weight",)), (unknown, ("output_norm", "99"))):
        path = bench.folder / "spoilt.gguf"
        bench_bytes = fake_model.bytes_of
        if change is unknown:
            fake_model.bytes_of = lambda dims, kind: 640 if kind == 99 else bench_bytes(dims, kind)
        try:
            fake_model.write_model(path, change)
        finally:
            fake_model.bytes_of = bench_bytes
        bench.refused(*run, path, words=words)


@case
def not_enough_memory(bench):
    threads = len(os.sched_getaffinity(0))  # each takes addresses of its own
    limit = (864 + 136 * (threads - 1)) << 20

    def small():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    ended = bench.refused("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1,
                          "--context", 32768, before=small,
                          words=("32768", "caches take", "free", "longest context that fits is"))
    fits = int(re.search(r"fits is (\d+)", ended.err)[1])
    check(1 <= fits < 32768, ended)
    bench.run("kvring-generate", "--model", bench.model, "--prompt", "abc", "--tokens", 1,
              "--context", fits, before=small)


# --- kvring-score ---------------------------------------------------------------------------------

def sentence_logits(token):
    """{id: logit} of the nonzero logits after a token of the sentence model, and their number."""
    def embedding(t):
        x = [0.0] * 32
        if t in fake_model.SENTENCE:
            k = fake_model.SENTENCE.index(t)
            x[k], x[k + 1] = 2 * 8.0 ** k / 512, 8.0 ** k / 512
        elif t in starts:
            x[0] = 2 / 8192
        return x
    starts = {fake_model.BOS, 500, *range(501, 527),
              *range(fake_model.FIRST_BYTE, fake_model.FIRST_BYTE + 256)}
    residual = [v * math.sqrt(640) for v in embedding(token)]
    norm = math.sqrt(sum(v * v for v in residual) / 640 + 1e-6)
    return {t: sum(a / norm * b for a, b in zip(residual, embedding(t)))
            for t in [*fake_model.SENTENCE, *starts]}


@case
def score_is_what_a_hand_computes(bench):
    ids = [fake_model.BOS, *fake_model.SENTENCE, 7, 501, 1002]
    n = len(ids)
    for chunk in (4096, 3, 1):
        result = bench.score("--ids", bench.file("ids.json", json.dumps(ids)), "--top", 5, "--chunk",
                             chunk)
        check(result["ids"] == ids, result)
        check(len(result["nll"]) == n - 1 and len(result["logsumexp"]) == n, result)
        check(len(result["top_ids"]) == n and len(result["top_ids"][0]) == 5, result)
        for i, token in enumerate(ids):
            logits = sentence_logits(token)
            others = fake_model.VOCABULARY - len(logits)
            highest = max(0, max(logits.values()))
            lse = highest + math.log(others * math.exp(-highest)
                                     + sum(math.exp(v - highest) for v in logits.values()))
            check(close(result["logsumexp"][i], lse, 2e-6 * max(1, highest)), i, lse, result["logsumexp"][i])
            if i + 1 < n:
                nll = lse - logits.get(ids[i + 1], 0)
                check(close(result["nll"][i], nll, 2e-6 * max(1, highest)), i, nll, result["nll"][i])
            best = sorted(((-logits.get(t, 0.0), t) for t in range(3000)))[:5]
            check(result["top_ids"][i] == [t for _, t in best], i, best, result["top_ids"][i])
            for (negative, _), value in zip(best, result["top_logits"][i]):
                check(close(-negative, value, 1e-6 * max(1, highest)), i, negative, value)
        mean = sum(result["nll"]) / (n - 1)
        check(close(result["mean_nll"], mean, 1e-9 * abs(mean)), result["mean_nll"], mean)
        check(close(result["perplexity"], math.exp(mean), 1e-9 * math.exp(mean)), result)
        check(b"perplexity" in bench.ended.out and "path" in result and "seconds" in result, result)


@case
def score_of_the_first_tokens_of_a_text(bench):
    text = bench.file("text.txt", "some text of letters " * 20)
    result = bench.score("--text", text, "--tokens", 70)
    check(len(result["ids"]) == 70 and len(result["nll"]) == 69, len(result["ids"]))
    check("top_ids" not in result, result.keys())
    result = bench.score("--text", text, "--tokens", 100000)
    check(len(result["ids"]) == 421, len(result["ids"]))


@case
def score_refuses(bench):
    run = ("kvring-score", "--model", bench.model)
    bench.refused(*run, "--text", bench.file("empty.txt"), words=("1 token", "2 or more"))
    bench.refused(*run, "--ids", bench.file("none.json", "[]"), words=("0 tokens",))
    bench.refused(*run, "--ids", bench.file("big.json", "[2, 262144]"), words=("262144",))
    text = bench.file("long.txt", "a" * 32768)
    bench.refused(*run, "--text", text, words=("32769", "32768"))
    bench.refused(*run, "--text", bench.file("text.txt", "abc"), "--top", 262145,
                  words=("262145", "262144"))
    bench.refused(*run, "--text", bench.file("text.txt", "abc"), "--chunk", 5000,
                  words=("5000", "4096"))


# --- kvring-tokenize ------------------------------------------------------------------------------

@case
def tokenize_there_and_back(bench):
    for content in (b"abc", b"", b"a  b\n\tc", "žluťoučký 🐎".encode(), b"\xff\x00\xc3", b"<bos>abc<eos>",
                    b"abc<end_of_turn>"):
        path = bench.file("text.bin", content)
        ended = bench.run("kvring-tokenize", "--model", bench.model, "--file", path)
        ids = json.loads(ended.out)
        check(ids[0] == fake_model.BOS and ended.out.endswith(b"]\n") and ended.err == "", ended)
        back = bench.run("kvring-tokenize", "--model", bench.model, "--file",
                         bench.file("ids.json", ended.out), "--decode")
        check(back.out == content, content, back)


@case
def tokenize_refuses(bench):
    run = ("kvring-tokenize", "--model", bench.model, "--decode", "--file")
    bench.refused(*run, bench.file("bad.json", "[262144]"), words=("262144",))
    bench.refused(*run, bench.file("bad.json", "abc"), words=("JSON",))
    bench.refused(*run, bench.folder / "absent.json", words=("absent.json",))


# --- kvring-plan ----------------------------------------------------------------------------------

@case
def plan_of_every_type(bench):
    ended = bench.run("kvring-plan", "--context", 32768, "--cache", "f32")
    out = ended.out.decode()
    for name, layers in (("270M", 18), ("1B", 26), ("4B", 34), ("12B", 48), ("27B", 62)):
        check(re.search(rf"^Gemma3_{name}: 1 sequence of 32,768 positions in f32$", out, re.M), ended)
        check(re.search(rf"^ +caches +{layers} ", out, re.M), layers, ended)
    # 15 rings of 4,608 rows and 3 caches of 32,768, each of K and V, 256 values of 4 bytes.
    exact = (15 * 4608 + 3 * 32768) * 2 * 256 * 4
    check(f"{exact:,} bytes" in out, exact, ended)


@case
def plan_knows_every_published_type(bench):
    out = bench.run("kvring-plan", "--context", 4000).out.decode()
    names = re.findall(r"^(\w+): 1 sequence of 4,000 positions in bf16$", out, re.M)
    check(len(names) == len(set(names)) == 25, names)
    for header in (ROOT / "include/kvring/models").glob("*.hpp"):
        for name in re.findall(r'name = "([A-Z]\w+)"', header.read_text()):
            check(name in names, name, "is not planned")
    for name in names:
        says_so = re.search(rf"^{name}: (?:.+\n)+  a plan only: .", out, re.M) is not None
        check(says_so == name.startswith("GptOss"), name, out)


@case
def plan_follows_its_flags(bench):
    for cache, size in (("f32", 4), ("f16", 2), ("bf16", 2)):
        for chunk, ring in ((256, 768), (512, 1024), (1024, 1536), (2048, 2560), (4096, 4608)):
            for sequences in (1, 3):
                ended = bench.run("kvring-plan", "--type", "Gemma3_270M", "--context", 10000, "--cache",
                                  cache, "--chunk", chunk, "--sequences", sequences)
                exact = (15 * ring + 3 * 10000) * 2 * 256 * size * sequences
                check(f"{exact:,} bytes" in ended.out.decode(), exact, ended)
                check(ended.out.decode().count("positions in") == 1, ended)


@case
def plan_agrees_with_generate(bench):
    result = bench.generate("--prompt", "abc", "--context", 5000, "--cache", "f16", tokens=1)
    out = bench.run("kvring-plan", "--type", "Gemma3_270M", "--context", 5000, "--cache",
                    "f16").out.decode()
    for figure in ("cache_bytes", "scratch_bytes"):
        check(f"{result[figure]:,} bytes" in out, figure, result[figure], out)


@case
def plan_names_the_kernels(bench):
    out = bench.run("kvring-plan", "--type", "Gemma4_E4B", "--context", 131072, "--kernels").out.decode()
    hopper, ampere = out.split("kernels on ")[1:]
    check(hopper.startswith("sm_90a") and ampere.startswith("sm_80"), out)
    check(re.search(r"local +attend_wgmma: 128 rows = 32 positions x 4 heads, tiles of 64 keys", hopper), out)
    check(re.search(r"global +attend_wgmma512: 128 rows = 32 positions x 4 heads in a cluster of 2", hopper), out)
    check(hopper.count("attend_decode: ") == 2 and ampere.count("attend_mma: ") == 2, out)
    out = bench.run("kvring-plan", "--type", "Gemma3_270M", "--context", 100, "--cache", "f32", "--kernels").out
    check(b"attend_simt" in out and b"attend_mma" not in out, out)


@case
def plan_of_long_contexts_and_what_it_refuses(bench):
    ended = bench.run("kvring-plan", "--context", 131072)
    check(b"Gemma3_27B" in ended.out and b"Gemma3_270M" not in ended.out, ended)
    # Staged, 29 rings of Gemma 3 4B have 1,088 slots of 4 KiB, not 5,120; 5 caches are full.
    check((29 * 1088 + 5 * 131072) * 4096 / 2**20 == 2683.25)
    check(b" 2,683.3  what staged chunks would take, and a stage of 16.3 MiB" in ended.out, ended)
    bench.refused("kvring-plan", "--context", 100, "--type", "Gemma3_3B", words=("Gemma3_3B", "Gemma3_4B"))
    bench.refused("kvring-plan", "--context", 100, "--chunk", 3000, words=("3000", "256", "2048", "4096"))
    bench.refused("kvring-plan", "--context", 32769, "--type", "Gemma3_1B", words=("32769", "32768"))
    bench.refused("kvring-plan", "--context", 10**18, "--type", "Gemma3_27B", words=(10**18, 131072))


# --- the staircase of examples --------------------------------------------------------------------

@case
def example_a_ring(bench):
    out = bench.run("01-a-ring").out.decode().splitlines()
    check(out[:3] == [
        " 5 positions, live from 0:  0@0 1@1 2@2 3@3 4@4",
        "10 positions, live from 2:  2@2 3@3 4@4 5@5 6@6 7@7 8@0 9@1",
        "15 positions, live from 7:  7@7 8@0 9@1 10@2 11@3 12@4 13@5 14@6"], out)
    check("cannot append 6 rows at position 15" in out[3] and "at most 5" in out[3], out)
    check(out[4] == "13 positions, live from 7:  7@7 8@0 9@1 10@2 11@3 12@4", out)
    check("cannot rewind to position 9" in out[5] and "rewind to 10" in out[5], out)


@case
def example_three_errors(bench):
    out = bench.run("02-three-errors").out.decode()
    check("proved: 42 layers, rings of 4608 slots" in out, out)
    command = [os.environ.get("CXX", "g++"), "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra",
               f"-I{ROOT / 'include'}", str(ROOT / "examples" / "02_three_errors.cpp")]
    for number, words in ((1, ("a Dense layer on a Ring", "4608")),
                          (2, ("ring too small", "RingHoldsWindowAndChunk<4544, 4607>")),
                          (3, ("does not fill the layer count", "PatternFillsLayers<40, 6, 0>"))):
        done = subprocess.run([*command, f"-DKVRING_SHOW_ERROR={number}"], capture_output=True,
                              text=True, env={**os.environ, "LC_ALL": "C"})
        check(done.returncode != 0, f"error {number} compiles")
        for word in words:
            check(word in done.stderr, f"error {number} lacks {word!r}:", done.stderr)


@case
def example_attention_in_your_engine(bench):
    out = bench.run("03-attention-in-your-engine").out.decode()
    means = re.findall(r"position +(\d+): attends to a mean position of ([\d.]+)", out)
    check([int(p) for p, _ in means] == [149, 299, 300, 450, 451], out)
    for position, mean in means:  # the 100 keys p - 99 ... p
        check(close(float(mean), int(position) - 49.5, 0.011), out)


@case
def example_your_model(bench):
    out = bench.run("04-your-model").out.decode()
    check("MyModel: 1 sequence of 131,072 positions in bf16" in out, out)
    check(re.search(r"local +20 .*4,608 +180\.0\n +local +15 .*shared +- +0\.0", out), out)
    exact = (20 * 4608 * 512 + 4 * 131072 * 1024) * 2 * 2
    check(f"{exact:,} bytes" in out, exact, out)
    # After the rings, 1 GiB leaves this for 4 layers of 4,096 bytes a position.
    positions = ((1 << 30) - 20 * 4608 * 2048) // (4 * 4096)
    check(f"{positions:,} positions fit into 1 GiB" in out, positions, out)


@case
def examples_are_short(bench):
    stairs = sorted((ROOT / "examples").glob("0*.cpp"))
    check(len(stairs) >= 4, stairs)
    for path in stairs:
        lines = len(path.read_text().splitlines())
        check(lines < 60, path.name, lines)


@case
def example_fork_a_prompt(bench):
    for arguments in ((), (bench.real,)) if bench.real else ((),):
        out = bench.run("06-fork-a-prompt", *arguments).out.decode()
        check(out.count("the same answer") == 4 and "ANOTHER" not in out, out)
        check(float(re.search(r"saved ([\d.-]+) s", out)[1]) > 0, out)


# --- real weights ---------------------------------------------------------------------------------

def licence_ids(bench, tokens):
    """Tokens of this project's licence, again and again."""
    text = (ROOT / "LICENSE").read_text()
    path = bench.file("licence.txt", text * 4)
    ids = json.loads(bench.run("kvring-tokenize", "--model", bench.real, "--file", path).out)
    check(len(ids) >= tokens, len(ids))
    return bench.file("licence.json", json.dumps(ids[:tokens]))


@real
def real_text_goes_on_sensibly(bench):
    result = bench.generate("--prompt", "The capital of France is", model=bench.real, tokens=12)
    check(result["prompt_ids"] == [2, 818, 5279, 529, 7001, 563], result)
    check("France" in result["text"], result)
    again = bench.generate("--prompt", "The capital of France is", model=bench.real, tokens=12)
    check(again["generated_ids"] == result["generated_ids"], result, again)
    check(bench.ended.out.decode() == result["text"], bench.ended, result)


@real
def real_chunks_change_nothing(bench):
    ids = licence_ids(bench, 530)
    wanted = None
    for chunk in (4096, 512, 7, 1):
        result = bench.generate("--ids", ids, "--chunk", chunk, model=bench.real, tokens=8)
        wanted = wanted or result["generated_ids"]
        check(result["generated_ids"] == wanted, chunk, result["generated_ids"], wanted)
        check(result["chunk"] == chunk, result)


@real
def real_caches_of_16_bits_stay_near(bench):
    ids = licence_ids(bench, 200)
    exact = bench.score("--ids", ids, model=bench.real)
    for cache, bound in (("f16", 0.005), ("bf16", 0.03)):
        result = bench.score("--ids", ids, "--cache", cache, model=bench.real)
        check(close(result["mean_nll"], exact["mean_nll"], bound), cache, result["mean_nll"],
              exact["mean_nll"])


@real
def real_sampling_is_reproducible(bench):
    run = ("--prompt", "Once upon a time", "--temp", 1.2, "--top-k", 40, "--top-p", 0.95)
    first = bench.generate(*run, "--seed", 1, model=bench.real, tokens=12)["generated_ids"]
    again = bench.generate(*run, "--seed", 1, model=bench.real, tokens=12)["generated_ids"]
    other = bench.generate(*run, "--seed", 2, model=bench.real, tokens=12)["generated_ids"]
    check(first == again and first != other, first, again, other)


def safetensors(path, *names):
    """Tensors of a safetensors file, flat."""
    data = path.read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    out = []
    for name in names:
        entry = header[name]
        begin, end = entry["data_offsets"]
        code, width = {"F32": ("f", 4), "I32": ("i", 4), "I64": ("q", 8), "F64": ("d", 8)}[entry["dtype"]]
        out.append(struct.unpack_from(f"<{(end - begin) // width}{code}", data, 8 + size + begin))
    return out


@real
def real_scores_are_the_oracles(bench):
    """Against transformers in float64, the first 160 tokens; 5e-4: its own float32 differs by 4e-5."""
    path = ROOT / "tests" / "data" / "real" / "gemma3-270m-gpl3.safetensors"
    ids, lse, nll, top_ids, top_logits = safetensors(path, "ids", "logsumexp", "nll", "top_ids",
                                                     "top_logits")
    n, width = 160, len(top_ids) // len(ids)
    result = bench.score("--ids", bench.file("gpl.json", json.dumps(ids[:n])), "--top", width,
                         "--chunk", 100, model=bench.real)
    worst = max(abs(a - b) for a, b in zip(result["logsumexp"], lse))
    check(worst <= 5e-4, "logsumexp", worst)
    check(max(abs(a - b) for a, b in zip(result["nll"], nll)) <= 1e-3, "nll")
    for i in range(n):
        wanted = dict(zip(top_ids[i * width:(i + 1) * width], top_logits[i * width:(i + 1) * width]))
        for token, value in zip(result["top_ids"][i], result["top_logits"][i]):
            check(token not in wanted or close(value, wanted[token], 5e-4), i, token, value)
        margin = top_logits[i * width] - top_logits[i * width + 1]
        check(result["top_ids"][i][0] == top_ids[i * width] or margin < 1e-3, i)


@real
def real_lookup_changes_nothing(bench):
    ids = licence_ids(bench, 300)
    plain = bench.generate("--ids", ids, model=bench.real, tokens=80)
    result = bench.generate("--ids", ids, "--lookup", 8, model=bench.real, tokens=80)
    check(result["generated_ids"] == plain["generated_ids"], plain, result)
    check(result["lookup"]["accepted"] > 0, result["lookup"])


@real
def real_states_go_on(bench):
    """560 tokens, so that the local layers have forgotten some; each half draws from the file."""
    ids, state = licence_ids(bench, 560), bench.folder / "real.state"
    whole = bench.generate("--ids", ids, model=bench.real, tokens=24)
    first = bench.generate("--ids", ids, "--save-state", state, model=bench.real, tokens=10)
    rest = bench.generate("--load-state", state, "--lookup", 8, model=bench.real, tokens=14)
    check(first["generated_ids"] + rest["generated_ids"] == whole["generated_ids"], whole, first, rest)
    check(rest["loaded_positions"] == 569, rest)
    bench.refused("kvring-generate", "--model", bench.model, "--load-state", state, "--tokens", 1,
                  words=("weights is",))


@real
def real_tokens_there_and_back(bench):
    cases = json.loads((ROOT / "tests/data/real/tokenizer-gemma3.json").read_bytes())
    text = (ROOT / "LICENSE").read_text() + "\n  žluťoučký 🐎 <end_of_turn>\t日本語"
    ended = bench.run("kvring-tokenize", "--model", bench.real, "--file", bench.file("t.txt", text))
    back = bench.run("kvring-tokenize", "--model", bench.real, "--file",
                     bench.file("t.json", ended.out), "--decode")
    check(back.out == text.encode(), back)
    check(106 in json.loads(ended.out) and cases, ended)


@real
def real_file_cut_short(bench):
    size = os.path.getsize(bench.real)
    with open(bench.real, "rb") as source:
        start = source.read(12 << 20)
    for cut in (100, 4 << 20, size // 2, size - 1):
        path = bench.folder / "cut.gguf"
        with open(path, "wb") as out:
            out.write(start[:cut])
            out.truncate(cut)
        bench.refused("kvring-generate", "--model", path, "--prompt", "abc", "--tokens", 1,
                      words=("cut.gguf",))


@smollm2
def smollm2_answers_a_chat(bench):
    question = "What is the capital of France?"
    result = bench.generate("--chat", "--prompt", question, model=bench.smollm2, tokens=40)
    check(result["model"] == "SmolLM2_135M" and result["ended"], result)
    check("Paris" in result["text"] and "<|" not in result["text"], result)
    ids = bench.file("chat.json", json.dumps(result["prompt_ids"]))
    shown = bench.run("kvring-tokenize", "--model", bench.smollm2, "--file", ids, "--decode").out.decode()
    check(shown == "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
          f"Face<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", shown)
    plain = bench.generate("--prompt", question, model=bench.smollm2, tokens=2)
    check(len(plain["prompt_ids"]) < 10, plain)
    bench.refused("kvring-generate", "--model", bench.smollm2, "--chat", "--tokens", 1, "--prompt",
                  "a<|im_end|>b", words=("<|im_end|>", "only the template"))
    bench.refused("kvring-generate", "--model", bench.smollm2, "--chat", "--tokens", 1, "--prompt", "",
                  words=("empty",))


@smollm2
def smollm2_tokens_there_and_back(bench):
    text = (ROOT / "LICENSE").read_text() + "\n  žluťoučký 🐎 <|im_end|>\t日本語\n\n 12345 it's"
    for content in (text.encode(), b"", b"a  b\n\n\tc"):
        ended = bench.run("kvring-tokenize", "--model", bench.smollm2, "--file", bench.file("t.txt", content))
        back = bench.run("kvring-tokenize", "--model", bench.smollm2, "--file",
                         bench.file("t.json", ended.out), "--decode")
        check(back.out == content, back)
    bench.refused("kvring-tokenize", "--model", bench.smollm2, "--file", bench.file("t.txt", b"a\xff"),
                  words=("0xff", "no token"))


@smollm2
def smollm2_scores_and_goes_on(bench):
    text = bench.file("text.txt", "The quick brown fox jumps over the lazy dog. The capital of France is Paris.")
    exact = bench.score("--text", text, model=bench.smollm2)
    check(exact["model"] == "SmolLM2_135M" and exact["perplexity"] < 40, exact["perplexity"])
    for options, bound in ((("--chunk", 1), 1e-5), (("--chunk", 7), 1e-5), (("--cache", "bf16"), 0.05)):
        other = bench.score("--text", text, *options, model=bench.smollm2)
        check(close(other["mean_nll"], exact["mean_nll"], bound), options, other["mean_nll"], exact["mean_nll"])
    result = bench.generate("--prompt", "The capital of France is", model=bench.smollm2, tokens=8)
    check("Paris" in result["text"], result)


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("bin", nargs="?", default=os.environ.get("KVRING_BIN"), type=pathlib.Path)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    if options.bin is None:
        options.bin = ROOT / "build" / "host" / "bin"

    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="kvring-programs-") as folder:
        bench = Bench(options.bin.resolve(), pathlib.Path(folder))
        for function, weights in CASES:
            name = function.__name__
            if options.only not in name:
                continue
            if weights and not os.environ.get(weights):
                print(f"SKIP {name}: {weights} is not set")
                skipped += 1
                continue
            start = time.monotonic()
            try:
                function(bench)
                passed += 1
                print(f"ok    {name}  {time.monotonic() - start:.1f} s", flush=True)
            except (Failure, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"FAIL  {name}: {error}", flush=True)
    if passed + failed + skipped == 0:
        print("no case was selected: that is a failure")
        failed = 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
