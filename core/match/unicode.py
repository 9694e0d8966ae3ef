#!/usr/bin/env python3
"""Makes unicode_table.h: python3 unicode.py /usr/share/unicode > unicode_table.h

Reads the Unicode Character Database as Debian's package unicode-data has it: CaseFolding.txt (simple
folding), UnicodeData.txt, Scripts.txt, ScriptExtensions.txt, PropertyValueAliases.txt,
DerivedCoreProperties.txt and PropList.txt. What the classes mean is in fold.h.
"""
import re
import sys

MAX = 0x110000
BLOCK = 128
OTHER, SPACE, WORD, MARK, SINGLE, IGNORED = range(6)
# Scripts written without spaces between words.
UNSPACED = set("""Hani Hira Kana Bopo Yiii Tang Nshu Kits Thai Laoo Khmr Mymr Lana Tale Talu Tavt Ahom
                  Java Bali""".split())


def rows(folder, name):
    """The file's lines as lists of fields, the first one a range of code points."""
    with open(f"{folder}/{name}", encoding="utf-8") as f:
        for line in f:
            fields = [x.strip() for x in line.split("#")[0].split(";")]
            if len(fields) > 1 and re.match(r"[0-9A-F]{4,6}", fields[0]):
                ends = fields[0].split("..")
                yield range(int(ends[0], 16), int(ends[-1], 16) + 1), fields[1:]


def categories(folder):
    of = ["Cn"] * MAX
    start = None
    for points, fields in rows(folder, "UnicodeData.txt"):
        if fields[0].endswith(", First>"):
            start = points[0]
            continue
        for point in range(start if start is not None else points[0], points[-1] + 1):
            of[point] = fields[1]
        start = None
    return of


def scripts(folder):
    with open(f"{folder}/PropertyValueAliases.txt", encoding="utf-8") as f:
        lines = [[x.strip() for x in line.split("#")[0].split(";")] for line in f]
    short = {fields[2]: fields[1] for fields in lines if fields[0] == "sc"}
    of = [set()] * MAX
    for points, fields in rows(folder, "Scripts.txt"):
        names = {short[fields[0]]}
        for point in points:
            of[point] = names
    for points, fields in rows(folder, "ScriptExtensions.txt"):
        names = set(fields[0].split())
        for point in points:
            of[point] = names
    return of


def classes(folder):
    category, script = categories(folder), scripts(folder)
    of = [OTHER] * MAX
    for point in range(MAX):
        kind = category[point]
        if kind[0] == "M":
            of[point] = MARK
        elif kind[0] in "LN" or kind == "Pc":
            unspaced = kind[0] == "L" and script[point] and script[point] <= UNSPACED
            of[point] = SINGLE if unspaced else WORD
    for points, fields in rows(folder, "PropList.txt"):
        if fields[0] == "White_Space":
            for point in points:
                of[point] = SPACE
    for points, fields in rows(folder, "DerivedCoreProperties.txt"):
        if fields[0] == "Default_Ignorable_Code_Point":
            for point in points:
                of[point] = IGNORED
    of[0x200B] = SPACE  # the zero-width space marks where a word ends
    return of


def folding(folder):
    to = list(range(MAX))
    for points, fields in rows(folder, "CaseFolding.txt"):
        if fields[0] in "CS":
            to[points[0]] = int(fields[1], 16)
    to[0x2019] = ord("'")  # what phones make of an apostrophe
    return to


def numbers(values, indent=4):
    lines, line = [], " " * (indent - 1)
    for value in values:
        word = f" {value},"
        if len(line) + len(word) > 100:
            lines.append(line)
            line = " " * (indent - 1)
        line += word
    return "\n".join(lines + [line])


def main(folder):
    with open(f"{folder}/CaseFolding.txt", encoding="utf-8") as f:
        version = re.search(r"CaseFolding-([0-9.]+)\.txt", f.readline()).group(1)
    of, to = classes(folder), folding(folder)
    kinds, blocks, stage = {}, {}, []
    for start in range(0, MAX, BLOCK):
        block = tuple(kinds.setdefault((to[p] - p, of[p]), len(kinds))
                      for p in range(start, start + BLOCK))
        stage.append(blocks.setdefault(block, len(blocks)))
    assert len(kinds) <= 256 and len(blocks) <= 256
    print(f"""/* Made by unicode.py from the Unicode Character Database {version}; do not edit.
 * Copyright of that data: Unicode, Inc., under its terms of use. */
#pragma once

/* clang-format off */
static const struct {{
    int32_t delta; /* to the folded code point */
    uint8_t class; /* enum mj_class */
}} kinds[{len(kinds)}] = {{""")
    print(numbers(f"{{{delta}, {kind}}}" for delta, kind in kinds))
    print(f"}};\nstatic const uint8_t stages[{len(stage)}] = {{")
    print(numbers(stage))
    print(f"}};\nstatic const uint8_t blocks[{len(blocks)}][{BLOCK}] = {{")
    for block in blocks:
        print("    {\n" + numbers(block, 8) + "\n    },")
    print("""};
static const struct ascii_point {
    uint8_t folded, at; /* enum at */
} ascii[128] = {""")
    where = {SPACE: 0, WORD: 1}
    print(numbers(f"{{{to[p]}, {where.get(of[p], 2)}}}" for p in range(128)))
    print("};\n/* clang-format on */")


main(sys.argv[1])
