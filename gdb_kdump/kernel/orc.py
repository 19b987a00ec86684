"""ORC: how to get from one stack frame to its caller, as the kernel itself finds it.

Read from the dump, not from the vmlinux file: the kernel sorted and relocated the table at boot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout import orc_types_renumbered
from gdb_kdump.session import Session


class FrameType(Enum):
    """What a frame is; arch/x86/include/asm/orc_types.h: ORC_TYPE_*."""

    UNDEFINED = "undefined"
    END_OF_STACK = "end of stack"
    CALL = "call"
    REGS = "regs"
    REGS_PARTIAL = "partial regs"


# arch/x86/include/asm/orc_types.h: ORC_REG_*, the same numbers since v4.14.
REG_UNDEFINED, REG_PREV_SP, REG_DX, REG_DI, REG_BP, REG_SP, REG_R10, REG_R13, REG_BP_INDIRECT, REG_SP_INDIRECT = range(
    10
)

_OLD_TYPES = (FrameType.CALL, FrameType.REGS, FrameType.REGS_PARTIAL)
_NEW_TYPES = tuple(FrameType)


@dataclass(frozen=True)
class OrcEntry:
    """One struct orc_entry: the caller's sp is `sp_reg` + `sp_offset` (bytes), its bp likewise."""

    sp_reg: int
    sp_offset: int
    bp_reg: int
    bp_offset: int
    type: FrameType


@dataclass(frozen=True)
class OrcTable:
    """A table of `count` entries: `ips` is an array of s32 relative to themselves, `entries` of struct orc_entry."""

    ips: int
    entries: int
    count: int


def has_orc(session: Session) -> bool:
    """Whether the kernel was built with ORC; others have frame pointers."""
    return session.debuginfo.find_address("__start_orc_unwind_ip") is not None


class Orc:
    """The ORC tables of one session."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        layout, address = session.layout, session.debuginfo.address
        if session.layout.find_struct("orc_entry") is None:
            raise MissingDebugInfo("struct orc_entry")
        self._unpacker = layout.unpacker("orc_entry", ("sp_reg", "sp_offset", "bp_reg", "bp_offset", "type"))
        self._end = layout.find_member("orc_entry.end")
        self._types = _NEW_TYPES if orc_types_renumbered(layout) else _OLD_TYPES
        start, stop = address("__start_orc_unwind_ip"), address("__stop_orc_unwind_ip")
        self.text = OrcTable(start, address("__start_orc_unwind"), (stop - start) // 4)

    def find(self, table: OrcTable, pc: int) -> OrcEntry | None:
        """The entry of a table that governs `pc`, or None; arch/x86/kernel/unwind_orc.c: orc_find.

        Raises Unreadable.
        """
        low, high = 0, table.count
        while low < high:
            middle = (low + high) // 2
            at = table.ips + 4 * middle
            if at + self._memory.s32(at) <= pc:
                low = middle + 1
            else:
                high = middle
        return self._entry(table.entries + (low - 1) * self._unpacker.size) if low else None

    def _entry(self, addr: int) -> OrcEntry | None:
        block, at = self._memory.block(addr, self._unpacker.span)
        sp_reg, sp_offset, bp_reg, bp_offset, number = self._unpacker.unpack_from(block, at)
        kind = self._types[number] if number < len(self._types) else FrameType.UNDEFINED
        if self._types is _OLD_TYPES:
            if self._end is not None and block[at + self._end.offset] >> self._end.bit_offset & 1:
                kind = FrameType.END_OF_STACK
            elif sp_reg == REG_UNDEFINED:
                kind = FrameType.UNDEFINED
        return OrcEntry(sp_reg, sp_offset, bp_reg, bp_offset, kind)
