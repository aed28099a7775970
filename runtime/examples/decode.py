#!/usr/bin/env python3
"""One decode step and a second one through a prepared launch, in Python without any framework.

    decode.py SPEC [PLACE]        PLACE: cpu (the default) or simt

Does what decode.c does, and prints the same.
"""

import ctypes
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import gdn_gen  # noqa: E402  pylint: disable=wrong-import-position

ROWS, SLOTS = 3, 5
FORMATS = {"fp32": "f", "fp16": "e", "int32": "i", "int64": "q"}


def number(i, operand):
    """-8/16 to 8/16 in steps of 1/16."""
    return ((i * 7 + operand * 13) % 17 - 8) / 16


def pack(dtype, numbers):
    if dtype == "bf16":
        return b"".join(struct.pack("<f", value)[2:] for value in numbers)
    return struct.pack(f"<{len(numbers)}{FORMATS[dtype]}", *numbers)


def checksum(data):
    """FNV-1a."""
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return value


def run(spec, place):
    kernel = gdn_gen.open_spec(spec).open("decode", place)

    # Each operand: memory, the layout that this engine says it has (here: what the spec says), a view.
    views, memory, pools = [], {}, {}
    operands = kernel.operands()
    for i, operand in enumerate(operands):
        layout = gdn_gen.layout_of_spec(spec, "decode", operand.name)
        if operand.role == "pool":
            pool = gdn_gen.Pool(operand.dtype, SLOTS, operand.inner, layout, place)
            data = pack(operand.dtype, [number(n, i) for n in range(SLOTS * operand.inner)])
            ctypes.memmove(pool.address, data, len(data))
            pools[operand.name] = pool
            views.append(pool.view())
            continue
        rows = ROWS if operand.leading == "row" else 1
        if operand.role == "slots":
            numbers, sizes = [row + 1 for row in range(rows)], [rows]
        else:
            numbers = [number(n, i) for n in range(rows * operand.inner)]
            sizes = [rows, operand.inner] if operand.leading == "row" else [operand.inner]
        memory[operand.name] = bytearray(pack(operand.dtype, numbers))
        views.append(gdn_gen.View(memory[operand.name], layout, dtype=operand.dtype, sizes=sizes))

    kernel.launch(ROWS, SLOTS, views)
    kernel.prepare(ROWS, SLOTS, views).launch(ROWS)
    print(kernel.symbol)
    print(f"out   {checksum(memory['out']):016x}")
    print(f"state {checksum(pools['state'].memory()):016x}")

    # The same memory, stated to be something else.
    at = [operand.name for operand in operands].index("state")
    other = gdn_gen.Layout("fp32 [slot@launch, key first]")
    views[at] = gdn_gen.View(pools["state"].address, other, operands[at].dtype, [SLOTS, operands[at].inner])
    try:
        kernel.launch(ROWS, SLOTS, views)
        print("another layout: ok")
    except gdn_gen.Error as error:
        print(f"another layout: {error.status}")


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} SPEC [cpu|simt]")
    try:
        run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "cpu")
    except gdn_gen.Error as error:
        print(f"{error.status}: {error}")
        sys.exit(4 if error.status == "unsupported" else 1)


if __name__ == "__main__":
    main()
