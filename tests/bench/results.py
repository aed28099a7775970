#!/usr/bin/env python3
"""Makes RESULTS.md from the benchmark files in results/.

usage: results.py            write RESULTS.md
       results.py --check    exit 1 when RESULTS.md is not what the files say

Each file of results/ is the output of one `gdn-gen bench --json FILE`, kept as it was written:

    {"format": 1,
     "commit": "<git commit that was measured>", "command": "<the whole command line>",
     "device": "<what it ran on, with clocks or cores>", "date": "YYYY-MM-DD",
     "gb_per_s": <the device's copy bandwidth that the floors assume>,
     "rows": [{"spec": "...", "operation": "decode", "target": "sm_90a", "on": "cuda",
               "batch": 64, "state_dtype": "fp32",
               "time_us": <median of one launch>, "bytes": <each operand once>, "gb_per_s": <bytes / time>,
               "floor_us": <bytes / copy bandwidth>, "ratio": <time / floor>}, ...]}

A number that contradicts another one of its row, an unknown or a missing key is an error: the table shows only what was
measured.
"""

import argparse
import json
import math
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
FORMAT = 1
FILE_KEYS = {"format": int, "commit": str, "command": str, "device": str, "date": str, "gb_per_s": (int, float), "rows": list}
ROW_KEYS = {
    "spec": str, "operation": str, "target": str, "on": str, "batch": int, "state_dtype": str, "time_us": (int, float),
    "bytes": int, "gb_per_s": (int, float), "floor_us": (int, float), "ratio": (int, float),
}


class BadResult(Exception):
    """A results file that cannot be trusted; its text names the file, the place and the reason."""


def check_keys(where, value, keys):
    if not isinstance(value, dict):
        raise BadResult(f"{where}: expected an object")
    for key in sorted(value.keys() - keys.keys()):
        raise BadResult(f"{where}: unknown key '{key}'")
    for key, kind in keys.items():
        if key not in value:
            raise BadResult(f"{where}: no key '{key}'")
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise BadResult(f"{where}: '{key}' has the wrong type: {value[key]!r}")


def check_row(where, row, copy_bandwidth):
    check_keys(where, row, ROW_KEYS)
    for key in ("batch", "time_us", "bytes", "gb_per_s", "floor_us", "ratio"):
        if not row[key] > 0 or math.isinf(row[key]):
            raise BadResult(f"{where}: '{key}' is not a positive number: {row[key]!r}")
    # 2%: the file holds rounded figures
    derived = {
        "gb_per_s": row["bytes"] / row["time_us"] / 1e3,
        "floor_us": row["bytes"] / copy_bandwidth / 1e3,
        "ratio": row["time_us"] / row["floor_us"],
    }
    for key, value in derived.items():
        if abs(row[key] - value) > 0.02 * value:
            raise BadResult(f"{where}: '{key}' is {row[key]}, but the other figures of the row make it {value:.4g}")


def read(path):
    """The contents of one results file, checked. Throws BadResult."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadResult(f"{path.name}: {error}") from error
    check_keys(path.name, value, FILE_KEYS)
    if value["format"] != FORMAT:
        raise BadResult(f"{path.name}: format {value['format']}, expected {FORMAT}")
    if not re.fullmatch("[0-9a-f]{7,40}", value["commit"]):
        raise BadResult(f"{path.name}: '{value['commit']}' is not a git commit")
    if not value["gb_per_s"] > 0:
        raise BadResult(f"{path.name}: 'gb_per_s' is not a positive number: {value['gb_per_s']!r}")
    if not value["rows"]:
        raise BadResult(f"{path.name}: no rows")
    for index, row in enumerate(value["rows"]):
        check_row(f"{path.name}: rows[{index}]", row, value["gb_per_s"])
    return value


def table(value):
    lines = [
        "| spec | operation | target | state | batch | time, us | GB/s | floor, us | time / floor |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in value["rows"]:
        lines.append(
            f"| {row['spec']} | {row['operation']} | {row['target']} on {row['on']} | {row['state_dtype']} | {row['batch']} "
            f"| {row['time_us']:.4g} | {row['gb_per_s']:.4g} | {row['floor_us']:.4g} | {row['ratio']:.2f} |")
    return lines


def render(files):
    """RESULTS.md as text, from (name, contents) pairs in the order of the page."""
    lines = [
        "# Benchmark results", "",
        "Made by `tests/bench/results.py` from the files in `tests/bench/results/`; not edited by hand. The floor is the time",
        "that the device needs to move every operand once at its measured copy bandwidth (NOTES.md has the formula). Figures of",
        "different machines or commits are not comparable.", "",
    ]
    if not files:
        lines += ["Nothing was measured yet.", ""]
    for name, value in files:
        lines += [
            f"## {value['device']}, {value['date']}", "",
            f"Commit `{value['commit']}`, copy bandwidth {value['gb_per_s']:g} GB/s, from `results/{name}`, made by:", "",
            f"    {value['command']}", "",
        ]
        lines += table(value) + [""]
    return "\n".join(lines)


def main(arguments):
    parser = argparse.ArgumentParser(description="Make RESULTS.md from the benchmark files in results/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when RESULTS.md is out of date")
    parser.add_argument("--folder", type=pathlib.Path, default=HERE, help="where results/ and RESULTS.md are")
    options = parser.parse_args(arguments)
    page = options.folder / "RESULTS.md"
    try:
        text = render([(path.name, read(path)) for path in sorted((options.folder / "results").glob("*.json"))])
    except BadResult as error:
        print(f"results: error: {error}", file=sys.stderr)
        return 1
    if options.check:
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            print(f"results: error: {page} is out of date: run {pathlib.Path(__file__).name}", file=sys.stderr)
            return 1
        return 0
    page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
