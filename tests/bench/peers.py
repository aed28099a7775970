#!/usr/bin/env python3
"""Times a peer's decode kernels and ours side by side: one process, one GPU, the same shapes, inputs and random slots.

usage: peers.py --peer aiter=FOLDER [--spec SPEC]... [--batch 1,4,16,64,256] [--commit COMMIT] [--json FILE]

FOLDER holds a copy of the peer's Python package (the checkout that has aiter/ in it); none comes with this project. SPEC
is a spec file whose rows, conv windows by token and (V, K) states the peer knows: specs/qwen3_next_80b.yaml and
specs/qwen3_5_35b_a3b.yaml unless others are named. Needs torch and triton, and our package (runtime/python) with its two
libraries (GDN_LIBRARY, GDN_JIT_LIBRARY).

Before anything is timed, both sides do one step from the same random state, and their outputs and states are compared.
Then each side's launches of one step, over as many layers as a model has and as it takes for no state to be in the L2
cache when its turn comes, are captured into a CUDA graph; the time is the median over replays, divided by the layers. The
peer's launches are conv with unpacking, then gates with the delta rule; its gated norm is timed as a third launch where
its package has one, and ours does all of it in one. The floor is what `gdn-gen bench` prints.

The JSON is what results.py makes a table of. Exit status: 0 measured; 1 the two sides disagree; 4 no GPU, no torch, no
package.
"""

import sys

from side_by_side import (BYTES, TARGET, Shape, copy_gb_per_s, difference, figures, floor_bytes, imported, name_of,
                          numbers, opened, parsed, parser_of, replay_us, rounded, run, view_of)

L2_BYTES = 256 << 20  # more than any GPU's cache, several times an H200's
MODEL_LAYERS = 36  # of this kind in Qwen3-Next


