"""The ctypes package: launches are right, errors are exceptions, tensors come as buffers and through DLPack.

GDN_LIBRARY and GDN_JIT_LIBRARY name the libraries.
"""

import array
import ctypes
import math
import pathlib
import struct
import sys
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "runtime/python"))

import gdn_gen  # noqa: E402  pylint: disable=wrong-import-position
from gdn_gen import library  # noqa: E402  pylint: disable=wrong-import-position

SPEC = str(ROOT / "tests/fuzz/fuzz_gdn.yaml")
ROWS, KEY_HEADS, GROUP, HEADS = 3, 2, 3, 6


def bf16(value):
    """The bits of a number that bf16 holds exactly."""
    return struct.unpack("<I", struct.pack("<f", value))[0] >> 16


def value(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


class FakeTensor:
    """An object that speaks DLPack over memory of this process, as a framework's tensor does."""

    class Managed(ctypes.Structure):
        _fields_ = [("tensor", library.DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]

    def __init__(self, memory, code, bits, shape, device=1):
        self.shape = (ctypes.c_int64 * len(shape))(*shape)
        self.managed = self.Managed()
        tensor = self.managed.tensor
        tensor.data = ctypes.addressof((ctypes.c_char * 1).from_buffer(memory))
        tensor.device_type, tensor.ndim, tensor.code, tensor.bits, tensor.lanes = device, len(shape), code, bits, 1
        tensor.shape = self.shape
        self.memory, self.streams = memory, []

    def __dlpack_device__(self):
        return (self.managed.tensor.device_type, 0)

    def __dlpack__(self, stream=None):
        self.streams.append(stream)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor", None)


class Gating:
    """Operands of one gating step, and what g and beta must be."""

    def __init__(self):
        self.layout = {name: gdn_gen.layout_of_spec(SPEC, "gating", name)
                       for name in ("ba", "a_log", "dt_bias", "handover.g", "handover.beta")}
        numbers = [((7 * i) % 33 - 16) / 8 for i in range(ROWS * 2 * HEADS)]
        self.ba = array.array("H", [bf16(number) for number in numbers])
        self.a_log = array.array("f", [(i - 3) / 4 for i in range(HEADS)])
        self.dt_bias = array.array("H", [bf16((i - 2) / 2) for i in range(HEADS)])
        self.g = array.array("f", [math.nan] * (ROWS * HEADS))
        self.beta = array.array("f", [math.nan] * (ROWS * HEADS))

    def views(self):
        return [
            gdn_gen.View(self.ba, self.layout["ba"], dtype="bf16", sizes=[ROWS, 2 * HEADS]),
            gdn_gen.View(self.a_log, self.layout["a_log"]),
            gdn_gen.View(self.dt_bias, self.layout["dt_bias"], dtype="bf16"),
            gdn_gen.View(self.g, self.layout["handover.g"], sizes=[ROWS, HEADS]),
            gdn_gen.View(self.beta, self.layout["handover.beta"], sizes=[ROWS, HEADS]),
        ]

    def part(self, name, row, head):
        """[key_head, {b: [group], a: [group]}]"""
        element = head // GROUP * 2 * GROUP + (GROUP if name == "a" else 0) + head % GROUP
        return value(self.ba[row * 2 * HEADS + element])

    def expected(self, row, head):
        x = self.part("a", row, head) + value(self.dt_bias[head])
        softplus = x if x > 20 else math.log1p(math.exp(x))
        return -math.exp(self.a_log[head]) * softplus, 1 / (1 + math.exp(-self.part("b", row, head)))


class Decode:
    """Operands of a decode step over four rows: small numbers in every input, NaN in every output."""

    ROWS, SLOTS = 4, 6
    BITS = {"fp32": "f", "int32": "i", "int64": "q"}

    def __init__(self, kernel):
        self.operands, self.memory, self.views = kernel.operands(), {}, {}
        for operand in self.operands:
            size = {"row": self.ROWS, "slot": self.SLOTS}.get(operand.leading)
            memory = self.filled(operand, (size or 1) * operand.inner)
            sizes = [size, operand.inner] if size and operand.name != "slots" else [size or operand.inner]
            self.memory[operand.name] = memory
            layout = gdn_gen.layout_of_spec(SPEC, "decode", operand.name)
            self.views[operand.name] = gdn_gen.View(memory, layout, dtype=operand.dtype, sizes=sizes)

    def filled(self, operand, count):
        kind = self.BITS.get(operand.dtype, "H")
        if operand.name == "slots":
            return array.array(kind, [4, 1, 3, 0])
        if operand.role == "output":
            return array.array(kind, [math.nan if kind == "f" else 0x7fff] * count)
        numbers = [((11 * i + len(operand.name)) % 29 - 14) / 16 for i in range(count)]
        return array.array(kind, [bf16(number) for number in numbers] if kind == "H" else numbers)

    def part_of_slots(self, first, count):
        slots = next(operand for operand in self.operands if operand.name == "slots")
        part = array.array(self.BITS[slots.dtype], self.memory["slots"][first:first + count])
        layout = gdn_gen.layout_of_spec(SPEC, "decode", "slots")
        return gdn_gen.View(part, layout, dtype=slots.dtype, sizes=[count])

    def bits(self):
        return {name: memory.tobytes() for name, memory in self.memory.items()}


def place(kernels):
    return "cpu" if kernels.supports("gating", "cpu").ok else "simt"


class PythonPackage(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.kernels = gdn_gen.open_spec(SPEC)
        cls.kernel = cls.kernels.open("gating", place(cls.kernels))

    def failure(self, status, call, *arguments, **named):
        with self.assertRaises(gdn_gen.Error) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        return str(caught.exception)

    def check_right(self, step):
        for row in range(ROWS):
            for head in range(HEADS):
                g, beta = step.expected(row, head)
                self.assertAlmostEqual(step.g[row * HEADS + head], g, delta=1e-5 * abs(g))
                self.assertAlmostEqual(step.beta[row * HEADS + head], beta, delta=1e-5)

    def test_launch_is_right(self):
        step = Gating()
        self.kernel.launch(ROWS, 0, step.views())
        self.check_right(step)

    def test_prepared_launch_is_right_and_keeps_its_tensors(self):
        step = Gating()
        prepared = self.kernel.prepare(ROWS, 0, step.views())
        prepared.launch(ROWS)
        self.check_right(step)
        self.failure("bad_argument", prepared.launch, ROWS + 1)

    def test_a_mixed_batch_is_its_launches_one_by_one(self):
        where = "cpu" if self.kernels.supports("decode", "cpu").ok else "simt"
        kernel = self.kernels.open("decode", where)
        alone, mixed = Decode(kernel), Decode(kernel)
        kernel.launch(Decode.ROWS, Decode.SLOTS, [alone.views[operand.name] for operand in alone.operands])
        shared = {name: view for name, view in mixed.views.items() if name != "slots"}
        runs = [gdn_gen.Run("decode", 1, {"slots": mixed.part_of_slots(0, 1), "workspace": None}),
                gdn_gen.Run("decode", 3, {"slots": mixed.part_of_slots(1, 3)})]
        untouched = mixed.bits()
        gdn_gen.launch_mixed([kernel], runs, Decode.SLOTS, shared)
        self.assertEqual(mixed.bits(), alone.bits())
        self.assertNotEqual(mixed.bits()["state"], untouched["state"])
        self.assertNotIn(0x7fff, mixed.memory["out"])

        before = mixed.bits()
        self.failure("bad_argument", gdn_gen.Run, "other", 1)
        self.failure("bad_argument", gdn_gen.launch_mixed, [kernel], [], Decode.SLOTS, shared)
        self.failure("unsupported", gdn_gen.launch_mixed, [], runs, Decode.SLOTS, shared)
        self.failure("unsupported", gdn_gen.launch_mixed, [kernel], [runs[0], gdn_gen.Run("prefill", 3)], Decode.SLOTS, shared)
        text = self.failure("bad_argument", gdn_gen.launch_mixed, [kernel], [runs[0], gdn_gen.Run("decode", 3)],
                            Decode.SLOTS, shared)
        self.assertIn("operand slots: no tensor of that name", text)
        self.assertEqual(mixed.bits(), before)

    def test_set_and_kernel_say_what_they_are(self):
        self.assertEqual(gdn_gen.abi_version(), 1)
        self.assertIn(("decode", "sm_90a", "gdn_fuzz_gdn_decode_sm_90a"), self.kernels.entries())
        self.assertIn("gdn_fuzz_gdn_decode_sm_90a", self.kernels.plan("decode", "sm_90a"))
        self.assertEqual(self.kernels.workspace("decode", "sm_90a", 1, 1), 0)
        names = [operand.name for operand in self.kernel.operands()]
        self.assertEqual(names, ["ba", "a_log", "dt_bias", "handover.g", "handover.beta"])
        g = self.kernel.operands()[3]
        self.assertEqual((g.role, g.dtype, g.leading, g.inner, g.written), ("output", "fp32", "row", HEADS, 1))
        self.assertIn("value_head:6", g.layout)
        one = gdn_gen.open_spec(SPEC, "sm_90a")
        kernels = {operation for operation, target, symbol in one.entries() if symbol}
        absent = {operation: reason for operation, target, reason in one.absent()}
        self.assertEqual(len(kernels), len(one.entries()))
        self.assertLessEqual({"decode", "gating", "prefill"}, kernels)
        self.assertEqual(set(absent), {"decode_spec", "state_commit", "conv_pack"})  # the spec has no drafts and no packed weight
        self.assertEqual([operation for operation in absent if one.supports(operation, "sm_90a").reason != absent[operation]], [])
        self.assertTrue(all(one.supports(operation, "sm_90a").ok for operation in kernels))
        self.kernels.expect_kernels_of(SPEC)

    def test_a_warm_up_call_touches_nothing(self):
        step = Gating()
        before = [step.g.tobytes(), step.beta.tobytes(), step.ba.tobytes()]
        self.kernel.warm_up()
        self.kernel.warm_up(step.views())
        self.kernel.launch(0, 0, [])
        self.kernel.prepare(ROWS, 0, step.views()).launch(0)
        self.assertEqual([step.g.tobytes(), step.beta.tobytes(), step.ba.tobytes()], before)
        wrong = step.views()
        wrong[0] = wrong[1]
        with self.assertRaises(gdn_gen.Error) as raised:
            self.kernel.warm_up(wrong)
        self.assertIn("operand ba", str(raised.exception))

    def test_edges_are_words(self):
        step = Gating()
        self.kernel.launch(ROWS, 0, step.views(), edge="programmatic", pools_ready=True)  # plain where there are none
        self.check_right(step)
        self.failure("bad_argument", self.kernel.launch, ROWS, 0, step.views(), None, "eager")

    def test_wrong_layout_launches_nothing(self):
        step = Gating()
        views = step.views()
        views[0] = gdn_gen.View(step.ba, gdn_gen.Layout("bf16 [token@launch, another]"), dtype="bf16",
                                sizes=[ROWS, 2 * HEADS])
        text = self.failure("layout_mismatch", self.kernel.launch, ROWS, 0, views)
        self.assertIn("another", text)
        self.assertIn("key_head:2", text)
        self.assertTrue(all(math.isnan(number) for number in step.g))
        support = self.kernels.supports("gating", self.kernel.target, ROWS, 0, views)
        self.assertEqual((support.ok, support.status), (False, "layout_mismatch"))

    def test_bad_views(self):
        layout = gdn_gen.Layout("x")
        memory = array.array("f", [0] * 8)
        self.failure("bad_argument", gdn_gen.View, b"read only", layout, dtype="fp32")
        self.failure("bad_argument", gdn_gen.View, array.array("H", [0] * 8), layout)
        self.failure("bad_argument", gdn_gen.View, memory, layout, dtype="fp64")
        self.failure("bad_argument", gdn_gen.View, 4096, layout)
        self.failure("size_mismatch", gdn_gen.View, memory, layout, sizes=[3, 3])
        self.failure("size_mismatch", gdn_gen.View, memory, layout, sizes=[2, 4], strides=[5, 1])
        self.failure("bad_argument", gdn_gen.View, memory, layout, sizes=[2, 4], strides=[4])
        self.failure("bad_argument", gdn_gen.Layout, "")
        closed = gdn_gen.View(memory, layout)
        closed.close()
        self.failure("bad_argument", closed.set_leading, 1, 1)
        self.failure("dtype_mismatch", self.kernel.launch, ROWS, 0,
                     [gdn_gen.View(memory, layout)] + Gating().views()[1:])
        self.failure("bad_argument", self.kernel.launch, ROWS, 0, [])

    def test_gradients_are_refused(self):
        step = Gating()
        for wanted in (True, False):
            tensor = FakeTensor(step.g, 2, 32, [ROWS, HEADS])
            tensor.requires_grad = wanted
            if wanted:
                text = self.failure("unsupported", gdn_gen.View, tensor, step.layout["handover.g"])
                self.assertIn("requires a gradient", text)
                self.assertIn("detach()", text)
                self.assertEqual(tensor.streams, [])
            else:
                gdn_gen.View(tensor, step.layout["handover.g"])

    def test_dlpack(self):
        step = Gating()
        views = step.views()
        tensor = FakeTensor(step.ba, 4, 16, [ROWS, 2 * HEADS])
        views[0] = gdn_gen.View(tensor, step.layout["ba"])
        self.kernel.launch(ROWS, 0, views)
        self.check_right(step)
        self.assertEqual(tensor.streams, [None])
        on_gpu = FakeTensor(step.ba, 4, 16, [ROWS, 2 * HEADS], device=2)
        views[0] = gdn_gen.View(on_gpu, step.layout["ba"])
        self.assertEqual(on_gpu.streams, [-1])
        self.assertIn("CUDA device 0", self.failure("wrong_device", self.kernel.launch, ROWS, 0, views))
        self.failure("bad_argument", gdn_gen.View, FakeTensor(step.ba, 2, 64, [ROWS]), step.layout["ba"])

    def test_pools(self):
        layout = gdn_gen.layout_of_spec(SPEC, "decode", "state")
        pool = gdn_gen.Pool("fp32", 4, HEADS * 48 * 32, layout, "cpu")
        self.assertEqual(pool.memory(), bytes(4 * HEADS * 48 * 32 * 4))
        view = pool.view()
        self.assertEqual(view.address, pool.address)
        self.failure("out_of_memory", gdn_gen.Pool, "fp32", 1 << 50, 1 << 10, layout, "cpu")

    def test_dispatch_and_log(self):
        self.assertEqual(self.kernels.dispatch("sm_90a", [("decode", 2), ("decode", 3)]),
                         [gdn_gen.Step("decode", "decode", 0, 5)])
        lines = []
        gdn_gen.set_log(lines.append)
        for _ in range(2):
            self.assertIn("decode_spec", self.failure("unsupported", self.kernels.dispatch, "sm_90a", [("speculative", 1)]))
        gdn_gen.set_log(None)
        self.assertEqual(len(lines), 1)
        self.failure("bad_argument", self.kernels.dispatch, "sm_90a", [("other", 1)])
        self.failure("bad_argument", self.kernels.dispatch, "sm_90a", [])

    def test_probe(self):
        step = Gating()

        def engine(swapped):
            def read(part, rows):
                if part not in ("a", "b"):
                    return None
                name = part if not swapped else {"a": "b", "b": "a"}[part]
                return [step.part(name, row, head) for row in range(rows) for head in range(HEADS)]
            return read

        self.kernels.probe("gating", "sm_90a", ROWS, step.views(), engine(False))
        text = self.failure("layout_mismatch", self.kernels.probe, "gating", "sm_90a", ROWS, step.views(), engine(True))
        self.assertIn("b[row 0, value_head 0]", text)
        self.assertIn("which the kernel calls a[row 0, value_head 0]", text)
        self.failure("bad_argument", self.kernels.probe, "gating", "sm_90a", ROWS, step.views(), lambda part, rows: [1.0])
        with self.assertRaises(ZeroDivisionError):
            self.kernels.probe("gating", "sm_90a", ROWS, step.views(), lambda part, rows: 1 / 0)

    def test_threads_of_the_caller(self):
        calls = []

        def parallel_for(parts, body):
            calls.append(parts)
            threads = [threading.Thread(target=body, args=(part,)) for part in range(parts)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        where = place(self.kernels)
        for threads in (gdn_gen.Threads("caller", 2, parallel_for=parallel_for), gdn_gen.Threads(spin_us=-1), 1):
            kernel = gdn_gen.open_spec(SPEC, threads=threads).open("gating", where)
            step = Gating()
            kernel.launch(ROWS, 0, step.views())
            self.check_right(step)
        if where == "cpu":
            self.assertEqual(calls, [2])
        self.failure("bad_argument", gdn_gen.open_spec, SPEC, threads=gdn_gen.Threads("caller"))
        with self.assertRaises(ValueError):
            gdn_gen.Threads("fibers")

    def test_load_and_bad_files(self):
        if place(self.kernels) == "cpu":
            self.kernels.load("cpu")
        self.failure("bad_argument", self.kernels.load, "moon")
        self.failure("bad_spec", gdn_gen.open_spec, "/no/such.yaml")
        self.failure("system", gdn_gen.open_bundle, "/no/such.gdnb")
        self.failure("unsupported", gdn_gen.open_registry, "no_such_spec")


if __name__ == "__main__":
    unittest.main()
