"""gdn-gen's runtime for Python: open kernels, state what tensors are, launch. Needs nothing but the two libraries.

    import gdn_gen
    kernels = gdn_gen.open_spec("specs/qwen3_next_80b.yaml")
    decode = kernels.open("decode", "cuda:0")
    qkvz = gdn_gen.View(tensor, gdn_gen.layout_of_spec("my_engine.yaml", "decode", "qkvz"))
    ...
    decode.launch(rows, slots, [qkvz, ...], stream)

The layout of a view is the statement of whoever made the tensor; a launch compares it with the kernel's and launches
nothing where they differ. Tensors are anything that speaks DLPack (torch, jax, cupy) or the buffer protocol (numpy,
array, bytearray). The conventions are those of gdn/gdn.h.
"""

from .errors import Error
from .kernels import (Kernel, KernelSet, Layout, Operand, Pool, Prepared, Step, Support, Threads, View,
                      abi_version, layout_of_spec, open_bundle, open_registry, open_spec, set_log)
from .mixed import Run, launch_mixed

__all__ = [
    "Error", "Kernel", "KernelSet", "Layout", "Operand", "Pool", "Prepared", "Run", "Step", "Support", "Threads", "View",
    "abi_version", "launch_mixed", "layout_of_spec", "open_bundle", "open_registry", "open_spec", "set_log"
]
