"""Batches of prefill, decode and speculative rows in one call: gdn_launch_mixed of gdn.h."""

import ctypes

from . import library
from .errors import Error


class Run:
    """A run of rows of one kind, and the tensors that are its own.

    kind   "decode", "speculative" or "prefill"
    rows   its tokens, at least one
    own    {operand: View}: slots, cu_seqlens (from 0, within the run), has_initial_state, accepted, ...
    """

    def __init__(self, kind, rows, own=None):
        if kind not in library.ROW_KINDS:
            raise Error("bad_argument", f"unknown kind of rows {kind}: {', '.join(library.ROW_KINDS)}")
        self.kind, self.rows, self.own = kind, rows, dict(own or {})


def _named(views):
    """gdn_named_view[] of {operand: View}; a view that is None is left out."""
    present = [(name.encode(), view.handle.value) for name, view in views.items() if view is not None]
    return (library.NamedView * max(len(present), 1))(*present), len(present)


def launch_mixed(kernels, runs, slots, shared, stream=None):
    """Compares everything, then launches the runs in their order on one stream. Waits for nothing.

    kernels  [Kernel] that may be launched: of each run its fused operation, or all of that operation's parts
    runs     [Run] in the order of their rows in the batch; a sequence stands in one run
    slots    of the pools
    shared   {operand: View} of all runs: rows of the batch's tokens, parameters, pools; a workspace as "workspace" or
             "<operation>.workspace"
    stream   its address as an int; None: the default
    """
    shared_views, shared_count = _named(shared)
    own = [_named(run.own) for run in runs]
    structs = (library.RunStruct * max(len(runs), 1))(
        *[(ctypes.sizeof(library.RunStruct), library.ROW_KINDS.index(run.kind), run.rows, views, count)
          for run, (views, count) in zip(runs, own)])
    handles = (ctypes.c_void_p * max(len(kernels), 1))(*[kernel.handle.value for kernel in kernels])
    library.library().gdn_launch_mixed(handles, len(kernels), structs, len(runs), slots, shared_views, shared_count,
                                       stream)
