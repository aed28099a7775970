#!/usr/bin/env python3
"""Makes RESULTS.md from the benchmark files in results/.

usage: results.py            write RESULTS.md
       results.py --check    exit 1 when RESULTS.md is not what the files say

Each file of results/ is the output of one `gdn-gen bench --json FILE`, kept as it was written:

    {"format": 2,
     "commit": "<git commit that was measured>", "command": "<the whole command line>",
     "device": "<what it ran on, with clocks or cores>", "date": "YYYY-MM-DD",
     "gb_per_s": <the device's copy bandwidth that the floors assume>,
     "rows": [{"spec": "...", "operation": "decode", "target": "sm_90a", "on": "cuda",
               "edges": "<plain, or programmatic: slot indices and states promised to be ready early>",
               "batch": 64, "state_dtype": "fp32",
               "time_us": <median of one launch>, "bytes": <each operand once>, "gb_per_s": <bytes / time>,
               "floor_us": <bytes / copy bandwidth>, "ratio": <time / floor>,
               "scaling_us": <on a CPU: scaling the same states in place, in the same run>}, ...]}

A file of decode_spec may have "fan_gb_per_s" beside gb_per_s: what one large read and as many writes as a sequence has
tokens reach, as a launch with a slot for each token has them. Of a file whose name ends in _layouts the page also shows how
far each layout's ratio is behind that of the best one with states of the same type.

A row of a launch over whole sequences (conv_prefill, chunk_delta, prefill) has "lengths" in place of edges, batch and
state_dtype: "8192", or "8192x4" for four of them. On a GPU it may say which "form" the plan took, with "chain_estimate_us" and
"prepare_estimate_us", what the plan expected of its kernels.

Or of one `tests/bench/peers.py --json FILE`, or of `peers_prefill.py` or `peers_cpu.py`, which adds "peer" and
"peer_commit" (or its version) to the file and to each row what the peer's launches of the same step took:

               "peer_us": ..., "peer_ratio": <peer_us / floor>, "peer_over_ours": <peer_us / time_us>,
               "peer_norm_us": <its norm and quantisation, where it has one; not in peer_us>

A number that contradicts another one of its row, an unknown or a missing key is an error: the table shows only what was
measured.
"""

import argparse
import json
import math
import pathlib
import re
import sys
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
FORMAT = 2
FILE_KEYS = {"format": int, "commit": str, "command": str, "device": str, "date": str, "gb_per_s": (int, float), "rows": list}
ROW_KEYS = {
    "spec": str, "operation": str, "target": str, "on": str, "edges": str, "batch": int, "state_dtype": str, "time_us": (int, float),
    "bytes": int, "gb_per_s": (int, float), "floor_us": (int, float), "ratio": (int, float),
}
SEQUENCE_ROW_KEYS = {**{key: kind for key, kind in ROW_KEYS.items() if key not in ("edges", "batch", "state_dtype")}, "lengths": str}
OPTIONAL_ROW_KEYS = {"scaling_us": (int, float), "peer_norm_us": (int, float)}
FORM_KEYS = {"form": str, "chain_estimate_us": (int, float), "prepare_estimate_us": (int, float)}  # all of them or none

