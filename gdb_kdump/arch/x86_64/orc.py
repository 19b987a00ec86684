"""ORC: how to get from one stack frame to its caller, as the kernel itself finds it.

Read from the dump, not from the vmlinux file: the kernel sorted and relocated the table at boot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from gdb_kdump.arch.readers import Memory, Module, Types
from gdb_kdump.arch.x86_64.registers import CALLEE_SAVED, IRET_FRAME, PC, PT_REGS
from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.records.rows import END_OF_STACK, Cfa, Row


class FrameType(Enum):
    """What a frame is; arch/x86/include/asm/orc_types.h: ORC_TYPE_*."""

    UNDEFINED = "undefined"
    END_OF_STACK = "end of stack"
    CALL = "call"
    REGS = "regs"
    REGS_PARTIAL = "partial regs"


_SAMPLES, _AT_EACH = 8, 64  # how many entries are looked at to know what their numbers mean
_OLD_TYPES = (FrameType.CALL, FrameType.REGS, FrameType.REGS_PARTIAL)
_NEW_TYPES = tuple(FrameType)
_BP = "rbp"
_ALL_BUT_BP = frozenset(CALLEE_SAVED) - {_BP}

# arch/x86/include/asm/orc_types.h: ORC_REG_*, by GDB's names. "cfa" is ORC_REG_PREV_SP, "[rsp]" ORC_REG_SP_INDIRECT.
_ORC_REGISTERS = ("", "cfa", "rdx", "rdi", "rbp", "rsp", "r10", "r13", "[rbp]", "[rsp]", "rax")
_ORC_REORDERED = ("", "rax", "rdx", "rsp", "rbp", "rdi", "r10", "r13", "cfa", "[rsp]", "[rbp]")


def orc_types_renumbered(types: Types) -> bool:
    """Whether orc_entry.type has UNDEFINED and END_OF_STACK: it grew to three bits for them.

    fb799447ae29 (v6.4) x86,objtool: Split UNWIND_HINT_EMPTY in two.
    """
    return bool(types.member("orc_entry.type").bit_size > 2)


def orc_registers(bases: Mapping[int, int]) -> tuple[str, ...]:
    """What the numbers of registers in struct orc_entry stand for, by how often each is the base of a frame.

    96f3b16a9de5 (v7.1) objtool: Support Clang RAX DRAP sequence added one, and 1735858caa4b (v7.1) objtool/x86: Reorder
    ORC register numbering all the others.  That left no trace in any type, but nearly all frames are based on rsp, of
    which the number is now that of rdi, which is the base of next to none.
    """
    old, new = _ORC_REGISTERS.index("rsp"), _ORC_REORDERED.index("rsp")
    return _ORC_REORDERED if bases.get(new, 0) > bases.get(old, 0) else _ORC_REGISTERS


def indirect_cfa(read: Callable[[int], int], is_text: Callable[[int], bool], sp: int, offset: int) -> Cfa:
    """What ORC_REG_SP_INDIRECT means on this stack: the word at `sp`, + `offset`, or the word at `sp` + `offset`.

    87ccc826bf1c (v5.12) x86/unwind/orc: Change REG_SP_INDIRECT made it the former.  That left no trace in any type, so
    the stack decides: the latter has return addresses below it.
    """
    return Cfa.WORD if offset and is_text(read(sp) - 1) else Cfa.WORD_SUM


@dataclass(frozen=True)
class OrcEntry:
    """One struct orc_entry: the caller's sp is `sp_reg` + `sp_offset` (bytes), its bp likewise.

    The names of registers are those of orc_registers(), "" where there is none.
    """

    sp_reg: str
    sp_offset: int
    bp_reg: str
    bp_offset: int
    type: FrameType

    def row(self) -> Row | None:
        """The same as a row, or None where it says nothing."""
        if self.type is FrameType.END_OF_STACK:
            return END_OF_STACK
        if self.type is FrameType.UNDEFINED or not self.sp_reg:
            return None
        register = self.sp_reg.strip("[]")
        cfa = {"[rsp]": Cfa.WORD_SUM, "[rbp]": Cfa.WORD}.get(self.sp_reg, Cfa.SUM)
        if self.type is not FrameType.CALL:
            context = PT_REGS if self.type is FrameType.REGS else IRET_FRAME
            return Row(register, self.sp_offset, cfa, context=context, may_change_stack=True, is_dwarf=False)
        saved, elsewhere = {PC: -8}, {}
        if self.bp_reg == "cfa":
            saved[_BP] = self.bp_offset
        elif self.bp_reg == _BP:
            elsewhere[_BP] = (_BP, self.bp_offset)
        return Row(register, self.sp_offset, cfa, saved, elsewhere, _ALL_BUT_BP, may_change_stack=True, is_dwarf=False)


@dataclass(frozen=True)
class OrcTable:
    """A table of `count` entries: `ips` is an array of s32 relative to themselves, `entries` of struct orc_entry."""

    ips: int
    entries: int
    count: int


def has_orc(find_address: Callable[[str], int | None]) -> bool:
    """Whether the kernel was built with ORC; others have frame pointers."""
    return find_address("__start_orc_unwind_ip") is not None


class Orc:
    """The ORC tables of one kernel and its modules; raises MissingDebugInfo."""

    def __init__(self, memory: Memory, types: Types, find_address: Callable[[str], int | None]) -> None:
        self._memory = memory
        self._members = types
        if types.find_struct("orc_entry") is None:
            raise MissingDebugInfo("struct orc_entry")
        self._unpacker = types.unpacker("orc_entry", ("sp_reg", "sp_offset", "bp_reg", "bp_offset", "type"))
        self._end = types.find_member("orc_entry.end")
        self._types = _NEW_TYPES if orc_types_renumbered(types) else _OLD_TYPES
        bounds = []
        for name in ("__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind"):
            addr = find_address(name)
            if addr is None:
                raise MissingDebugInfo(f"symbol {name}")
            bounds.append(addr)
        start, stop, entries = bounds
        self._text = OrcTable(start, entries, (stop - start) // 4)
        self._of_modules: dict[int, OrcTable | None] = {}
        self._registers = orc_registers(self._bases())

    def _bases(self) -> Counter[int]:
        """How often each register is the base of a frame, in all those of some entries that the dump has."""
        bases: Counter[int] = Counter()
        size = self._unpacker.size
        for sample in range(_SAMPLES):
            first = self._text.entries + sample * self._text.count // _SAMPLES * size
            data, _ = self._memory.read_prefix(first, _AT_EACH * size)
            bases.update(self._unpacker.unpack_from(data, at)[0] for at in range(0, len(data) // size * size, size))
        return bases

    def _register(self, number: int) -> str:
        return self._registers[number] if number < len(self._registers) else f"the ORC register {number}"

    def find(self, pc: int, module: Module | None) -> Row | None:
        """The row that governs an address of the kernel's own code, or of a module's; None where nothing is known.

        arch/x86/kernel/unwind_orc.c: orc_find.  Raises Unreadable.
        """
        table = self._text if module is None else self._of_module(module)
        entry = self._find_entry(table, pc) if table is not None else None
        return entry.row() if entry is not None else None

    def between(self, low: int, high: int) -> Iterator[tuple[int, int, Row]]:
        """The rows of the kernel's own code between two addresses: from, to before, and the row; raises Unreadable."""
        first, last = self._number(self._text, low), self._number(self._text, high)
        if first < 1 or last <= first:
            return
        table, size, count = self._text, self._unpacker.size, last - first + 1
        at = table.ips + 4 * (first - 1)
        steps = memoryview(self._memory.read(at, 4 * (count + (last < table.count)))).cast("i")
        starts = [at + 4 * number + step for number, step in enumerate(steps)]
        entries = self._memory.read(table.entries + (first - 1) * size, count * size)
        for number, (start, end) in enumerate(zip(starts, starts[1:])):
            row = self._entry_at(entries, number * size).row()
            if row is not None and low <= start and end <= high:
                yield start, end, row

    def _of_module(self, module: Module) -> OrcTable | None:
        """The table of a module, or None where it has none; arch/x86/kernel/unwind_orc.c: orc_module_find."""
        if module.addr not in self._of_modules:
            self._of_modules[module.addr] = self._read_table(module.addr)
        return self._of_modules[module.addr]

    def _read_table(self, module: int) -> OrcTable | None:
        names = ("orc_unwind_ip", "orc_unwind", "num_orcs")
        if any(self._members.find_member(f"module.{name}") is None for name in names):
            return None
        unpacker = self._members.unpacker("module", names)
        ips, entries, count = unpacker.unpack_from(*self._memory.block(module, unpacker.span))
        return OrcTable(ips, entries, count) if ips and entries else None

    def _find_entry(self, table: OrcTable, pc: int) -> OrcEntry | None:
        number = self._number(table, pc)
        if not number:
            return None
        return self._entry_at(
            *self._memory.block(table.entries + (number - 1) * self._unpacker.size, self._unpacker.span)
        )

    def _number(self, table: OrcTable, pc: int) -> int:
        """How many entries of a table are of addresses up to `pc`: the last of them governs it."""
        low, high = 0, table.count
        while low < high:
            middle = (low + high) // 2
            at = table.ips + 4 * middle
            if at + self._memory.s32(at) <= pc:
                low = middle + 1
            else:
                high = middle
        return low

    def _entry_at(self, block: bytes, at: int) -> OrcEntry:
        sp_reg, sp_offset, bp_reg, bp_offset, number = self._unpacker.unpack_from(block, at)
        frame_type = self._types[number] if number < len(self._types) else FrameType.UNDEFINED
        if self._types is _OLD_TYPES:
            if self._end is not None and block[at + self._end.offset] >> self._end.bit_offset & 1:
                frame_type = FrameType.END_OF_STACK
            elif not self._register(sp_reg):
                frame_type = FrameType.UNDEFINED
        return OrcEntry(self._register(sp_reg), sp_offset, self._register(bp_reg), bp_offset, frame_type)
