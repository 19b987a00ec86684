"""Entry code told to GDB as what it is to the interrupted function: the handler of a signal.

GDB takes a caller's pc for a return address, and looks up the line before it, and it does not follow a stack that goes
on below; both but where its own DWARF unwinder says that the callee was called by a signal.  So it gets a symbol file
with one DWARF entry for each stretch of entry code, made of the kernel's own tables.  A frame of a program, in which
that then ends, has no caller that the kernel would know of.
"""

from __future__ import annotations

from bisect import bisect_right

from gdb_kdump.debuginfo.loading import add_symbol_file, in_memory
from gdb_kdump.debuginfo.symbol_file import elf_image, interrupted_callers, no_caller
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.stack.unwind import Stacks
from gdb_kdump.session import Session

_USER_HALF = (0, 1 << 56)  # start, size: of 4- and 5-level paging alike
_TEXT = 0x4100000000000000  # a place that no kernel and no process has


def load(session: Session) -> None:
    """Load the symbol file into GDB, before that of the end of stacks, which covers the same code."""
    stretches = session.once(SignalFrames).stretches
    if not stretches:
        return
    arch = session.arch
    tables = interrupted_callers(
        [(start, end - start, register, offset) for start, end, register, offset in stretches],
        sorted(_saved(session).items()),
        arch.registers.return_column,
    )
    tables += no_caller(*_USER_HALF, arch.registers.return_column, _dwarf(session, arch.sp), len(tables))
    symbols = [("gdb_kdump_signal_frames", _TEXT, 1)]  # GDB warns of a file without any
    add_symbol_file(in_memory("signal-frames", elf_image(arch.elf_machine, (_TEXT, 1), symbols, tables)))


def _saved(session: Session) -> dict[int, int]:
    """The offset in struct pt_regs of each register, by DWARF's number."""
    layout, registers = session.layout, session.arch.registers
    return {
        number: layout.offset(f"pt_regs.{member}")
        for member, name in registers.by_member.items()
        if layout.find_member(f"pt_regs.{member}") is not None and (number := registers.by_name[name].dwarf) is not None
    }


def _dwarf(session: Session, register: str) -> int:
    return session.arch.registers.by_name[register].dwarf or 0


class SignalFrames:
    """The stretches of entry code in one session's kernel that GDB unwinds by itself; none where no table tells.

    `stretches` are from, to before, and the register (DWARF's number) and offset that lead to a struct pt_regs there.
    """

    def __init__(self, session: Session) -> None:
        self.stretches: list[tuple[int, int, int, int]] = []
        try:
            self.stretches = sorted(
                (start, end, _dwarf(session, row.cfa_register), row.cfa_offset)
                for start, end, row in session.once(Stacks).entry_rows()
                if row.cfa_offset >= 0
            )
        except (Unreadable, MissingDebugInfo):
            pass  # our own unwinder says where they end, or kbt does

    def has(self, pc: int, is_return_address: bool) -> bool:
        """Whether GDB unwinds the frame of entry code at `pc`; it looks there, also where that follows a call."""
        here = self._find(pc)
        return here is not None and (not is_return_address or self._find(pc - 1) == here)

    def _find(self, addr: int) -> tuple[int, int] | None:
        """The register and offset at an address, or None outside of the stretches."""
        number = bisect_right(self.stretches, (addr + 1,)) - 1
        if number < 0 or addr >= self.stretches[number][1]:
            return None
        return self.stretches[number][2:]
