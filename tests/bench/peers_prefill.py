#!/usr/bin/env python3
"""Times FLA's chunked kernels and ours over whole sequences side by side: one process, one GPU, the same numbers.

usage: peers_prefill.py --peer fla=FOLDER [--spec SPEC]... [--lengths 32768,8192,8192x4,1024x8] [--commit COMMIT] [--json FILE]

FOLDER holds a copy of the peer's Python package (the folder that has fla/ in it: the wheels of PyPI's fla-core and
flash-linear-attention, unpacked); none comes with this project. SPEC is a spec file, with overlays behind a '+', whose
states are fp32 (V, K) and whose decay is handed over as ln: specs/qwen3_next_80b.yaml and specs/kimi_linear_48b.yaml
unless others are named. LENGTHS are tokens of each of so many sequences: 8192x4. Needs torch and triton, and our package
(runtime/python) with its two libraries (GDN_LIBRARY, GDN_JIT_LIBRARY).

Both sides do `chunk_delta`: q, k and v behind the convolution, decay and beta given, the l2 norm of q and k inside,
states of fp32 at both ends. Before anything is timed, both take one launch from the same states, and outputs and states
are compared. Then each side's launches are captured into a CUDA graph, or called one by one where the peer can't be
captured, which the output says; a time is the median over replays. The floor is what `gdn-gen bench` prints.

The JSON is what results.py makes a table of. Exit status: 0 measured; 1 the two sides disagree; 4 no GPU, no torch, no
package.
"""

import re
import statistics
import sys

from side_by_side import (TARGET, Shape, copy_gb_per_s, difference, figures, imported, name_of, opened, parsed,
                          parser_of, replay_us, run, sequence_bytes, view_of)

LAUNCHES = 3


class Fla:
    """flash-linear-attention's chunked Gated Delta Rule and KDA."""

    def __init__(self, folder):
        sys.path.insert(0, str(folder))
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
        from fla.ops.kda import chunk_kda
        self.gdn, self.kda = chunk_gated_delta_rule, chunk_kda

    def step(self, layer, shape, lengths):
        """o and the final states; sequences of one length are its batch."""
        sequences, tokens = lengths
        def rows(tensor, *sizes):
            return tensor.view(sequences, tokens, *sizes)
        kernel = self.kda if layer.kda else self.gdn
        decay = (shape.value_heads, shape.key_dim) if layer.kda else (shape.value_heads,)
        return kernel(rows(layer.q, shape.key_heads, shape.key_dim), rows(layer.k, shape.key_heads, shape.key_dim),
                      rows(layer.v, shape.value_heads, shape.value_dim), rows(layer.g, *decay), rows(layer.beta, shape.value_heads),
                      initial_state=layer.initial, output_final_state=True, use_qk_l2norm_in_kernel=True, state_v_first=True)


PEERS = {"fla": Fla}


def parse_lengths(text):
    """(sequences, tokens of each) of "8192x4" or "8192"."""
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise ValueError(text)
    return int(match.group(2) or 1), int(match.group(1))


class Layer:
    """Tensors of a launch; q, k and v are correlated from token to token, as a convolution leaves them."""

    def __init__(self, shape, lengths, kda, torch):
        sequences, tokens = lengths
        count = sequences * tokens
        generator = torch.Generator(device="cuda").manual_seed(1)

        def random(*sizes, dtype=torch.bfloat16, scale=1.0):
            return (torch.randn(sizes, generator=generator, device="cuda") * scale).to(dtype)
        s = shape
        self.kda = kda
        self.q, self.k = (random(count, s.key_heads * s.key_dim) for _ in range(2))
        self.v = random(count, s.value_heads * s.value_dim)
        self.g = -torch.nn.functional.softplus(random(count, s.value_heads * (s.key_dim if kda else 1), dtype=torch.float32))
        self.beta = torch.sigmoid(random(count, s.value_heads, dtype=torch.float32))
        self.initial = random(sequences, s.value_heads, s.value_dim, s.key_dim, dtype=torch.float32, scale=0.1)
        self.state = torch.cat([torch.zeros_like(self.initial[:1]), self.initial])
        self.slots = torch.arange(1, sequences + 1, device="cuda", dtype=torch.int32)
        self.cu_seqlens = (torch.arange(sequences + 1, device="cuda") * tokens).to(torch.int32)
        self.has_initial_state = torch.ones(sequences, device="cuda", dtype=torch.uint8)
        self.o = torch.empty(count, s.value_heads * s.value_dim, device="cuda", dtype=torch.bfloat16)


