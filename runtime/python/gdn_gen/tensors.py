"""The memory of tensors: DLPack objects and buffers as what gdn_view_* take."""

import ctypes
import sys

from . import library
from .errors import Error

_CAPSULE = b"dltensor"
_FORMATS = {"f": "fp32", "e": "fp16"}

_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def dlpack(tensor):
    """(DLTensor, what keeps it alive) of an object that speaks DLPack. The caller orders the streams."""
    if getattr(tensor, "requires_grad", False):
        raise Error("unsupported", "a tensor that requires a gradient: no operation has a backward pass, and what it writes "
                                   "belongs to no graph. Give tensor.detach(), or compute under torch.no_grad()")
    if tensor.__dlpack_device__()[0] == library.DEVICES["cpu"]:
        capsule = tensor.__dlpack__()
    else:
        capsule = tensor.__dlpack__(stream=-1)  # no wait: the launch is enqueued where the caller says
    return library.DLTensor.from_address(_capsule_pointer(capsule, _CAPSULE)), capsule


def dtype_of_format(view):
    """The dtype of a memoryview's elements; 16-bit integers are no dtype: bf16 has to be said."""
    if view.format in _FORMATS:
        return _FORMATS[view.format]
    if view.format in ("i", "l", "q") and view.itemsize in (4, 8):
        return "int32" if view.itemsize == 4 else "int64"
    raise Error("bad_argument", f"a buffer of format {view.format!r} has no dtype of ours: give dtype= (bf16 is stored in "
                                "16-bit integers)")


def address_of(view):
    """(address, what keeps it alive) of a writable, contiguous memoryview."""
    if view.readonly:
        raise Error("bad_argument", "a read-only buffer: give a writable one (bytearray, array, numpy)")
    if not view.c_contiguous:
        raise Error("bad_argument", "a buffer that is not contiguous: give it flat, with sizes= and strides=")
    if sys.byteorder != "little":
        raise Error("unsupported", "every target is little-endian")
    kept = (ctypes.c_char * view.nbytes).from_buffer(view)
    return ctypes.addressof(kept), kept