PEER_FILE_KEYS = {**FILE_KEYS, "peer": str, "peer_commit": str}
PEER_KEYS = {"peer_us": (int, float), "peer_ratio": (int, float), "peer_over_ours": (int, float)}
PEER_NOTES = {
    "aiter": "Its conv and delta rule are two launches, its norm with quantisation a third one that is not in its time; ours is one "
             "launch with the norm.",
    "fla": "Both take q, k and v behind the convolution, decay and beta, and norm q and k inside.",
    "vllm": "Its decode is two calls, conv and delta rule, its prefill three, conv, gates and chunks; they get q, k and v side by side "
            "and leave the norm to others. Ours is one call on the model's own rows, with the norm.",
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


def check_row(where, row, copy_bandwidth, peer):
    keys = SEQUENCE_ROW_KEYS if isinstance(row, dict) and "lengths" in row else ROW_KEYS
    keys = {**keys, **PEER_KEYS} if peer else keys
    optional = {"peer_norm_us"} if peer else {"scaling_us"}
    if isinstance(row, dict):
        keys = {**keys, **{key: OPTIONAL_ROW_KEYS[key] for key in optional & row.keys()}}
        if "lengths" in row and FORM_KEYS.keys() & row.keys():
            keys = {**keys, **FORM_KEYS}
    check_keys(where, row, keys)
    for key in (key for key, kind in keys.items() if kind is not str):
        if not row[key] > 0 or math.isinf(row[key]):
            raise BadResult(f"{where}: '{key}' is not a positive number: {row[key]!r}")
    # 2%: the file holds rounded figures
    derived = {
        "gb_per_s": row["bytes"] / row["time_us"] / 1e3,
        "floor_us": row["bytes"] / copy_bandwidth / 1e3,
        "ratio": row["time_us"] / row["floor_us"],
    }
    if peer:
        derived["peer_ratio"] = row["peer_us"] / row["floor_us"]
        derived["peer_over_ours"] = row["peer_us"] / row["time_us"]
    for key, value in derived.items():
        if abs(row[key] - value) > 0.02 * value:
            raise BadResult(f"{where}: '{key}' is {row[key]}, but the other figures of the row make it {value:.4g}")


def read(path):
    """The contents of one results file, checked. Throws BadResult."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadResult(f"{path.name}: {error}") from error
    peer = isinstance(value, dict) and "peer" in value
    fan = {"fan_gb_per_s": (int, float)} if isinstance(value, dict) and "fan_gb_per_s" in value else {}
    check_keys(path.name, value, {**(PEER_FILE_KEYS if peer else FILE_KEYS), **fan})
    if fan and not value["fan_gb_per_s"] > 0:
        raise BadResult(f"{path.name}: 'fan_gb_per_s' is not a positive number: {value['fan_gb_per_s']!r}")
    if value["format"] != FORMAT:
        raise BadResult(f"{path.name}: format {value['format']}, expected {FORMAT}")
    if not re.fullmatch("[0-9a-f]{7,40}", value["commit"]):
        raise BadResult(f"{path.name}: '{value['commit']}' is not a git commit")
    if peer and not re.fullmatch(r"[0-9a-f]{7,40}|\d+(\.\d+)+\S*", value["peer_commit"]):
        raise BadResult(f"{path.name}: '{value['peer_commit']}' is neither a git commit nor a version")
    if peer and value["peer"] not in PEER_NOTES:
        raise BadResult(f"{path.name}: nobody knows what is in the times of '{value['peer']}'")
    if not value["gb_per_s"] > 0:
        raise BadResult(f"{path.name}: 'gb_per_s' is not a positive number: {value['gb_per_s']!r}")
    if not value["rows"]:
        raise BadResult(f"{path.name}: no rows")
    for index, row in enumerate(value["rows"]):
        check_row(f"{path.name}: rows[{index}]", row, value["gb_per_s"], peer)
    return value


def layouts_table(rows):
    """How far each layout is behind the best of its state's type, batch and edges, in times its own floor."""
    groups = {}
    for row in rows:
        groups.setdefault((row["operation"], row["state_dtype"], row["batch"], row["edges"]), []).append(row)
    lines = ["Beside each other: each layout's time in times its own floor, whose bytes are those of whole 32-byte sectors, and how far that is",
             "behind the best layout with states of the same type.", ""]
    lines += heading([("spec", False), ("state", False), ("batch", True), ("bytes", True), ("time / floor", True), ("behind the best", True),
                      ("within 3%", False)])
    for group in groups.values():
        best = min(row["ratio"] for row in group)
        for row in sorted(group, key=lambda row: row["ratio"]):
            behind = row["ratio"] / best - 1
            lines.append(f"| {row['spec']} | {row['state_dtype']} | {row['batch']} | {row['bytes']} | {row['ratio']:.3f} | {100 * behind:.1f}% | "
                         f"{'yes' if behind <= 0.03 else 'no'} |")
    return lines


def heading(columns):
    """Two lines of a table from (name, whether it holds numbers) pairs."""
    return ["| " + " | ".join(name for name, _ in columns) + " |", "|" + "|".join("---:" if number else "---" for _, number in columns) + "|"]


def table(rows):
    """Rows of one kind: all of a batch, or all of whole sequences."""
    sequences, scales, forms = "lengths" in rows[0], any("scaling_us" in row for row in rows), any("form" in row for row in rows)
    work = [("lengths", False)] if sequences else [("edges", False), ("state", False), ("batch", True)]
    work += [("form", False)] if forms else []
    lines = heading([(name, False) for name in ("spec", "operation", "target")] + work +
                    [(name, True) for name in ("time, us", "GB/s", "floor, us", "time / floor")] +
                    ([("scaling, us", True), ("scaling / time", True)] if scales else []))
    for row in rows:
        done = [row["lengths"]] if sequences else [row["edges"], row["state_dtype"], row["batch"]]
        done += [row.get("form", "-")] if forms else []
        scaling = ([f"{row['scaling_us']:.4g}", f"{row['scaling_us'] / row['time_us']:.2f}"] if "scaling_us" in row
                   else ["-", "-"] if scales else [])
        cells = [row["spec"], row["operation"], f"{row['target']} on {row['on']}", *done, f"{row['time_us']:.4g}", f"{row['gb_per_s']:.4g}",
                 f"{row['floor_us']:.4g}", f"{row['ratio']:.2f}", *scaling]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def peer_table(rows, peer):
    sequences, norms = "lengths" in rows[0], any("peer_norm_us" in row for row in rows)
    work = [("lengths", False)] if sequences else [("state", False), ("batch", True)]
    lines = heading([("spec", False), ("operation", False)] + work + [(f"{peer}, us", True)] + ([("its norm, us", True)] if norms else []) +
                    [(name, True) for name in ("ours, us", "floor, us", f"{peer} / floor", "ours / floor", f"{peer} / ours")])
    for row in rows:
        done = [row["lengths"]] if sequences else [row["state_dtype"], row["batch"]]
        norm = ([f"{row['peer_norm_us']:.4g}" if "peer_norm_us" in row else "-"]) if norms else []
        cells = [row["spec"], row["operation"], *done, f"{row['peer_us']:.4g}", *norm, f"{row['time_us']:.4g}", f"{row['floor_us']:.4g}",
                 f"{row['peer_ratio']:.2f}", f"{row['ratio']:.2f}", f"{row['peer_over_ours']:.2f}"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def tables(value):
    """A file's rows: those of a batch, then those of whole sequences."""
    lines = []
    for sequences in (False, True):
        rows = [row for row in value["rows"] if ("lengths" in row) == sequences]
        if rows:
            lines += (peer_table(rows, value["peer"]) if "peer" in value else table(rows)) + [""]
    return lines


def title(name, value):
    """What a file timed, and on what."""
    timed = ", ".join(dict.fromkeys(row["operation"] for row in value["rows"]))
    kind = f" beside {value['peer']}" if "peer" in value else " by layout" if name.endswith("_layouts.json") else ""
    return f"{timed}{kind}: {value['device']}, {value['date']}"


def render(files):
    """RESULTS.md as text, from (name, contents) pairs in the order of the page."""
    lines = [
        "# Benchmark results", "",
        "Made by `tests/bench/results.py` from the files in `tests/bench/results/`; not edited by hand. The floor is the time",
        "that the device needs to move every operand once at its measured copy bandwidth (NOTES.md has the formula). Figures of",
        "different machines or commits are not comparable. Edges say how the launches of a graph follow each other: plain, or",
        "programmatic, where each may begin before the one ahead of it is through and reads its slot indices and states early,",
        "which the benchmark promises to have stood before. A graph has the launches of 36 layers, as Qwen3-Next has them, or of",
        "more where their states would stay in the L2. On a CPU, scaling is the time to multiply the same states in place by the",
        "same threads, in the same run.", "",
    ]
    if not files:
        lines += ["Nothing was measured yet.", ""]
    for name, value in files:
        lines += [
            f"## {title(name, value)}", "",
            f"Commit `{value['commit']}`, copy bandwidth {value['gb_per_s']:g} GB/s, from `results/{name}`, made by:", "",
            f"    {value['command']}", "",
        ]
        if "peer" in value:
            lines += textwrap.wrap(f"Beside {value['peer']} at `{value['peer_commit']}`: the same step, in one process. {PEER_NOTES[value['peer']]}", 120)
            lines.append("")
        if "fan_gb_per_s" in value:
            lines += [f"One large read and as many writes as a sequence has tokens: {value['fan_gb_per_s']:g} GB/s.", ""]
        lines += tables(value)
        if name.endswith("_layouts.json"):
            lines += layouts_table([row for row in value["rows"] if "lengths" not in row]) + [""]
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
