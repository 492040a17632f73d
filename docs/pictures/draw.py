#!/usr/bin/env python3
"""The pictures of docs/, from the library's own numbers (numbers.cpp).

    draw.py [--check]      writes docs/pictures/*.svg; --check only says which are not what would be written
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

INK, GREY, LINE, PAPER = "#1f2933", "#62707f", "#d5dbe1", "#ffffff"
BLUE, PALE, ORANGE, CREAM, RED = "#1f6fb5", "#dbe9f6", "#d9731a", "#fdebd8", "#c62828"


def numbers():
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "numbers"
        subprocess.run([os.environ.get("CXX", "g++"), "-std=c++20", "-I", str(ROOT / "include"),
                        str(HERE / "numbers.cpp"), "-o", str(program)], check=True)
        return json.loads(subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout)


# --- strokes --------------------------------------------------------------------------------------

def svg(width, height, title, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" '
            'font-family="Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif">\n'
            f"<title>{title}</title>\n"
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n")


def text(x, y, words, size=13, fill=INK, anchor="start", weight="normal"):
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{words}</text>')


def box(x, y, width, height, fill, stroke="none", stroke_width=1, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="{stroke_width:g}"{dashes}/>')


def path(d, stroke, width=1.0, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<path d="{d}" fill="none" stroke="{stroke}" stroke-width="{width:g}" stroke-linejoin="round" '
            f'stroke-linecap="round"{dashes}/>')


# --- slots over time ------------------------------------------------------------------------------

def ring_picture(n):
    width, left, cell, high, step = 800, 172, 50, 32, 40
    slots = len(n["ring"][0])
    notes = left + slots * cell + 20
    parts = [text(20, 30, "A ring while chunks are appended", 17, weight="bold"),
             text(20, 52, f'Window {n["window"]}, chunks of {n["chunk"]} rows, rewinds of {n["rewind"]}, key tiles of '
                          f'{n["tile"]}: {slots} slots. A number is the position that a slot holds.', 13, GREY)]
    top = 96
    parts.append(text(20, top - 10, "slot", 12, GREY))
    for slot in range(slots):
        parts.append(text(left + (slot + 0.5) * cell, top - 10, slot, 12, GREY, "middle"))

    def row(y, label, holds, look):
        parts.append(text(20, y + 21, label, 13))
        for slot, position in enumerate(holds):
            fill, ink, stroke, bold = look(slot, position)
            x = left + slot * cell
            parts.append(box(x + 2, y, cell - 4, high, fill, stroke, 1.5 if stroke != LINE else 1))
            if position >= 0:
                parts.append(text(x + cell / 2, y + 21, position, 14, ink, "middle", bold))

    def appended(start):
        def look(_, position):
            if position < 0:
                return PAPER, INK, LINE, "normal"
            return (BLUE, "#ffffff", BLUE, "bold") if position >= start else (PALE, INK, PALE, "normal")
        return look

    def seen_by(first, last, red=None):
        def look(slot, position):
            if slot == red:
                return PAPER, RED, RED, "bold"
            if first <= position <= last:
                return CREAM, INK, ORANGE, "bold"
            return PAPER, "#a3adb8", LINE, "normal"
        return look

    y = top
    for i, holds in enumerate(n["ring"]):
        start = i * n["chunk"]
        row(y, f'append {start} … {start + n["chunk"] - 1}', holds, appended(start))
        y += step
    oldest, newest = n["live"]
    parts += [text(notes, top + 21, "new: dark; kept: light", 13, GREY),
              text(notes, top + step + 21, f'{n["ring"][1][0]} takes the slot of {n["ring"][0][0]}', 13, GREY),
              text(notes, top + 2 * step + 21, f"live: {oldest} … {newest}", 13, BLUE, weight="bold")]
    tiles_y = y + 2
    for first in range(0, slots, n["tile"]):
        x0, x1 = left + first * cell + 4, left + (first + n["tile"]) * cell - 4
        parts.append(path(f"M{x0} {tiles_y}v6H{x1}v-6", GREY))
        parts.append(text((x0 + x1) / 2, tiles_y + 20, "a tile of keys", 12, GREY, "middle"))
    y += 42
    for i, (query, first) in enumerate(n["queries"]):
        row(y, f"row {query} attends", n["ring"][2], seen_by(first, query))
        parts.append(text(notes, y + 21, f"sees {first} … {query}" + (": still there" if i == 0 else ""), 13, ORANGE,
                          weight="bold"))
        y += step
    y += 18
    parts.append(path(f"M20 {y - 9}H{width - 20}", LINE))
    query, first = n["queries"][0]
    short = n["short"][2]
    lost = first % len(short)
    row(y, f"{len(short)} slots: row {query}", short, seen_by(first, query, lost))
    parts.append(text(notes, y + 14, f"{short[lost]} took the slot of {first}:", 13, RED, weight="bold"))
    parts.append(text(notes, y + 31, "a wrong key, no crash", 13, RED))
    return svg(width, y + high + 18, "Slots of a ring while chunks are appended", parts)


# --- memory over context --------------------------------------------------------------------------

def nice_step(largest):
    for step in (1, 2, 4, 5, 10, 20, 25, 50):
        if largest / step <= 5:
            return step
    return 100


def memory_panel(x0, panel, series, parts):
    """One plot of GiB over positions, of `panel` at x0, with a label at the end of each line."""
    y0, width, height = 96, 256, 236
    points = panel["points"]
    longest = points[-1][0]
    gib = [[value / 2 ** 30 for value in point[1:]] for point in points]
    step = nice_step(max(gib[-1]))
    top = max(gib[-1]) * 1.04

    def at(context, value):
        return x0 + context / longest * width, y0 + height - value / top * height
    value = 0
    while value <= top:
        _, y = at(0, value)
        parts.append(path(f"M{x0} {y:.1f}h{width}", LINE))
        parts.append(text(x0 - 8, y + 4, f"{value:g}", 12, GREY, "end"))
        value += step
    for quarter in range(5):
        x, _ = at(longest * quarter / 4, 0)
        parts.append(text(x, y0 + height + 18, f"{longest * quarter // 4:,}", 12, GREY, "middle"))
    labels = []
    for index, (name, colour, line) in enumerate(series):
        line_points = [at(0, 0)] + [at(point[0], values[index]) for point, values in zip(points, gib)]
        parts.append(path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line_points), colour, line))
        labels.append([line_points[-1][1], name, colour, gib[-1][index]])
    labels.sort()
    for above, below in zip(labels, labels[1:]):
        below[0] = max(below[0], above[0] + 32)
    over = max(0, labels[-1][0] + 17 - (y0 + height))  # what was pushed below the axis goes up again
    for label in labels[1:]:
        label[0] -= over
    for y, name, colour, last in labels:
        parts.append(text(x0 + width + 8, y + 2, name, 13, colour, weight="bold"))
        parts.append(text(x0 + width + 8, y + 17, f"{last:.1f} GiB", 12, GREY))


def memory_picture(n):
    width, height = 800, 392
    series = [("full", GREY, 2), ("headroom", BLUE, 2.5), ("staged", ORANGE, 2.5)]
    parts = [text(20, 30, "Caches of Gemma 3 4B, bf16, chunks of 4,096 rows", 17, weight="bold"),
             text(20, 52, f'GiB. Rings of {n["headroom_slots"]:,} slots (headroom) or of {n["staged_slots"]:,} and a '
                          "stage (staged) in 29 of 34 layers; full: a slot for each position.", 13, GREY),
             text(54, 82, "one sequence", 13, weight="bold"),
             text(444, 82, f'{n["many"]["sequences"]} sequences', 13, weight="bold")]
    memory_panel(54, n["one"], series, parts)
    memory_panel(444, n["many"], series, parts)
    for x in (54, 444):
        parts.append(text(x + 128, 374, "positions of each sequence" if x > 100 else "positions", 12, GREY, "middle"))
    return svg(width, height, "Memory of the caches of Gemma 3 4B over context", parts)


def main():
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    n = numbers()
    stale = []
    for name, picture in (("ring.svg", ring_picture(n)), ("memory.svg", memory_picture(n))):
        file = HERE / name
        if not options.check:
            file.write_text(picture, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != picture:
            stale.append(name)
    if stale:
        sys.exit(f"draw.py makes {' and '.join(stale)} differently: run docs/pictures/draw.py")


if __name__ == "__main__":
    main()
