"""Layouts, views, pools, sets of kernels and launches."""

import collections
import ctypes
import os
import weakref

from . import library, tensors
from .errors import Error

Step = collections.namedtuple("Step", "operation kind first_row rows")
Support = collections.namedtuple("Support", "ok status reason")
Operand = library.Operand

_kept_log = None  # ctypes callbacks live as long as somebody holds them


def abi_version():
    """GDN_ABI_VERSION of the loaded library."""
    return library.library().gdn_abi_version()


def set_log(function):
    """`function(text)` receives lines that nobody waits for; None: they are dropped."""
    global _kept_log
    callback = library.Log(0) if function is None else library.Log(lambda _user, text: function(text.decode()))
    library.library().gdn_set_log(callback, None)
    _kept_log = callback


class _Handle:
    """Owns a handle of the library: closed once, by close(), by `with`, or with the object."""

    def __init__(self, handle, close):
        self._handle = ctypes.c_void_p(handle)
        self._finalizer = weakref.finalize(self, close, self._handle)

    @property
    def handle(self):
        if not self._finalizer.alive:
            raise Error("bad_argument", f"a closed {type(self).__name__}")
        return self._handle

    def close(self):
        self._finalizer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _made(call, *arguments):
    out = ctypes.c_void_p()
    call(*arguments, ctypes.byref(out))
    return out.value


def _int64s(numbers):
    return None if numbers is None else (ctypes.c_int64 * len(numbers))(*numbers)


def _dtype_number(name):
    if name not in library.DTYPES:
        raise Error("bad_argument", f"unknown dtype {name}: {', '.join(library.DTYPES)}")
    return library.DTYPES.index(name)


class Layout(_Handle):
    """What a tensor's owner says that it is: a canonical text."""

    def __init__(self, text, _handle=None):
        gdn = library.library()
        super().__init__(_handle or _made(gdn.gdn_layout_from_text, text.encode()), gdn.gdn_layout_close)

    @property
    def text(self):
        return library.library().gdn_layout_text(self.handle).decode()

    @property
    def identity(self):
        return library.library().gdn_layout_identity(self.handle)