def layers_for(slot_bytes, rows):
    """As many as a model has, which share the graph's own start, and so many that no state is still in the cache."""
    return max(MODEL_LAYERS, min(128, -(-L2_BYTES // (slot_bytes * rows))))


def row_of(spec, batch, state_dtype, size, copy, ours, peer, norm):
    """One line of the JSON: our figures as `gdn-gen bench` has them, and the peer's."""
    row = {"spec": spec, "operation": "decode", "target": TARGET, "on": "cuda", "edges": "plain", "batch": batch, "state_dtype": state_dtype,
           **figures(size, copy, ours, peer)}
    if norm is not None:
        row["peer_norm_us"] = rounded(norm)
    return row


def line_of(row):
    norm = f"{row['peer_norm_us']:8.2f}" if "peer_norm_us" in row else f"{'-':>8}"
    return (f"{row['spec']:<18} {row['state_dtype']:>5} {row['batch']:>5} {row['peer_us']:8.2f} {norm} {row['time_us']:8.2f} "
            f"{row['floor_us']:8.2f} {row['peer_ratio']:7.2f} {row['ratio']:7.2f} {row['peer_over_ours']:7.2f}")


HEADING = (f"{'spec':<18} {'state':>5} {'batch':>5} {'peer us':>8} {'norm us':>8} {'ours us':>8} {'floor us':>8} {'peer/fl':>7} {'ours/fl':>7} "
           f"{'peer/us':>7}")


class Aiter:
    """AITER's Triton kernels of a Gated DeltaNet decode step."""

    def __init__(self, folder):
        sys.path.insert(0, str(folder))
        from aiter.ops.triton.conv.causal_conv1d_update_single_token import fused_reshape_causal_conv1d_update_single_token
        from aiter.ops.triton.gated_delta_net.fused_rearrange_sigmoid_gdr import fused_rearrange_sigmoid_gated_delta_rule
        self.conv = fused_reshape_causal_conv1d_update_single_token
        self.delta = fused_rearrange_sigmoid_gated_delta_rule
        try:
            from aiter.ops.triton.quant.fused_fp8_quant import fused_rms_gated_fp8_group_quant
            self.norm_kernel = fused_rms_gated_fp8_group_quant
        except (ImportError, AttributeError):
            self.norm_kernel = None

    def step(self, layer, shape, torch):
        """Conv and delta rule of one layer: o [rows, value heads, value_dim] in layer.o, z beside it."""
        qkv, b, a = self.conv(
            layer.qkvz, shape.rows, shape.key_heads, shape.value_heads, shape.key_dim, shape.value_dim, layer.ba, layer.z, layer.o,
            layer.conv_state.transpose(1, 2), layer.conv_weight, None, "silu", conv_state_indices=layer.slots, qkvz_layout=shape.layout)
        self.delta(layer.a_log, a, b, layer.dt_bias, qkv.view(shape.rows, -1), shape.key_heads * shape.key_dim,
                   shape.value_heads * shape.value_dim, shape.key_dim, shape.value_dim, initial_state=layer.state,
                   cu_seqlens=shape.offsets, ssm_state_indices=layer.slots, use_qk_l2norm_in_kernel=True, core_attn_out=layer.o)

    def norm(self, layer, shape, torch):
        """Its gated norm, which quantises to 8 bits."""
        flat = (shape.rows * shape.value_heads, shape.value_dim)
        self.norm_kernel(layer.o.view(flat), layer.norm_weight.to(layer.o.dtype), None, layer.z.view(flat), shape.eps, group_size=shape.value_dim,
                         out_dtype=torch.float8_e4m3fn, fp8_min=-448.0, fp8_max=448.0)


PEERS = {"aiter": Aiter}


class Layer:
    """Tensors of one layer, with pools of its own and random slots, none of them slot 0."""

    def __init__(self, shape, state_dtype, torch, seed):
        generator = torch.Generator(device="cuda").manual_seed(seed)

        def random(*sizes, dtype=torch.bfloat16, scale=1.0):
            return (torch.randn(sizes, generator=generator, device="cuda") * scale).to(dtype)
        s = shape
        self.qkvz = random(s.rows, s.channels + s.value_heads * s.value_dim)
        self.ba = random(s.rows, 2 * s.value_heads)
        self.conv_weight = random(s.channels, s.width, scale=0.5)
        self.a_log = random(s.value_heads, dtype=torch.float32, scale=0.5)
        self.dt_bias = random(s.value_heads)
        self.norm_weight = 1 + random(s.value_dim, scale=0.1).float()
        self.conv_state = random(s.slots, s.window, s.channels)
        self.state = random(s.slots, s.value_heads, s.value_dim, s.key_dim, dtype=state_dtype, scale=0.1)
        self.slots = (1 + torch.randperm(s.slots - 1, generator=generator, device="cuda")[:s.rows]).to(torch.int32)
        self.z = torch.empty(s.rows, s.value_heads, s.value_dim, device="cuda", dtype=torch.bfloat16)
        self.o = torch.empty_like(self.z)
        self.out = torch.empty_like(self.z)


def prepare(kernel, gdn_gen, spec, layer, shape, torch):
    """A launch of ours on a layer's tensors; what each is, its owner says by the spec."""
    views = []
    for operand in kernel.operands():
        tensor = getattr(layer, operand.name)
        if operand.role == "parameter":
            tensor = tensor.to(getattr(torch, {"bf16": "bfloat16", "fp32": "float32"}[operand.dtype]))
        views.append(view_of(gdn_gen, spec, "decode", operand, tensor))
    return kernel.prepare(shape.rows, shape.slots, views)


def agree(peer, kernel, gdn_gen, spec, shape, state_dtype, torch):
    """The worst relative difference of output and states after one step of both from the same state."""
    mine, theirs = Layer(shape, state_dtype, torch, 7), Layer(shape, state_dtype, torch, 7)
    prepare(kernel, gdn_gen, spec, mine, shape, torch).launch(shape.rows, torch.cuda.current_stream().cuda_stream)
    peer.step(theirs, shape, torch)
    torch.cuda.synchronize()
    o, z = theirs.o.float(), theirs.z.float()
    out = o * torch.rsqrt((o * o).mean(-1, keepdim=True) + shape.eps) * theirs.norm_weight * torch.nn.functional.silu(z)
    pairs = {"out": (mine.out.float(), out), "state": (mine.state.float(), theirs.state.float()),
             "conv_state": (mine.conv_state.float(), theirs.conv_state.float())}
    return {name: difference(a, b) for name, (a, b) in pairs.items()}


def measure(peer, gdn_gen, specs, batches, torch):
    copy = copy_gb_per_s(torch)
    rows = []
    print(HEADING)
    for spec in specs:
        kernels = gdn_gen.open_spec(spec, targets=TARGET)
        kernel, plan = kernels.open("decode", "cuda:0"), kernels.plan("decode", TARGET)
        operands = kernel.operands()
        dtype = next(operand.dtype for operand in operands if operand.name == "state")
        state_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
        for batch in batches:
            shape = Shape(plan, batch)
            shape.offsets = torch.arange(batch + 1, device="cuda", dtype=torch.int32)
            differences = agree(peer, kernel, gdn_gen, spec, shape, state_dtype, torch)
            # bf16 between the peer's launches, and each side's own order of sums.
            wrong = {name: value for name, value in differences.items() if not value < 2e-2}
            if wrong:
                print(f"peers: error: {name_of(spec)}, batch {batch}: the two sides disagree: {wrong}", file=sys.stderr)
                return copy, rows, False
            slot = shape.value_heads * shape.value_dim * shape.key_dim * BYTES[dtype]
            layers = [Layer(shape, state_dtype, torch, seed) for seed in range(layers_for(slot, batch))]
            prepared = [prepare(kernel, gdn_gen, spec, layer, shape, torch) for layer in layers]
            ours = replay_us([lambda p=p: p.launch(batch, torch.cuda.current_stream().cuda_stream) for p in prepared], torch)
            theirs = replay_us([lambda one=one: peer.step(one, shape, torch) for one in layers], torch)
            norm = None
            if peer.norm_kernel is not None:
                try:
                    both = replay_us([lambda one=one: (peer.step(one, shape, torch), peer.norm(one, shape, torch)) for one in layers], torch)
                    norm = both - theirs
                except Exception as error:  # pylint: disable=broad-except
                    print(f"peers: the peer's norm does not run here: {error}".splitlines()[0], file=sys.stderr)
                    peer.norm_kernel = None
            rows.append(row_of(name_of(spec), batch, dtype, floor_bytes(operands, batch, shape.width, shape.window), copy, ours, theirs, norm))
            print(line_of(rows[-1]), flush=True)
            del layers, prepared
    return copy, rows, True


def main(arguments):
    parser = parser_of("Time a peer's decode kernels and ours side by side.", PEERS)
    parser.add_argument("--batch", default="1,4,16,64,256", help="batch sizes")
    options = parsed(parser, arguments, PEERS, ("qwen3_next_80b", "qwen3_5_35b_a3b"))
    batches = numbers(parser, "--batch", options.batch)

    def measured():
        torch, gdn_gen = opened(options, gpu=True)
        return torch.cuda.get_device_name(), *measure(imported(PEERS[options.name], options), gdn_gen, options.spec, batches, torch)
    return run("peers", arguments, options, measured)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
