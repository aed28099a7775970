"""libgdn and libgdn_jit through ctypes: structs, prototypes, and errors as exceptions.

$GDN_LIBRARY and $GDN_JIT_LIBRARY name the files; else they are looked for beside this package and where the dynamic
loader looks.
"""

import ctypes
import functools
import os
import pathlib
from ctypes import POINTER, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p

from .errors import Error

ABI_VERSION = 1

DTYPES = ("fp32", "bf16", "fp16", "int32", "int64", "e4m3fn", "e4m3fnuz", "uint8")
DEVICES = {"cpu": 1, "cuda": 2, "hip": 10}
EDGES = ("plain", "programmatic")
POOLS_READY = 1  # GDN_PROMISE_POOLS_READY
ROW_KINDS = ("decode", "speculative", "prefill")


class DLTensor(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)), ("byte_offset", c_uint64)]


class LaunchOptions(ctypes.Structure):
    """gdn_launch_options: how a launch stands to what is ahead of it."""
    _fields_ = [("struct_size", c_size_t), ("edge", c_int32), ("promises", ctypes.c_uint32)]


class Operand(ctypes.Structure):
    """What a kernel expects of an operand: gdn_operand. Its layout is for reading, not for views."""
    _fields_ = [("struct_size", c_size_t), ("_name", c_char_p), ("_role", c_char_p), ("_dtype", c_int32),
                ("written", c_int32), ("_leading", c_int32), ("any_stride", c_int32), ("optional", c_int32),
                ("inner", c_int64), ("align", c_int64), ("_layout", c_char_p)]

    name = property(lambda self: self._name.decode())
    role = property(lambda self: self._role.decode())
    dtype = property(lambda self: DTYPES[self._dtype])
    leading = property(lambda self: (None, "row", "slot", "sequence", "scale_group", "snapshot")[self._leading])
    layout = property(lambda self: self._layout.decode())


class Rows(ctypes.Structure):
    _fields_ = [("kind", c_int32), ("rows", c_int32)]


class NamedView(ctypes.Structure):
    """gdn_named_view: a tensor under the name of the operand that it is given for."""
    _fields_ = [("operand", c_char_p), ("view", c_void_p)]


class RunStruct(ctypes.Structure):
    """gdn_run: rows of one kind in a mixed batch, and what only its kernels take."""
    _fields_ = [("struct_size", c_size_t), ("kind", c_int32), ("rows", c_int32), ("own", POINTER(NamedView)),
                ("own_count", c_size_t)]


class StepStruct(ctypes.Structure):
    _fields_ = [("operation", c_char * 24), ("kind", c_int32), ("first_row", c_int32), ("rows", c_int32)]


Progress = ctypes.CFUNCTYPE(None, c_void_p, c_char_p, c_char_p, c_double)
Log = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)
ProbeFunction = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, c_int32, POINTER(c_float), c_size_t)


Body = ctypes.CFUNCTYPE(None, c_void_p, c_int32)
ParallelFor = ctypes.CFUNCTYPE(None, c_void_p, c_int32, Body, c_void_p)
THREADING = ("pool", "caller", "openmp")


class SetOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("threads", c_int32), ("compile_seconds", c_int32), ("progress", Progress),
                ("user", c_void_p), ("threading", c_int32), ("spin_us", c_int32), ("parallel_for", ParallelFor),
                ("parallel_user", c_void_p), ("rows", c_int32), ("reserved", c_int32), ("edges", c_int32)]


_OUT = POINTER(c_void_p)
_VIEWS = POINTER(c_void_p)
_OPTIONS = POINTER(SetOptions)

