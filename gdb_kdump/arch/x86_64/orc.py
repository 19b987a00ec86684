"""ORC: how to get from one stack frame to its caller, as the kernel itself finds it.

Read from the dump, not from the vmlinux file: the kernel sorted and relocated the table at boot.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.layout import orc_registers, orc_types_renumbered
from gdb_kdump.session import Session


class FrameType(Enum):
    """What a frame is; arch/x86/include/asm/orc_types.h: ORC_TYPE_*."""

    UNDEFINED = "undefined"
    END_OF_STACK = "end of stack"
    CALL = "call"
    REGS = "regs"
    REGS_PARTIAL = "partial regs"


_PLACES, _AT_EACH = 8, 64  # how many entries are looked at to know what their numbers mean
_OLD_TYPES = (FrameType.CALL, FrameType.REGS, FrameType.REGS_PARTIAL)
_NEW_TYPES = tuple(FrameType)


@dataclass(frozen=True)
class OrcEntry:
    """One struct orc_entry: the caller's sp is `sp_reg` + `sp_offset` (bytes), its bp likewise.

    The names of registers are those of layout.orc_registers, "" where there is none.
    """

    sp_reg: str
    sp_offset: int
    bp_reg: str
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
        self._registers = orc_registers(self._bases())

    def _bases(self) -> Counter[int]:
        """How often each register is the base of a frame, in all those of some entries that the dump has."""
        bases: Counter[int] = Counter()
        size = self._unpacker.size
        for place in range(_PLACES):
            first = self.text.entries + place * self.text.count // _PLACES * size
            data, _ = self._memory.read_prefix(first, _AT_EACH * size)
            bases.update(self._unpacker.unpack_from(data, at)[0] for at in range(0, len(data) // size * size, size))
        return bases

    def _register(self, number: int) -> str:
        return self._registers[number] if number < len(self._registers) else f"the ORC register {number}"

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
            elif not self._register(sp_reg):
                kind = FrameType.UNDEFINED
        return OrcEntry(self._register(sp_reg), sp_offset, self._register(bp_reg), bp_offset, kind)
