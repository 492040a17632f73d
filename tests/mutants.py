#!/usr/bin/env python3
"""Do the tests bite? Each mutant is the library with one mistake; a test must kill it.

A mutant is a copy of include/ with exact textual replacements, each found exactly as often as stated.
Its killer, one test file, is built against the copy and run. It is killed if the test then fails; or,
where `proof` says so, if a static_assert of that very test file fails to compile. It survives if the
test passes, and also if it neither compiles nor is refused by such a static_assert, or does not end.
The killers are first built and run against the library as it is, where all must pass.

Also checked here: every rule of checks.hpp has a case in tests/compile_fail that bears its name.

    mutants.py [--jobs N] [--device] [NAME...]      NAME: only mutants whose name contains it

--device: those of the GPU's kernels instead, built by nvcc, where there is a GPU.
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
from dataclasses import dataclass

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent
CXX = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++20", "-Og", "-w", f"-I{TESTS}"]
NVCC = os.environ.get("NVCC", "nvcc")
DEVICE_FLAGS = ["-std=c++20", "-O3", "-w", "-gencode", "arch=compute_90a,code=sm_90a", f"-I{TESTS}", "-lcuda"]
SECONDS = 300  # for one test to end


@dataclass(frozen=True)
class Edit:
    header: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True)
class Mutant:
    name: str
    edits: tuple
    killer: str  # files of tests/, with a space between; the first refuses if `proof`
    proof: bool = False  # a static_assert of the killer may be what fails


def mutant(name, header, old, new, killer, times=1, proof=False):
    return Mutant(name, (Edit(header, old, new, times),), killer, proof)


SCHEDULES = "worlds/schedules_test.cpp"
LEGALITY = "worlds/legality_test.cpp"
TILES = "worlds/tiles_test.cpp"
BATCH = "worlds/batch_test.cpp"
SEQUENCES = "worlds/sequences_test.cpp"
STAGED = "worlds/schedules_staged_test.cpp"
STAGED_PLAN = "policy/staged_plan_test.cpp"
STATES = "io/state_file_test.cpp"
LOOKUP = "model/lookup_test.cpp"
LAYERS = "kernels/traps_layers_test.cpp"
# The long walks add nothing where a short one kills.
ARGUMENTS = {SCHEDULES: ["--test-case-exclude=*old rows*,*deduced*"],
             STAGED: ["--test-case-exclude=*old rows*"]}

SCALAR, HOST = "kernels/attend_scalar.hpp", "kernels/attend_host.hpp"
STAGE, STAGED_VIEW = "kernels/stage.hpp", "kernels/staged_view.hpp"
READ_SCALAR = "view.row(segment.sequence, tile + j)"
READ_HOST = "block.cache.rows(block.segment.sequence, tile)"
WRITE = ".rows(segment.sequence, Batch::position(segment, row))"

MUTANTS = [
    # Slots.
    mutant("no modulo on read, scalar", SCALAR, READ_SCALAR,
           "(segment.sequence * cache.cache_slots() + (tile + j).value) * heads.kv_dim()", SCHEDULES),
    mutant("no modulo on read, blocked", HOST, READ_HOST,
           "(block.cache.base(tile) + (block.segment.sequence * cache.cache_slots() + tile.value) * "
           "heads.kv_dim())", SCHEDULES),
    mutant("no modulo on write", "kernels/append.hpp", WRITE,
           ".base({}) + (segment.sequence * cache.cache_slots() + "
           "Batch::position(segment, row).value) * width", SCHEDULES),
    mutant("capacity taken for ring size: slots of the type, not of the cache", "storage.hpp",
           "{p.value % slots}", "{p.value % Slots}", SCHEDULES),
    mutant("capacity taken for ring size: slots of the context", "plan.hpp",
           "LiveRange(PlacementOf<Kind>::capacity(context),", "LiveRange(context,",
           "policy/plan_test.cpp"),
    mutant("capacity taken for ring size: a ring allocates the context", "layer.hpp",
           "return smaller(context, Storage::slots);", "return context;",
           "policy/layer_test.cpp"),
    mutant("capacity is not cut to the context", "layer.hpp",
           "return smaller(context, Storage::slots);", "return Storage::slots;",
           "policy/layer_test.cpp"),
    # Windows and masks.
    mutant("W-1 for W", "policy.hpp", "query.value - (Window - 1)", "query.value - (Window - 2)",
           SCHEDULES),
    mutant("W+1 for W", "policy.hpp", "query.value - (Window - 1)", "query.value - Window",
           SCHEDULES),
    mutant("mask on slot, scalar", SCALAR, "visible_keys<Policy>(position)",
           "visible_keys<Policy>({View::Storage::slot(position, cache.cache_slots()).value})", SCHEDULES),
    mutant("mask on slot, blocked", HOST, ".first = segment->start + skipped,",
           ".first = {View::Storage::slot(segment->start + skipped, cache.cache_slots()).value},",
           SCHEDULES),
    mutant("a query does not see its own key", "kernels/tiles.hpp",
           "{Policy::first_visible(p), p + 1}", "{Policy::first_visible(p), p}", SCHEDULES),
    mutant("a query sees the next key", "kernels/tiles.hpp",
           "{Policy::first_visible(p), p + 1}", "{Policy::first_visible(p), p + 2}", SCHEDULES),
    mutant("one window for all rows of a block", HOST,
           "visible_keys<Policy>(first + row / heads.group())",
           "visible_keys<Policy>(first + (count - 1))", SCHEDULES),
    Mutant("values out of sight are multiplied by zero",
           (Edit(HOST, "within_tile({Policy::first_visible(block.first), last + 1}, tile, Tile)",
                 "TileRange{0, Tile}"),
            Edit(HOST, "&scores[0][range.begin], keys, &scratch.v[range.begin][column]",
                 "&scores[0][0], keys, &scratch.v[0][column]"),
            Edit(HOST, "dims, range.end - range.begin,", "dims, Tile,")), SCHEDULES),
    # Tiles.
    mutant("tile count +1, at the end", "kernels/tiles.hpp", "last.value / Tile * Tile + Tile",
           "last.value / Tile * Tile + 2 * Tile", TILES, proof=True),
    mutant("tile count -1, at the end", "kernels/tiles.hpp", "last.value / Tile * Tile + Tile",
           "last.value / Tile * Tile", SCHEDULES),
    mutant("tile count +1, at the start", "kernels/tiles.hpp",
           "{Policy::first_visible(first).value / Tile * Tile}",
           "{Policy::first_visible(first).value / Tile * Tile - Tile}", SCHEDULES),
    mutant("tile count -1, at the start", "kernels/tiles.hpp",
           "{Policy::first_visible(first).value / Tile * Tile}",
           "{Policy::first_visible(first).value / Tile * Tile + Tile}", SCHEDULES),
    # Chunks and batches.
    mutant("chunk start off by one, in a launch", "kernels/batch.hpp",
           "segment.start + (row - segment.first_row)",
           "segment.start + (row - segment.first_row) + 1", SCHEDULES),
    mutant("chunk start off by one, in a schedule", "chunk.hpp", "{start_ + i * chunk_,",
           "{start_ + i * chunk_ + 1,", "policy/chunk_test.cpp", proof=True),
    mutant("the last chunk is never short", "chunk.hpp", "smaller(chunk_, rows_ - i * chunk_)",
           "chunk_", "policy/chunk_test.cpp", proof=True),
    mutant("a segment's first row is its neighbour's", "kernels/batch.hpp",
           "segments[middle].first_row <= row", "segments[middle].first_row < row", BATCH),
    mutant("kv heads taken in turn instead of by group", SCALAR,
           "i % heads.q / heads.group()", "i % heads.kv", SCHEDULES),
    # Softmax.
    mutant("what was accumulated is not corrected for a new maximum", SCALAR,
           "result[begin + n] * correction", "result[begin + n]", SCHEDULES),
    mutant("the denominator is not corrected for a new maximum", SCALAR,
           "mul_add(denominator, correction, sums[0])", "denominator + sums[0]", SCHEDULES),
    # Live ranges.
    mutant("rewind floor too lenient by one", "live_range.hpp",
           "written_ - slots_ + (window_ - 1)}", "written_ - slots_ + (window_ - 2)}", SCHEDULES),
    mutant("rewind floor too strict by one", "live_range.hpp",
           "written_ - slots_ + (window_ - 1)}", "written_ - slots_ + window_}", LEGALITY,
           proof=True),
    mutant("rewind floor from the length, not the high-water mark", "live_range.hpp",
           "return {written_ - slots_ + (window_ - 1)}", "return {length_ - slots_ + (window_ - 1)}",
           SCHEDULES),
    mutant("high-water mark not advanced", "live_range.hpp",
           "written_ = larger(written_, length_);", "", SCHEDULES),
    mutant("high-water mark reset on rewind", "live_range.hpp",
           "if (p.value == 0) written_ = 0;", "written_ = p.value;", SCHEDULES),
    mutant("one row appended too many", "live_range.hpp", "rows <= appendable();",
           "rows <= appendable() + 1;", SCHEDULES),
    mutant("one row too few may be appended", "live_range.hpp", "rows <= appendable();",
           "rows <= appendable() - (appendable() > 0);", LEGALITY, proof=True),
    mutant("a timeline appends in some layers and then refuses", "plan.hpp",
           "for (const LiveRange& range : ranges_) range.require_append(rows);", "",
           "policy/plan_test.cpp"),
    mutant("a timeline takes some layers back and then refuses", "plan.hpp",
           "for (const LiveRange& range : ranges_) range.require_rewind_to(p);", "",
           "policy/plan_test.cpp"),
    # Snapshots and forks.
    mutant("a snapshot takes one row less", "snapshot.hpp",
           "return {written - PlanType::capacity(layer, written)};",
           "return {written - PlanType::capacity(layer, written) + (written > 1)};",
           "memory/snapshot_test.cpp"),
    mutant("a snapshot counts from the length, not from the high-water mark", "snapshot.hpp",
           "for_each_run(view, oldest_live<PlanType>(layer, written), {length},",
           "for_each_run(view, oldest_live<PlanType>(layer, length), {length},", SEQUENCES),
    mutant("a fork forgets the high-water mark", "snapshot.hpp",
           "timeline.resume(source.length(), source.written());",
           "timeline.resume(source.length(), source.length());", SEQUENCES),
    mutant("a restored sequence forgets the high-water mark", "snapshot.hpp",
           "timeline.resume(length_, written_);", "timeline.resume(length_, length_);", SEQUENCES),
    mutant("a snapshot reads the sequence before", "snapshot.hpp",
           "to_host(to, half + view.row(sequence, begin)",
           "to_host(to, half + view.row(0, begin)", SEQUENCES),
    mutant("a fork leaves the values", "snapshot.hpp", "half + view.row(from, begin),",
           "half + view.row(half == view.k ? from : to, begin),", SEQUENCES),
    mutant("a run goes on past the last slot", "snapshot.hpp",
           "smaller(end - begin, view.slots - slot)", "end - begin", "memory/snapshot_test.cpp"),
    mutant("a context too short is found after the rows are lost", "snapshot.hpp",
           "    timeline.require_resume(length_, written_);\n    timeline.rewind_to({0});",
           "    timeline.rewind_to({0});", "memory/snapshot_test.cpp"),
    mutant("a timeline resumes in some layers and then refuses", "plan.hpp",
           "    require_resume(length, written);\n    for", "    for", "policy/plan_test.cpp"),
    mutant("a sequence resumes below its rewind floor", "live_range.hpp",
           "length <= written && written <= context_ && after(written).may_rewind_to({length})",
           "length <= written && written <= context_", "policy/live_range_test.cpp"),
    # Layers of a plan.
    mutant("a full context slides", "live_range.hpp",
           "larger(0, smaller(first_needed(length_) + slots_, context_) - length_)",
           "larger(0, first_needed(length_) + slots_ - length_)", LAYERS),
    mutant("a reader looks for a cache of its own", "cache.hpp",
           "memory_[PlanType::donor_of[layer]]", "memory_[layer]", LAYERS),
    mutant("every layer has rows of the first one's size", "plan.hpp",
           "sequences * capacity(layer, context) * row_bytes(layer) : 0",
           "sequences * capacity(layer, context) * row_bytes(0) : 0", LAYERS),
    mutant("pairs lie half a head apart, not half of what turns", "kernels/rope.hpp",
           "const std::int64_t half = rotated / 2;", "const std::int64_t half = head_dim / 2;", LAYERS),
    # States on the disk.
    mutant("a state file is not checked against its checksum", "io/state_file.hpp",
           "require(sum.value() == stored,", "require(sum.value() != 0,", STATES),
    mutant("another version's state file is read", "io/state_file.hpp",
           "require(version == detail::state_version,", "require(version > 0,", STATES),
    mutant("the window is no part of a state's fields", "io/plan_fields.hpp",
           'out.add(window == unbounded ? "all" : std::to_string(window), "window of ", kind);', "",
           STATES),
    mutant("the weights are no part of a state's fields", "io/state_file.hpp",
           "here.insert(here.end(), more.begin(), more.end());", "", STATES),
    mutant("a state file is written in place", "io/new_file.hpp",
           'name = concat(path_, ".", ::getpid(), ".", i, ".tmp");\n'
           "      file_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);",
           "name = path_;\n"
           "      file_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);",
           "io/new_file_test.cpp"),
    mutant("a write that stops short is no error", "io/new_file.hpp", "      check(n >= 0);",
           "      if (n < 0) return;", "io/new_file_test.cpp"),
    # Drafts.
    mutant("verification keeps the first wrong draft", "model/lookup.hpp",
           "timeline.rewind_to(start + kept);",
           "timeline.rewind_to(start + smaller(kept + 1, std::ssize(rows)));", LOOKUP),
    mutant("wrong drafts are not taken back", "model/lookup.hpp",
           "timeline.rewind_to(start + kept);", "", LOOKUP),
    mutant("a draft is compared with the token before it", "model/lookup.hpp",
           "id == rows[static_cast<std::size_t>(kept)]", "id == rows[static_cast<std::size_t>(kept - 1)]",
           LOOKUP),
    mutant("drafts go past the end of the context", "model/lookup.hpp",
           "smaller(count - report.tokens, room) - 1", "count - report.tokens - 1", LOOKUP),
    mutant("drafts go past the tokens wanted", "model/lookup.hpp",
           "smaller(drafts, smaller(count - report.tokens, room) - 1)",
           "smaller(drafts, room - 1)", LOOKUP),
    mutant("lookup takes the earliest match", "model/lookup.hpp",
           "if (match > best) {", "if (match >= best) {", LOOKUP),
    mutant("lookup proposes from one token too late", "model/lookup.hpp",
           "const std::int64_t at = from + i;", "const std::int64_t at = from + i + 1;", LOOKUP),
    # Deduction.
    mutant("ring one short: W - 2 + max(C, B)", "layer.hpp",
           "return window - 1 + larger(chunk, rewind);",
           "return window - 2 + larger(chunk, rewind);", "policy/layer_test.cpp", proof=True),
    mutant("ring one long: W + max(C, B)", "layer.hpp",
           "return window - 1 + larger(chunk, rewind);", "return window + larger(chunk, rewind);",
           "policy/layer_test.cpp", proof=True),
    mutant("ring for the chunk alone", "layer.hpp", "return window - 1 + larger(chunk, rewind);",
           "return window - 1 + chunk;", "policy/layer_test.cpp", proof=True),
    mutant("ring not rounded to whole tiles", "layer.hpp",
           "Ring<round_up(ring_slots_needed(Policy::window, rows_in_ring<ChunkType>, B), Tile)>",
           "Ring<ring_slots_needed(Policy::window, rows_in_ring<ChunkType>, B)>", "policy/layer_test.cpp", proof=True),
    # Stages.
    mutant("the oldest row of those that fit the ring is not committed", STAGE,
           "segment.rows - view.ring.slots)", "segment.rows - view.ring.slots + 1)", STAGED),
    mutant("one row more is committed than the ring has slots", STAGE,
           "segment.rows - view.ring.slots)", "segment.rows - view.ring.slots - 1)", STAGED),
    mutant("the oldest rows are committed, not the newest", STAGE,
           "row < segment.first_row + segment.rows - view.ring.slots",
           "row >= segment.first_row + view.ring.slots", STAGED),
    mutant("one leading row is not brought to the stage", STAGE, "View::tile - 1;",
           "larger(1, View::tile - 2);", STAGED),
    mutant("the row before the chunk is not brought to the stage", STAGE,
           "if (p >= segment.start) return;", "if (p + 1 >= segment.start) return;", STAGED),
    mutant("leading rows come from the slots of the first rows", STAGE,
           "view.ring.rows(segment.sequence, p) + i % pieces * Piece::values;\n"
           "    const auto to = staged",
           "view.ring.rows(segment.sequence, {row}) + i % pieces * Piece::values;\n"
           "    const auto to = staged", STAGED),
    mutant("a stage begins with the chunk, not with its tile", STAGED_VIEW,
           "{fresh.segments[index].start.value / Tile * Tile}", "{fresh.segments[index].start.value}",
           STAGED),
    mutant("a stage begins one tile early", STAGED_VIEW,
           "start.value / Tile * Tile}", "start.value / Tile * Tile - Tile}", STAGED),
    mutant("the first staged tile is looked for in the ring", STAGED_VIEW,
           "p < staged_from ?", "p <= staged_from ?", STAGED, times=2),
    mutant("a stage has no room between segments", STAGED_VIEW, "first_row + index * Tile",
           "first_row", BATCH),
    mutant("all segments see the stage of the first", STAGED_VIEW,
           "first_row_of(index) * heads.kv_dim()", "first_row_of(0) * heads.kv_dim()", BATCH),
    mutant("a staged ring holds no decoded token", "layer.hpp", "ChunkType::is_staged ? 1 :",
           "ChunkType::is_staged ? 0 :", STAGED_PLAN, proof=True),
    mutant("a staged ring holds the chunk", "layer.hpp", "ChunkType::is_staged ? 1 :",
           "ChunkType::is_staged ? ChunkType::rows :", STAGED_PLAN, proof=True),
    mutant("a stage past the context", "live_range.hpp", "smaller(stage_, context_ - length_)",
           "stage_", LEGALITY, proof=True),
    mutant("a stage beside a ring that lost the window", "live_range.hpp",
           "sees_its_window ? smaller(stage_, context_ - length_) : 0",
           "smaller(stage_, context_ - length_)", LEGALITY),
    mutant("a stage is free before a reader has attended", "stage_plan.hpp",
           "last = donor_of[i] == donor_of[layer] ? i : last;", "last = layer;", STAGED_PLAN,
           proof=True),
    mutant("a stage has no room for the first tile's rows", "stage_plan.hpp",
           "return rows + segments * tile;", "return rows;", STAGED_PLAN, proof=True),
    # Plans.
    mutant("max context one too long", "plan.hpp", "return fits;", "return fits + 1;",
           "policy/plan_test.cpp"),
    mutant("max context one too short", "plan.hpp", "return fits;", "return fits - (fits > 0);",
           "policy/plan_test.cpp"),
    mutant("a sharing layer is counted as if it owned a cache", "plan.hpp",
           "return donor_of[layer] == layer;", "return donor_of[layer] <= layer;",
           "policy/plan_test.cpp", proof=True),
    mutant("donor one layer too early", "sharing.hpp", "j < owners;", "j < owners - 1;",
           "policy/sharing_test.cpp", proof=True),
    mutant("donor may be a layer that shares", "sharing.hpp", "j < owners;", "j < i;",
           "policy/sharing_test.cpp", proof=True),
    mutant("one layer too many shares", "sharing.hpp", "Layers::layers - Count;",
           "Layers::layers - Count - 1;", "policy/sharing_test.cpp", proof=True),
    mutant("the tail begins one layer late", "hybrid.hpp", "i - (Layers - Rest::size)",
           "i - (Layers - Rest::size) - 1", "policy/hybrid_test.cpp", proof=True),
    # Elements.
    mutant("bf16 rounds ties up", "element.hpp", "(bits + 0x7fffu + ((bits >> 16) & 1u))",
           "(bits + 0x8000u)", "policy/element_test.cpp"),
    mutant("f16 truncates subnormals", "element.hpp", "bit_cast<float>(magnitude) + 0.5f",
           "bit_cast<float>(magnitude & ~0x1fffu) + 0.5f", "policy/element_test.cpp"),
]


RING, TILES_OF_GPU = "kernels/device_traps_ring_test.cu", "kernels/device_traps_tiles_test.cu"
DEVICE_MUTANTS = [
    mutant("W+1 for W, on the GPU", "policy.hpp", "query.value - (Window - 1)", "query.value - Window",
           RING),
    mutant("tiles from position 0 on", "kernels/tiles.hpp",
           "{Policy::first_visible(first).value / Tile * Tile}", "{0}", RING),
    mutant("a sink in every part", "kernels/attention_block.cuh", " && part == 0", "",
           f"{RING} {TILES_OF_GPU}"),
    mutant("values out of sight are not zeroed, mma and decode", "kernels/attention_copies.cuh",
           "const bool valid = Whole || (row >= begin && row < end);", "const bool valid = true;", RING),
    mutant("values out of sight are not zeroed, wgmma", "kernels/wgmma_load.cuh",
           "const int unseen = before + larger(0, keys - tile.end);", "const int unseen = 0 * before;",
           RING),
    mutant("values out of sight are not zeroed, simt", "kernels/simt_tile.cuh",
           "const bool visible = row >= seen.begin && row < seen.end;", "const bool visible = true;",
           RING),
    mutant("no modulo on write, append_rows", "kernels/append_rows.cuh",
           "view.row(segment.sequence, p)", "(segment.sequence * view.slots + p.value) * width",
           "kernels/device_traps_append_test.cu"),
]


def run(command, seconds=SECONDS):
    """(exit status or None if it did not end, its output)"""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                              timeout=seconds, env={**os.environ, "LC_ALL": "C"})
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return None, ""


def build(killer, include, main_object, program):
    compiler = [CXX, *FLAGS] if killer.endswith(".cpp") else [NVCC, *DEVICE_FLAGS]
    return run([*compiler, f"-I{include}", *(str(TESTS / file) for file in killer.split()),
                str(main_object), "-o", str(program)])


def test(killer, program):
    return run([str(program), "--abort-after=1", *ARGUMENTS.get(killer, [])])


def apply(edits, include):
    """Why an edit does not fit the library, or None."""
    for edit in edits:
        path = include / "kvring" / edit.header
        text = path.read_text(encoding="utf-8")
        found = text.count(edit.old)
        if found != edit.times:
            return f"{edit.header} has `{edit.old}` {found} times, not {edit.times}"
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return None


def judge(mutant, folder, main_object):
    """(killed?, how)"""
    include = folder / "include"
    shutil.copytree(ROOT / "include", include)
    reason = apply(mutant.edits, include)
    if reason:
        return False, reason
    code, report = build(mutant.killer, include, main_object, folder / "test")
    if code is None:
        return False, f"{mutant.killer} took too long to compile"
    if code != 0:
        refused = re.search(re.escape(mutant.killer) + r":\d+:\d+: error: static assertion failed",
                            report)
        if mutant.proof and refused:
            return True, f"by a static_assert of {mutant.killer}"
        return False, f"{mutant.killer} does not compile:\n{report[:2000]}"
    code, report = test(mutant.killer, folder / "test")
    if code is None:
        return False, f"{mutant.killer} did not end"
    if code == 0:
        return False, f"{mutant.killer} passes"
    return True, f"by {mutant.killer}"


def pass_unchanged(killer, folder, main_object):
    """Why a killer fails against the library as it is, or None."""
    code, report = build(killer, ROOT / "include", main_object, folder / "test")
    if code == 0:
        code, report = test(killer, folder / "test")
    if code == 0 and not killer.endswith(".cpp") and not re.search(r"^[1-9]\d* passed, 0 failed, 0 skipped$", report, re.MULTILINE):
        return f"{killer} was skipped; is there a GPU?\n{report[-500:]}"
    return None if code == 0 else f"{killer} fails without a mutant:\n{report[-2000:]}"


def rules_without_a_case():
    text = (ROOT / "include" / "kvring" / "checks.hpp").read_text(encoding="utf-8")
    rules = re.findall(r"^struct (\w+)", text, re.MULTILINE)
    snake = {rule: re.sub(r"(?<!^)(?=[A-Z])", "_", rule).lower() for rule in rules}
    cases = {path.stem for path in (TESTS / "compile_fail").glob("*.cpp")}
    return len(rules), [rule for rule in rules if snake[rule] not in cases]


def in_folder(root, index, f, *arguments):
    folder = root / str(index)
    folder.mkdir()
    start = time.monotonic()
    result = f(arguments[0], folder, *arguments[1:])
    shutil.rmtree(folder)
    return result, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    mutants = DEVICE_MUTANTS if options.device else MUTANTS
    wanted = [m for m in mutants
              if not options.names or any(name in m.name for name in options.names)]
    if len({m.name for m in mutants}) != len(mutants):
        sys.exit("mutants.py: two mutants have one name")

    killed = survived = 0
    rules, missing = rules_without_a_case()
    print(f"{rules} rules in checks.hpp, {len(missing)} without a compile-fail case")
    for rule in missing:
        print(f"FAIL  no case in tests/compile_fail is named after {rule}")
    wrong = bool(missing) or rules == 0

    with tempfile.TemporaryDirectory() as root, \
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        root = pathlib.Path(root)
        main_object = root / "main.o"
        code, report = run([CXX, *FLAGS, "-c", str(TESTS / "main.cpp"), "-o", str(main_object)])
        if code != 0:
            sys.exit(f"mutants.py: tests/main.cpp does not compile:\n{report}")

        # Longest first: the walks through the schedules take most of the time.
        wanted.sort(key=lambda m: m.killer != SCHEDULES)
        killers = list(dict.fromkeys(m.killer for m in wanted))
        unchanged = [pool.submit(in_folder, root, f"unchanged-{i}", pass_unchanged, killer,
                                 main_object) for i, killer in enumerate(killers)]
        verdicts = [pool.submit(in_folder, root, i, judge, m, main_object)
                    for i, m in enumerate(wanted)]
        for killer, future in zip(killers, unchanged):
            reason, seconds = future.result()
            print(f"{'ok  ' if reason is None else 'FAIL'}      unchanged: {killer} ({seconds:.0f} s)")
            if reason:
                print(reason)
                wrong = True
        for m, future in zip(wanted, verdicts):
            (dead, how), seconds = future.result()
            killed += dead
            survived += not dead
            print(f"{'killed  ' if dead else 'survived'}  {m.name}: {how} ({seconds:.0f} s)",
                  flush=True)
    if not wanted:
        print("no mutant was selected: that is a failure")
    print(f"mutants: {killed} killed, {survived} survived")
    sys.exit(1 if survived or wrong or not wanted else 0)


if __name__ == "__main__":
    main()
