"""The pointers that a task's frames hold: arguments, locals and saved registers, with the frame that has them."""

from __future__ import annotations

from dataclasses import dataclass

import gdb

from gdb_kdump.kernel.stack import Frame
from gdb_kdump.kernel.tasks import Task
from gdb_kdump.kernel.threads import thread_id
from gdb_kdump.text import is_kernel_address


@dataclass(frozen=True)
class Pointer:
    """A value in a frame: `name` of the variable or register, `type` what it points to ("" for a register)."""

    value: int
    function: str
    name: str
    type: str


def variables_in(task: Task) -> list[Pointer]:
    """The pointers in arguments and locals of a task's GDB thread, innermost frame first."""
    selected = gdb.selected_thread()
    thread = next((t for t in gdb.selected_inferior().threads() if t.ptid[1] == thread_id(task)), None)
    if thread is None:
        return []
    found: list[Pointer] = []
    try:
        thread.switch()
        frame: gdb.Frame | None = gdb.newest_frame()
        while frame is not None:
            found += _in_frame(frame)
            frame = frame.older()
    finally:
        if selected is not None and selected.is_valid():
            selected.switch()
    return found


def registers_in(frames: tuple[Frame, ...]) -> list[Pointer]:
    """The pointers in the registers that are known in each frame, innermost first, each value once."""
    found: dict[int, Pointer] = {}
    for frame in frames:
        for name, value in {**frame.registers, **frame.saved}.items():
            if name not in ("rip", "rsp") and is_kernel_address(value):
                found.setdefault(value, Pointer(value, frame.source.function or "?", name, ""))
    return list(found.values())


def _in_frame(frame: gdb.Frame) -> list[Pointer]:
    found: list[Pointer] = []
    try:
        block: gdb.Block | None = frame.block()
    except RuntimeError:  # no debug information there
        return found
    while block is not None and not block.is_static:
        for symbol in block:
            pointer = _pointer(frame, symbol)
            if pointer is not None:
                found.append(pointer)
        if block.function is not None:
            break
        block = block.superblock
    return found


def _pointer(frame: gdb.Frame, symbol: gdb.Symbol) -> Pointer | None:
    if not symbol.is_argument and not symbol.is_variable:
        return None
    if symbol.type is None:
        return None
    kind = symbol.type.strip_typedefs()
    if kind.code != gdb.TYPE_CODE_PTR:
        return None
    try:
        value = int(symbol.value(frame)) & (1 << 64) - 1
    except gdb.error:  # <optimized out>
        return None
    target = kind.target().unqualified().strip_typedefs()
    return Pointer(value, frame.name() or "?", symbol.name, target.tag or "") if is_kernel_address(value) else None