# name: (result, arguments); the results "status" raise.
_PROTOTYPES = {
    "gdn_abi_version": (c_int, []),
    "gdn_status_name": (c_char_p, [c_int32]),
    "gdn_last_error_text": (c_char_p, []),
    "gdn_set_log": (None, [Log, c_void_p]),
    "gdn_set_open_bundle": ("status", [c_char_p, c_char_p, _OPTIONS, _OUT]),
    "gdn_set_open_registry": ("status", [c_char_p, _OPTIONS, _OUT]),
    "gdn_set_close": (None, [c_void_p]),
    "gdn_set_size": (c_size_t, [c_void_p]),
    "gdn_set_absent": (c_size_t, [c_void_p]),
    "gdn_set_entry": ("status", [c_void_p, c_size_t] + [POINTER(c_char_p)] * 4),
    "gdn_set_plan": ("status", [c_void_p, c_char_p, c_char_p, POINTER(c_char_p)]),
    "gdn_set_workspace": ("status", [c_void_p, c_char_p, c_char_p, c_int32, c_int32, POINTER(c_uint64)]),
    "gdn_set_load": ("status", [c_void_p, c_char_p]),
    "gdn_layout_from_text": ("status", [c_char_p, _OUT]),
    "gdn_layout_close": (None, [c_void_p]),
    "gdn_layout_identity": (c_uint64, [c_void_p]),
    "gdn_layout_text": (c_char_p, [c_void_p]),
    "gdn_view_create": ("status", [c_void_p, c_int32, c_int32, POINTER(c_int64), POINTER(c_int64), c_void_p, _OUT]),
    "gdn_view_from_dlpack": ("status", [POINTER(DLTensor), c_void_p, _OUT]),
    "gdn_view_close": (None, [c_void_p]),
    "gdn_view_set_data": ("status", [c_void_p, c_void_p]),
    "gdn_view_set_leading": ("status", [c_void_p, c_int64, c_int64]),
    "gdn_view_set_device": ("status", [c_void_p, c_int32, c_int32]),
    "gdn_view_data": (c_void_p, [c_void_p]),
    "gdn_pool_create": ("status", [c_void_p, c_int32, c_int64, c_int64, c_int64, c_void_p, c_char_p, _OUT]),
    "gdn_pool_close": (None, [c_void_p]),
    "gdn_pool_data": (c_void_p, [c_void_p]),
    "gdn_pool_view": ("status", [c_void_p, _OUT]),
    "gdn_supported": (c_int32, [c_void_p, c_char_p, c_char_p, c_int32, c_int32, _VIEWS, c_size_t]),
    "gdn_dispatch": ("status", [c_void_p, c_char_p, POINTER(Rows), c_size_t, POINTER(StepStruct), c_size_t,
                                POINTER(c_size_t)]),
    "gdn_kernel_open": ("status", [c_void_p, c_char_p, c_char_p, _OUT]),
    "gdn_kernel_close": (None, [c_void_p]),
    "gdn_kernel_symbol": (c_char_p, [c_void_p]),
    "gdn_kernel_target": (c_char_p, [c_void_p]),
    "gdn_kernel_identity": (c_uint64, [c_void_p]),
    "gdn_kernel_operands": (c_size_t, [c_void_p]),
    "gdn_kernel_operand": ("status", [c_void_p, c_size_t, POINTER(Operand)]),
    "gdn_launch_with": ("status", [c_void_p, c_int32, c_int32, _VIEWS, c_size_t, c_void_p, POINTER(LaunchOptions)]),
    "gdn_launch_mixed": ("status", [POINTER(c_void_p), c_size_t, POINTER(RunStruct), c_size_t, c_int32,
                                    POINTER(NamedView), c_size_t, c_void_p]),
    "gdn_prepare": ("status", [c_void_p, c_int32, c_int32, _VIEWS, c_size_t, _OUT]),
    "gdn_prepared_close": (None, [c_void_p]),
    "gdn_prepared_launch_with": ("status", [c_void_p, c_int32, c_void_p, POINTER(LaunchOptions)]),
    "gdn_probe": ("status", [c_void_p, c_char_p, c_char_p, c_int32, _VIEWS, c_size_t, ProbeFunction, c_void_p]),
}

_JIT_PROTOTYPES = {
    "gdn_jit_open": ("status", [c_char_p, c_char_p, c_int32, _OPTIONS, _OUT]),
    "gdn_jit_layout": ("status", [c_char_p, c_char_p, c_char_p, c_int32, _OUT]),
    "gdn_jit_check": ("status", [c_char_p, c_int32, c_void_p]),
}


def _open(variable, name):
    given = os.environ.get(variable)
    beside = pathlib.Path(__file__).resolve().parent / name
    path = given or (str(beside) if beside.exists() else name)
    try:
        # Symbols stay local to each library, except that libgdn_jit finds libgdn through its own dependency.
        return ctypes.CDLL(path)
    except OSError as error:
        raise Error("missing_library", f"{name} can't be loaded ({error}): install it, or set {variable}") from None


def raise_last(status):
    """Raises the last error of this thread."""
    gdn = library()
    raise Error(gdn.gdn_status_name(status).decode(), gdn.gdn_last_error_text().decode(errors="replace"))


def _check(status, _function, _arguments):
    if status != 0:
        raise_last(status)
    return status


def _bind(handle, prototypes):
    for name, (result, arguments) in prototypes.items():
        function = getattr(handle, name)
        function.argtypes = arguments
        function.restype = c_int32 if result == "status" else result
        if result == "status":
            function.errcheck = _check
    return handle


@functools.lru_cache(maxsize=None)
def library():
    """libgdn, opened at the first use."""
    handle = _bind(_open("GDN_LIBRARY", "libgdn.so.1"), _PROTOTYPES)
    if handle.gdn_abi_version() != ABI_VERSION:
        raise Error("other_version", f"libgdn has interface {handle.gdn_abi_version()}, this package wants {ABI_VERSION}")
    return handle


@functools.lru_cache(maxsize=None)
def jit():
    """libgdn_jit, opened at the first use."""
    library()
    return _bind(_open("GDN_JIT_LIBRARY", "libgdn_jit.so.1"), _JIT_PROTOTYPES)