class View(_Handle):
    """A tensor and its owner's statement about it. Keeps the tensor alive.

    `tensor` speaks DLPack or the buffer protocol, or is an address (then dtype and sizes are needed). `dtype`, `sizes`
    and `strides` (elements) replace those of a buffer; a DLPack tensor has its own.
    """

    def __init__(self, tensor, layout, dtype=None, sizes=None, strides=None, _handle=None, _keep=None):
        gdn = library.library()
        self._keep = _keep
        stated = layout.handle if layout is not None else None
        if _handle is None and isinstance(tensor, int):
            if dtype is None or sizes is None:
                raise Error("bad_argument", "an address needs dtype= and sizes=")
            _handle = self._create(tensor, dtype, sizes, strides, stated)
        elif _handle is None and dtype is None and sizes is None and hasattr(tensor, "__dlpack__"):
            struct, self._keep = tensors.dlpack(tensor)
            _handle = _made(gdn.gdn_view_from_dlpack, ctypes.byref(struct), stated)
        elif _handle is None:
            buffer = memoryview(tensor)
            address, self._keep = tensors.address_of(buffer)
            name = dtype or tensors.dtype_of_format(buffer)
            if sizes is None and dtype is not None:
                sizes = [buffer.nbytes // gdn_bytes(name)] if buffer.ndim == 1 else list(buffer.shape)
            shape = list(buffer.shape) if sizes is None else list(sizes)
            last = 1 + sum((size - 1) * step for size, step in zip(shape, strides or dense_strides(shape)))
            if shape and min(shape) > 0 and last * gdn_bytes(name) > buffer.nbytes:
                raise Error("size_mismatch", f"sizes {shape} reach beyond a buffer of {buffer.nbytes} bytes")
            _handle = self._create(address, name, shape, strides, stated)
        super().__init__(_handle, gdn.gdn_view_close)

    @staticmethod
    def _create(address, dtype, sizes, strides, layout):
        if strides is not None and len(strides) != len(sizes):
            raise Error("bad_argument", f"{len(sizes)} sizes and {len(strides)} strides")
        return _made(library.library().gdn_view_create, address, _dtype_number(dtype), len(sizes), _int64s(sizes),
                     _int64s(strides), layout)

    @property
    def address(self):
        return library.library().gdn_view_data(self.handle)

    def set_address(self, address):
        library.library().gdn_view_set_data(self.handle, address)

    def set_leading(self, size, stride):
        library.library().gdn_view_set_leading(self.handle, size, stride)

    def set_device(self, kind, ordinal=0):
        """`kind`: "cpu", "cuda" or "hip"."""
        if kind not in library.DEVICES:
            raise Error("bad_argument", f"unknown device {kind}: {', '.join(library.DEVICES)}")
        library.library().gdn_view_set_device(self.handle, library.DEVICES[kind], ordinal)


def gdn_bytes(dtype):
    """Bytes of an element."""
    _dtype_number(dtype)
    return {"int64": 8, "fp32": 4, "int32": 4, "bf16": 2, "fp16": 2}.get(dtype, 1)


def dense_strides(sizes):
    """Strides of a contiguous tensor, in elements."""
    strides, step = [], 1
    for size in reversed(sizes):
        strides.insert(0, step)
        step *= size
    return strides


class Pool(_Handle):
    """State kept between launches: zeroed memory at a place, whose layout stays with it as long as it lives."""

    def __init__(self, dtype, slots, inner, layout, place):
        gdn = library.library()
        self._bytes = slots * inner * gdn_bytes(dtype)
        super().__init__(_made(gdn.gdn_pool_create, None, _dtype_number(dtype), slots, inner, 0, layout.handle,
                               place.encode()), gdn.gdn_pool_close)

    @property
    def address(self):
        return library.library().gdn_pool_data(self.handle)

    def view(self):
        return View(None, None, _handle=_made(library.library().gdn_pool_view, self.handle), _keep=self)

    def memory(self):
        """A copy of a pool in host memory."""
        return ctypes.string_at(self.address, self._bytes)


class _ViewArray:
    """The handles of views as the library takes them."""

    def __init__(self, views):
        self.size = len(views)
        self.handles = (ctypes.c_void_p * max(len(views), 1))(
            *[None if view is None else view.handle.value for view in views])


def _launch_options(edge, pools_ready):
    if edge not in library.EDGES:
        raise Error("bad_argument", f"unknown edge {edge}: {', '.join(library.EDGES)}")
    options = library.LaunchOptions(struct_size=ctypes.sizeof(library.LaunchOptions), edge=library.EDGES.index(edge),
                                    promises=library.POOLS_READY if pools_ready else 0)
    return ctypes.byref(options)


class Prepared(_Handle):
    """A launch whose views were compared once."""

    def __init__(self, handle, keep):
        super().__init__(handle, library.library().gdn_prepared_close)
        self._keep = keep

    def launch(self, rows, stream=None, edge="plain", pools_ready=False):
        """`edge` and `pools_ready`: see Kernel.launch."""
        library.library().gdn_prepared_launch_with(self.handle, rows, stream, _launch_options(edge, pools_ready))


class Kernel(_Handle):
    """A kernel at a place, ready to launch."""

    def __init__(self, handle, keep=None):
        super().__init__(handle, library.library().gdn_kernel_close)
        self._keep = keep  # what a launch may call: the set's options

    symbol = property(lambda self: library.library().gdn_kernel_symbol(self.handle).decode())
    target = property(lambda self: library.library().gdn_kernel_target(self.handle).decode())
    identity = property(lambda self: library.library().gdn_kernel_identity(self.handle))

    def operands(self):
        gdn, found = library.library(), []
        for index in range(gdn.gdn_kernel_operands(self.handle)):
            operand = Operand(struct_size=ctypes.sizeof(Operand))
            gdn.gdn_kernel_operand(self.handle, index, ctypes.byref(operand))
            operand.keep = self  # its texts are the kernel's
            found.append(operand)
        return found

    def launch(self, rows, slots, views, stream=None, edge="plain", pools_ready=False):
        """Compares the views with the kernel, then launches. `stream`: its address as an int; None: the default.

        `edge="programmatic"`: the launch may begin before the one ahead of it is through, and waits for it itself;
        `pools_ready`: the caller promises that slot indices and states are written by nothing that may still run then,
        and the kernel reads them early. gdn.h has the contract (GDN_PROMISE_POOLS_READY).
        """
        array = _ViewArray(views)
        library.library().gdn_launch_with(self.handle, rows, slots, array.handles, array.size, stream,
                                          _launch_options(edge, pools_ready))

    def warm_up(self, views=()):
        """A launch of 0 rows: touches no memory; the views that there are have their dtypes and layouts compared."""
        self.launch(0, 0, list(views))

    def prepare(self, rows, slots, views):
        array = _ViewArray(views)
        handle = _made(library.library().gdn_prepare, self.handle, rows, slots, array.handles, array.size)
        return Prepared(handle, (self, list(views)))


class KernelSet(_Handle):
    """The kernels of a spec, a bundle or the registry."""

    def __init__(self, handle, keep=None):
        super().__init__(handle, library.library().gdn_set_close)
        self._keep = keep

    def _entries(self, first, end):
        gdn, found = library.library(), []
        for index in range(first, end):
            texts = [ctypes.c_char_p() for _ in range(4)]
            gdn.gdn_set_entry(self.handle, index, *[ctypes.byref(text) for text in texts])
            found.append(tuple(None if text.value is None else text.value.decode() for text in texts))
        return found

    def entries(self):
        """The kernels: [(operation, target, symbol)]."""
        return [entry[:3] for entry in self._entries(0, library.library().gdn_set_size(self.handle))]

    def absent(self):
        """What the set knows that it has no kernel for, and why: [(operation, target, reason)]."""
        gdn = library.library()
        size = gdn.gdn_set_size(self.handle)
        return [(operation, target, reason) for operation, target, _, reason in
                self._entries(size, size + gdn.gdn_set_absent(self.handle))]

    def plan(self, operation, target):
        text = ctypes.c_char_p()
        library.library().gdn_set_plan(self.handle, operation.encode(), target.encode(), ctypes.byref(text))
        return text.value.decode()

    def workspace(self, operation, where, rows, slots):
        size = ctypes.c_uint64()
        library.library().gdn_set_workspace(self.handle, operation.encode(), where.encode(), rows, slots,
                                            ctypes.byref(size))
        return size.value

    def supports(self, operation, where, rows=0, slots=0, views=None):
        """Whether a launch would be taken, and if not, why. Compiles nothing."""
        gdn = library.library()
        array = None if views is None else _ViewArray(views)
        status = gdn.gdn_supported(self.handle, operation.encode(), where.encode(), rows, slots,
                                   None if array is None else array.handles, 0 if array is None else array.size)
        reason = gdn.gdn_last_error_text().decode(errors="replace") if status != 0 else ""
        return Support(status == 0, gdn.gdn_status_name(status).decode(), reason)

    def dispatch(self, where, batch):
        """Steps of a batch [(kind, rows)], kind being "decode", "speculative" or "prefill"."""
        for kind, _ in batch:
            if kind not in library.ROW_KINDS:
                raise Error("bad_argument", f"unknown kind of rows {kind}: {', '.join(library.ROW_KINDS)}")
        rows = (library.Rows * max(len(batch), 1))(*[(library.ROW_KINDS.index(kind), count) for kind, count in batch])
        steps = (library.StepStruct * (8 * max(len(batch), 1)))()
        count = ctypes.c_size_t()
        library.library().gdn_dispatch(self.handle, where.encode(), rows, len(batch), steps, len(steps),
                                       ctypes.byref(count))
        return [Step(step.operation.decode(), library.ROW_KINDS[step.kind], step.first_row, step.rows)
                for step in steps[:count.value]]

    def open(self, operation, place):
        return Kernel(_made(library.library().gdn_kernel_open, self.handle, operation.encode(), place.encode()),
                      self._keep)

    def load(self, place):
        """Compiles and loads every operation that the set has for a place, side by side."""
        library.library().gdn_set_load(self.handle, place.encode())

    def probe(self, operation, where, rows, views, read):
        """Does the engine see the elements that the kernel sees? Overwrites the operands.

        `read(part, rows)` returns the part's elements as the engine reads them, a flat sequence of floats in the order
        that gdn.h gives, or None for a part that the engine does not read. Raises layout_mismatch naming the first
        element that differs as the kernel and as the engine call it.
        """
        raised = []

        def through(_user, part, count, values, size):
            try:
                got = read(part.decode(), count)
                if got is None:
                    return 1
                if len(got) != size:
                    raise Error("bad_argument", f"part {part.decode()} has {size} elements, {len(got)} were read")
                for index in range(size):
                    values[index] = got[index]
                return 0
            except BaseException as error:  # pylint: disable=broad-except
                raised.append(error)
                return 2

        array = _ViewArray(views)
        try:
            library.library().gdn_probe(self.handle, operation.encode(), where.encode(), rows, array.handles,
                                        array.size, library.ProbeFunction(through), None)
        except Error:
            if raised:
                raise raised[0] from None
            raise

    def expect_kernels_of(self, spec, ranks=1):
        """Raises layout_mismatch where these kernels are not those that the spec makes."""
        library.jit().gdn_jit_check(os.fsencode(spec), ranks, self.handle)


class Threads:
    """Where kernels on the CPU get their threads from.

    kind          "pool" (the library's own), "openmp", or "caller": those of `parallel_for`
    count         0: as many as this process may use
    spin_us       of the pool: how long a thread waits awake for the next launch; 0: 100, negative: not at all
    parallel_for  parallel_for(parts, body) calls body(i) once for each i in range(parts), on any threads, and returns
                  when all have returned. body(i) runs outside of the interpreter's lock
    """

    def __init__(self, kind="pool", count=0, spin_us=0, parallel_for=None):
        if kind not in library.THREADING:
            raise ValueError(f"threads of kind {kind!r}: {', '.join(library.THREADING)} are known")
        self.kind, self.count, self.spin_us, self.parallel_for = kind, count, spin_us, parallel_for


def _options(threads, compile_seconds, progress, rows=0, edges="both"):
    known = ("both",) + library.EDGES
    if edges not in known:
        raise Error("bad_argument", f"unknown edges {edges}: {', '.join(known)}")
    if not isinstance(threads, Threads):
        threads = Threads(count=threads)
    options = library.SetOptions(struct_size=ctypes.sizeof(library.SetOptions), threads=threads.count,
                                 compile_seconds=compile_seconds, threading=library.THREADING.index(threads.kind),
                                 spin_us=threads.spin_us, rows=rows, edges=known.index(edges))
    if progress is not None:
        options.progress = library.Progress(
            lambda _user, symbol, compiler, seconds: progress(symbol.decode(), compiler.decode(), seconds))
    if threads.parallel_for is not None:
        options.parallel_for = library.ParallelFor(
            lambda _user, parts, body, context: threads.parallel_for(parts, lambda part: body(context, part)))
    return options


def open_spec(path, targets="", ranks=1, threads=0, compile_seconds=0, progress=None, rows=0,
              edges="both"):
    """Every operation of a spec, compiled when it is opened. `threads`: a number for the library's own (0: as many as
    this process may use), or Threads. `progress(symbol, compiler, seconds)`: seconds is negative before a
    compilation. `rows`: how many tokens the launches that matter have, to compile the form for them alone (0: all);
    `edges`: "plain" or "programmatic", where all of them are on such."""
    options = _options(threads, compile_seconds, progress, rows, edges)
    return KernelSet(_made(library.jit().gdn_jit_open, os.fsencode(path), targets.encode(), ranks,
                           ctypes.byref(options)), options)


def open_bundle(path, spec=None, threads=0):
    """The kernels of one spec in a bundle; `spec` may be left out where it holds one."""
    options = _options(threads, 0, None)
    return KernelSet(_made(library.library().gdn_set_open_bundle, os.fsencode(path),
                           None if spec is None else spec.encode(), ctypes.byref(options)), options)


def open_registry(spec, threads=0):
    """The kernels of a spec that are compiled into this program."""
    options = _options(threads, 0, None)
    return KernelSet(_made(library.library().gdn_set_open_registry, spec.encode(), ctypes.byref(options)), options)


def layout_of_spec(path, operation, tensor, ranks=1):
    """The layout that a spec gives to a tensor of an operation: the statement of the tensors' owner."""
    return Layout(None, _made(library.jit().gdn_jit_layout, os.fsencode(path), operation.encode(), tensor.encode(),
                              ranks))
