"""The pointers that a task's frames hold: arguments, locals and saved registers, with the frame that has them."""

from __future__ import annotations

from dataclasses import dataclass

import gdb

from gdb_kdump.arch.architecture import Architecture
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.kernel.stack.unwind import Frame
from gdb_kdump.target.variables import for_each_variable
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
    pointers = (_pointer(frame, symbol) for frame, symbol in for_each_variable(task))
    return [pointer for pointer in pointers if pointer is not None]


def registers_in(frames: tuple[Frame, ...], arch: Architecture) -> list[Pointer]:
    """The pointers in the registers that are known in each frame, innermost first, each value once."""
    pointers: dict[int, Pointer] = {}
    for frame in frames:
        for name, value in {**frame.registers, **frame.saved}.items():
            if name not in (arch.pc, arch.sp) and is_kernel_address(value):
                pointers.setdefault(value, Pointer(value, frame.source.function or "?", name, ""))
    return list(pointers.values())


def _pointer(frame: gdb.Frame, symbol: gdb.Symbol) -> Pointer | None:
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
