"""What the scripts share that time a peer's kernels beside ours: sizes and floors, a row's figures, options, the file.

Each script has its own peers, tensors and timing: peers.py (a decode step on a GPU), peers_prefill.py (whole sequences on
a GPU), peers_cpu.py (both on a CPU).
"""

import argparse
import datetime
import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BYTES = {"fp32": 4, "int32": 4, "int64": 8, "bf16": 2, "fp16": 2, "uint8": 1, "e4m3fn": 1, "e4m3fnuz": 1}
TARGET = "sm_90a"
REPLAYS = 20


class CannotJudge(Exception):
    """Something that the comparison needs is not here."""


def floor_bytes(operands, rows, width, window):
    """Bytes that a decode step moves: each operand once, pools read and written, of a window the inputs that count."""
    total = 0
    for operand in operands:
        elements = operand.inner
        if operand.name.startswith("conv_state"):
            elements = elements // window * 2 * (width - 1)
        elif operand.role == "pool":
            elements *= 2
        total += BYTES[operand.dtype] * elements * (rows if operand.leading else 1)
    return total


def sequence_bytes(operands, tokens, sequences, width, window):
    """Bytes that a launch over whole sequences moves: rows by token; pools, slots and flags by sequence. No workspace."""
    named = [operand for operand in operands if operand.role not in ("workspace", "snapshots")]
    by_token = [operand for operand in named if operand.leading in (None, "row")]
    by_sequence = [operand for operand in named if operand.leading not in (None, "row")]
    return floor_bytes(by_token, tokens, width, window) + floor_bytes(by_sequence, sequences, width, window)


class Shape:
    """Sizes of a launch, from the text of its kernel's plan."""

    def __init__(self, plan, rows):
        def number(pattern):
            return re.search(pattern, plan).groups()
        self.key_heads, self.value_heads = map(int, number(r" heads=(\d+)/(\d+) "))
        self.key_dim, self.value_dim = map(int, number(r" dims=(\d+)/(\d+) "))
        self.width, self.window = int(number(r" conv\(width=(\d+) ")[0]), int(number(r" window=(\d+)\)")[0])
        self.eps = float(number(r" norm\(eps=([-+.e\d]+) ")[0])
        self.channels = 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
        self.layout = "interleaved" if re.search(r"operand: qkvz\n(?:    .*\n)*?    layout: \S+ \w+ \[token@launch, key_head", plan) else "flat"
        self.rows, self.slots = rows, 2 * rows + 1
        self.offsets = None  # of the sequences in the batch, on the device


def name_of(spec):
    """qwen3_next_80b+vllm_ds of specs/qwen3_next_80b.yaml+vllm_ds."""
    return "+".join(pathlib.Path(part).name.removesuffix(".yaml") for part in spec.split("+"))


def rounded(value):
    """Four significant digits are more than a timing has."""
    return float(f"{value:.4g}")


def figures(size, copy, ours, peer):
    """The numbers of a row: our microseconds and the peer's, beside the floor of so many bytes at a copy's GB/s."""
    floor = size / copy / 1e3
    return {"time_us": rounded(ours), "bytes": size, "gb_per_s": rounded(size / ours / 1e3), "floor_us": rounded(floor), "ratio": rounded(ours / floor),
            "peer_us": rounded(peer), "peer_ratio": rounded(peer / floor), "peer_over_ours": rounded(peer / ours)}


