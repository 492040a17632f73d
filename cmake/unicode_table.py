#!/usr/bin/env python3
"""Writes include/kvring/io/unicode_table.hpp: which characters are letters, numbers and white space.

    python3 -m pip install unicodedata2==15.1.0
    cmake/unicode_table.py            writes the header
    cmake/unicode_table.py --check    exits 1 if the header is not what would be written

The version is that of llama.cpp's tables, so that both cut text in the same places.
"""

import pathlib
import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

VERSION = "15.1.0"
HEADER = pathlib.Path(__file__).resolve().parent.parent / "include/kvring/io/unicode_table.hpp"
OTHER, LETTER, NUMBER, SPACE = range(4)  # CharClass
# The property White_Space; unicodedata has no name for it.
SPACES = {*range(0x09, 0x0e), 0x20, 0x85, 0xa0, 0x1680, *range(0x2000, 0x200b), 0x2028, 0x2029,
          0x202f, 0x205f, 0x3000}


def char_class(code):
    if code in SPACES:
        return SPACE
    return {"L": LETTER, "N": NUMBER}.get(unicodedata.category(chr(code))[0], OTHER)


def header():
    entries, before = [], None
    for code in range(0x110000):
        now = char_class(code)
        if now != before:
            entries.append(f"{code << 2 | now:#x},")
        before = now
    lines = [""]
    for entry in entries:
        if len(lines[-1]) + 1 + len(entry) > 99:
            lines.append("")
        lines[-1] += " " + entry if lines[-1] else "    " + entry
    body = "\n".join(lines)
    return f"""\
// Letters, numbers and white space of Unicode {VERSION}. Written by cmake/unicode_table.py.
#pragma once

#include <cstdint>

#include "kvring/config.hpp"

namespace kvring::detail {{

inline constexpr char unicode_version[] = "{VERSION}";

/// Where the class changes, in order: code point << 2 | CharClass, valid up to the next entry.
inline constexpr std::uint32_t unicode_changes[] = {{
    // clang-format off
{body}
    // clang-format on
}};

}}  // namespace kvring::detail
"""


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"unicode_table.py: Python has Unicode {unicodedata.unidata_version}, wanted "
                 f"{VERSION}: python3 -m pip install unicodedata2=={VERSION}")
    if sys.argv[1:] == ["--check"]:
        sys.exit(HEADER.read_text(encoding="utf-8") != header())
    if sys.argv[1:]:
        sys.exit(__doc__)
    HEADER.write_text(header(), encoding="utf-8")


if __name__ == "__main__":
    main()