def prepare(kernels, kernel, gdn_gen, spec, layer, shape, lengths, torch):
    """A launch of ours on a layer's tensors; what each is, its owner says by the spec."""
    sequences, tokens = lengths
    size = kernels.workspace("chunk_delta", "cuda:0", sequences * tokens, sequences + 1)
    layer.workspace = torch.empty(max(size, 16), device="cuda", dtype=torch.uint8)
    views = []
    for operand in kernel.operands():
        name = operand.name.rpartition(".")[2]
        tensor = getattr(layer, name, None)
        if tensor is None and operand.optional:
            views.append(None)
            continue
        dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32, "int32": torch.int32, "int64": torch.int64}
        if operand.dtype in dtypes and tensor.dtype != dtypes[operand.dtype]:
            tensor = tensor.to(dtypes[operand.dtype])
            setattr(layer, name, tensor)  # ours alone reads it as such, and it has to live
        if operand.role == "workspace":  # no tensor of the model
            views.append(gdn_gen.View(tensor, None))
            continue
        views.append(view_of(gdn_gen, spec, "chunk_delta", operand, tensor))
    return kernel.prepare(sequences * tokens, sequences + 1, views)


def time_us(launch, torch):
    """Median microseconds of one launch, and whether a graph could hold it."""
    try:
        return replay_us([launch] * LAUNCHES, torch), True
    except RuntimeError:
        torch.cuda.synchronize()
        times = []
        for turn in range(12):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(LAUNCHES):
                launch()
            end.record()
            torch.cuda.synchronize()
            if turn >= 2:
                times.append(start.elapsed_time(end) * 1e3 / LAUNCHES)
        return statistics.median(times), False


def row_of(spec, lengths, size, copy, ours, peer):
    sequences, tokens = lengths
    return {"spec": spec, "operation": "chunk_delta", "target": TARGET, "on": "cuda", "lengths": str(tokens) + (f"x{sequences}" if sequences > 1 else ""),
            **figures(size, copy, ours, peer)}


def measure(peer, gdn_gen, options, torch):
    copy, rows, good = copy_gb_per_s(torch), [], True
    print(f"{'spec':<18} {'lengths':>10} {'peer us':>10} {'ours us':>10} {'floor us':>9} {'ours/fl':>8} {'peer/us':>8}")
    for spec in options.spec:
        kernels = gdn_gen.open_spec(spec, targets=TARGET)
        kernel, plan = kernels.open("chunk_delta", "cuda:0"), kernels.plan("chunk_delta", TARGET)
        name = name_of(spec)
        for lengths in options.lengths:
            shape = Shape(plan, lengths[0] * lengths[1])
            layer = Layer(shape, lengths, " rule=kda " in plan, torch)
            launch = prepare(kernels, kernel, gdn_gen, spec, layer, shape, lengths, torch)
            tokens, stream = lengths[0] * lengths[1], torch.cuda.current_stream().cuda_stream
            launch.launch(tokens, stream)
            o, final = peer.step(layer, shape, lengths)
            torch.cuda.synchronize()
            wrong = {"o": difference(layer.o, o.reshape(layer.o.shape)), "state": difference(layer.state[1:], final)}
            if not max(wrong.values()) < 2e-2:
                print(f"peers_prefill: error: {name}, {lengths[1]} tokens of {lengths[0]}: the two sides disagree: {wrong}", file=sys.stderr)
                good = False
                continue
            ours, _ = time_us(lambda one=launch, count=tokens: one.launch(count, torch.cuda.current_stream().cuda_stream), torch)
            theirs, captured = time_us(lambda one=layer: peer.step(one, shape, lengths), torch)
            row = row_of(name, lengths, sequence_bytes(kernel.operands(), tokens, lengths[0], shape.width, shape.window), copy, ours, theirs)
            rows.append(row)
            print(f"{name:<18} {row['lengths']:>10} {row['peer_us']:>10.1f} {row['time_us']:>10.1f} {row['floor_us']:>9.1f} {row['ratio']:>8.2f} "
                  f"{row['peer_over_ours']:>8.2f}" + ("" if captured else "  peer not in a graph"), flush=True)
            del layer, launch, o, final
    return copy, rows, good


def main(arguments):
    parser = parser_of("Time FLA's chunked kernels and ours over whole sequences side by side.", PEERS)
    parser.add_argument("--lengths", default="32768,8192,8192x4,1024x8", help="TOKENS or TOKENSxSEQUENCES of a launch")
    options = parsed(parser, arguments, PEERS, ("qwen3_next_80b", "kimi_linear_48b"))
    try:
        options.lengths = [parse_lengths(text) for text in options.lengths.split(",")]
    except ValueError as error:
        parser.error(f"--lengths takes TOKENS or TOKENSxSEQUENCES, such as 8192x4, not '{error}'")

    def measured():
        torch, gdn_gen = opened(options, gpu=True)
        return torch.cuda.get_device_name(), *measure(imported(PEERS[options.name], options), gdn_gen, options, torch)
    return run("peers_prefill", arguments, options, measured)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