def difference(ours, theirs):
    """||ours - theirs|| / ||theirs||."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def view_of(gdn_gen, spec, operation, operand, tensor):
    """Our view of a tensor; what it is, its owner says by the spec."""
    flat = operand.leading is None or tensor.dim() == 1
    return gdn_gen.View(tensor.view(-1) if flat else tensor.view(tensor.shape[0], operand.inner),
                        gdn_gen.layout_of_spec(spec, operation, operand.name))


def replay_us(launches, torch):
    """Median microseconds of one of the launches, as a CUDA graph of all of them."""
    for launch in launches[:2]:
        launch()  # Triton compiles here, not in the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for launch in launches:
            launch()
    times = []
    for i in range(REPLAYS + 2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if i >= 2:
            times.append(start.elapsed_time(end) * 1e3 / len(launches))
    return statistics.median(times)


def copy_gb_per_s(torch):
    """Bytes read and written by a GPU's copy of 2 GiB, by a kernel: a copy engine, which a graph may take, has less."""
    source = torch.ones(1 << 29, device="cuda", dtype=torch.float32)
    target = torch.empty_like(source)
    size = 2 * source.numel() * source.element_size()
    return max(size / replay_us([one] * 3, torch) / 1e3
               for one in (lambda: target.copy_(source), lambda: torch.mul(source, 1.0, out=target)))


def numbers(parser, name, text):
    """Numbers from 1 with commas between them."""
    try:
        values = [int(value) for value in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < 1:
        parser.error(f"{name} takes numbers from 1, not '{text}'")
    return values


def parser_of(description, peers):
    """The options that every script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--peer", required=True, help=f"NAME=FOLDER, NAME one of {', '.join(peers)}")
    parser.add_argument("--spec", action="append", help="a spec file, overlays behind a '+'; repeat it for more than one")
    parser.add_argument("--commit", default="not given", help="the commit of this project that is measured, for the JSON file")
    parser.add_argument("--peer-commit", default="not given", help="the peer's version or commit")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file too")
    return parser


def parsed(parser, arguments, peers, specs):
    """The options, with the peer's name and folder apart, and the specs of these names where none is given."""
    options = parser.parse_args(arguments)
    options.name, _, options.folder = options.peer.partition("=")
    if options.name not in peers or not options.folder:
        parser.error(f"--peer is NAME=FOLDER, NAME one of {', '.join(peers)}, not '{options.peer}'")
    options.spec = options.spec or [str(ROOT / "specs" / f"{spec}.yaml") for spec in specs]
    return options


def opened(options, gpu):
    """(torch, our package). Throws CannotJudge where a file, torch or a GPU is not here."""
    for needed in [options.folder, *(spec.partition("+")[0] for spec in options.spec)]:
        if not pathlib.Path(needed).exists():
            raise CannotJudge(f"{needed} is not here")
    try:
        import torch
    except ImportError as error:
        raise CannotJudge(f"no torch: {error}") from error
    if gpu and not torch.cuda.is_available():
        raise CannotJudge("no CUDA GPU on this machine, or no NVIDIA driver")
    sys.path.insert(0, str(ROOT / "runtime" / "python"))
    import gdn_gen
    return torch, gdn_gen


def imported(peer, options):
    """peer(folder), a peer whose modules are imported there."""
    try:
        return peer(pathlib.Path(options.folder))
    except ImportError as error:
        raise CannotJudge(f"{options.folder} is no copy of {options.name} that can be imported: {error}") from error


def command_of(script, arguments):
    """What others would type for the same figures: where a copy of the peer or the file of figures lies is theirs to choose."""
    words = [f"tests/bench/{script}.py"]
    for before, word in zip(["", *arguments], arguments):
        if before == "--peer":
            words.append(word.partition("=")[0] + "=FOLDER")
        elif word.startswith("--peer="):
            words += ["--peer", word.split("=")[1] + "=FOLDER"]
        elif before != "--json" and not re.match("--json(=|$)", word):
            words.append(word)
    return " ".join(words)


def run(script, arguments, options, measure):
    """measure() is (device, copy in GB/s, rows, whether the two sides agreed). Writes the file; the exit status."""
    try:
        device, copy, rows, good = measure()
    except CannotJudge as error:
        print(f"{script}: error: {error}", file=sys.stderr)
        return 4
    if options.json is not None and rows:
        document = {"format": 2, "commit": options.commit, "command": command_of(script, arguments), "device": device,
                    "date": datetime.date.today().isoformat(), "gb_per_s": rounded(copy), "peer": options.name, "peer_commit": options.peer_commit,
                    "rows": rows}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if good else 1
