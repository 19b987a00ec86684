"""GDB's own backtraces across what DWARF does not describe: entry code, stack switches, interrupts, exceptions.

Where DWARF alone finds the caller GDB does it, which keeps every register and so the arguments of the callers.
"""

from __future__ import annotations

import gdb
from gdb.unwinder import Unwinder

from gdb_kdump.arch.state import Stop
from gdb_kdump.errors import KdumpError
from gdb_kdump.kernel.stack.unwind import Stacks
from gdb_kdump.session import Session
from gdb_kdump.target.connection import find_selected
from gdb_kdump.target.signal_frames import SignalFrames

_USER_LIMIT = 1 << 63


class _FrameId:
    def __init__(self, sp: gdb.Value, pc: gdb.Value) -> None:
        self.sp = sp
        self.pc = pc


class KernelUnwinder(Unwinder):
    """Unwinds kernel frames of the open dump by rows that GDB does not know; leaves everything else to GDB."""

    def __init__(self) -> None:
        super().__init__("gdb-kdump")
        self._interrupted: set[tuple[int, int]] = set()

    def __call__(self, pending: gdb.PendingFrame) -> gdb.UnwindInfo | None:
        """How to unwind a frame, or None for GDB's own unwinders."""
        opened = find_selected()
        if opened is None:
            return None
        arch = opened.arch
        pc, sp = _register(pending, arch.pc), _register(pending, arch.sp)
        if pc is None or sp is None or sp < _USER_LIMIT:
            return None
        interrupted = pending.level() == 0 or (sp, pc) in self._interrupted
        if pc < _USER_LIMIT and not interrupted:
            return None
        try:
            stacks = opened.once(Stacks)
            row = stacks.row(arch.state({arch.pc: pc, arch.sp: sp}, interrupted))
            by_dwarf = row is not None and row.is_dwarf
            if by_dwarf and not stacks.returns.any():
                return None
            known = {name: value for name in arch.unwound_by if (value := _register(pending, name)) is not None}
            caller = stacks.unwind(arch.state(known, interrupted))
        except (KdumpError, Stop):
            return None  # kbt says why; bt just ends here
        if caller is not None and caller.interrupted:
            self._interrupted.add((caller.sp, caller.pc))
            if opened.once(SignalFrames).has(pc, not interrupted):
                return None  # GDB finds the caller by what it was told there
        if caller is None or caller.in_user_mode:
            return None  # the end, which gdb_kdump.target.end_of_stack tells GDB
        if by_dwarf and not stacks.returns.is_replaced(arch.return_slot(caller)):
            return None
        info = pending.create_unwind_info(_FrameId(_value(opened, sp), _value(opened, pc)))
        for name, value in caller.registers.items():
            info.add_saved_register(name, _value(opened, value, arch.registers.by_name[name].bits // 8))
        return info


def _register(pending: gdb.PendingFrame, name: str) -> int | None:
    try:
        return int(pending.read_register(name)) & (1 << 64) - 1
    except gdb.error:  # <unavailable> or <not saved>, which GDB 13 does not tell otherwise
        return None


def _value(opened: Session, number: int, size: int = 8) -> gdb.Value:
    value_type = opened.debuginfo.type("unsigned long" if size == 8 else "unsigned int")
    return gdb.Value((number & (1 << 8 * size) - 1).to_bytes(size, "little"), value_type)
