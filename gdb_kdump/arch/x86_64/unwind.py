"""The rows of x86-64: ORC's and DWARF's as one, and what leads to a caller where neither knows.

ORC knows where the caller's frame is, across stack switches and in entry code (arch/x86/kernel/unwind_orc.c:
unwind_next_frame).  DWARF knows which registers the callee saved for its caller, and stands in for ORC in the few
functions that objtool leaves out, __crash_kexec for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdb_kdump.arch.readers import Generated, Kernel
from gdb_kdump.arch.state import Broken, Caller, State
from gdb_kdump.arch.x86_64.entry_frames import EntryFrames
from gdb_kdump.arch.x86_64.frame_pointers import FrameChain, next_link
from gdb_kdump.arch.x86_64.orc import Orc, has_orc, indirect_cfa
from gdb_kdump.arch.x86_64.prologue import call_target, ends_in_call
from gdb_kdump.arch.x86_64.registers import PC, PT_REGS, RESTORED, SP
from gdb_kdump.arch.x86_64.states import state_of
from gdb_kdump.records.rows import Cfa, Row
from gdb_kdump.text import hex16

_FRAME_BYTES = 1024  # of panic(): less than this


class Unwinder:
    """Knows how the frames of one kernel lead to their callers'."""

    restored = RESTORED

    def __init__(self, kernel: Kernel) -> None:
        self._memory = kernel.memory
        self._code = kernel.code
        self._find_module = kernel.find_module
        self._find_generated = kernel.find_generated
        self._find_address = kernel.find_address
        self._find_dwarf = kernel.find_dwarf
        self._orc = Orc(kernel.memory, kernel.types, kernel.find_address) if has_orc(kernel.find_address) else None
        self._chain = FrameChain(kernel)
        self.contexts_between = EntryFrames(kernel).between
        self._rows: dict[int, Row | None] = {}

    @property
    def ends_at_zero(self) -> bool:
        """Whether stacks begin with a return address of 0: those of kernel threads and idle tasks without ORC.

        arch/x86/kernel/head_64.S.
        """
        return self._orc is None

    def row(self, state: State) -> Row | None:
        """How to get from a state to its caller, or None where only fallback() may tell; raises Unreadable."""
        pc = state.pc if state.interrupted else state.pc - 1
        try:
            row = self._rows[pc]
        except KeyError:
            row = self._rows[pc] = self._find_row(pc)
        if row is not None and row.cfa is Cfa.WORD_SUM:
            return replace(row, cfa=indirect_cfa(self._memory.u64, self._code.is_text, state.sp, row.cfa_offset))
        return row

    def _find_row(self, pc: int) -> Row | None:
        module = None if self._code.in_kernel(pc) else self._find_module(pc)
        generated = self._find_generated(pc) if module is None else None
        if generated is not None:
            return self._row_of_template(generated, pc)
        orc = self._orc.find(pc, module) if self._orc is not None else None
        dwarf = self._find_dwarf(pc) if module is None else None
        if orc is None or dwarf is None:
            return dwarf if orc is None else orc
        if orc.is_end or orc.context is not None:
            return orc
        if (orc.cfa, orc.cfa_register, orc.cfa_offset) == (Cfa.SUM, dwarf.cfa_register, dwarf.cfa_offset):
            return replace(dwarf, may_change_stack=True)
        return replace(orc, saved=dwarf.saved, saved_elsewhere={}, lost=dwarf.lost)

    def _row_of_template(self, generated: Generated, pc: int) -> Row | None:
        """The row of the code that an ftrace trampoline is a copy of; arch/x86/kernel/unwind_orc.c: orc_ftrace_find."""
        name = "ftrace_regs_caller" if generated.saves_registers else "ftrace_caller"
        template = self._find_address(name) if generated.is_trampoline else None
        if template is None or self._orc is None:
            return None
        return self._orc.find(template + pc - generated.start, None)

    def entry_rows(self) -> Iterator[tuple[int, int, Row]]:
        """Of entry code, the ranges in which all registers of what it interrupted stand above rsp, with their rows."""
        low, high = self._find_address("__entry_text_start"), self._find_address("__entry_text_end")
        if self._orc is None or low is None or high is None:
            return
        for start, end, row in self._orc.between(low, high):
            if row.context is PT_REGS and row.cfa is Cfa.SUM and row.cfa_register == SP:
                yield start, end, row

    def fallback(self, state: State) -> Caller:
        """What stands above a frame that has no row.  Raises Unreadable.

        Kernels without ORC have frame pointers, and so has code made by the kernel: what BPF's compiler makes.
        """
        pc = state.pc if state.interrupted else state.pc - 1
        if self._orc is not None and self._find_generated(pc) is None:
            return Broken(f"the kernel has no unwind information for pc {hex16(state.pc)}")
        return self._chain.caller(state)

    def is_after_call(self, pc: int) -> bool:
        """Whether a call stands before an address."""
        return ends_in_call(self._memory.read_prefix(pc - 7, 7)[0])

    def before_call(self, state: State) -> State:
        """The caller, where pc has just been called and its function has done nothing yet; raises Unreadable."""
        return_address = self._memory.u64(state.sp)
        return state_of(state.registers | {PC: return_address, "rsp": state.sp + 8}, False)

    def callers_between(self, low: int, high: int, end: int) -> Iterator[State]:
        """The states that words of a stack between two addresses could be the return addresses of, lowest first.

        `end` is where the stack that is above them ends.
        """
        data, _ = self._memory.read_prefix(low, high - low)
        for offset, word in enumerate(memoryview(data[: len(data) & ~7]).cast("Q")):
            if self._code.is_text(word - 1):
                sp = low + 8 * offset + 8
                yield state_of({PC: word, "rsp": sp, **self._base(sp, end)}, False)

    def framed(self, state: State, function: int, end: int) -> Iterator[State]:
        """The state with each rbp that it may have, where a frame of the function `function` is addressed by that.

        The return address above such a frame comes from a call of this function; raises Unreadable.
        """
        for base in range(state.sp, min(state.sp + _FRAME_BYTES, end - 8), 8):
            caller = self._memory.u64(base + 8)
            if self._code.is_text(caller - 1) and call_target(self._memory.read(caller - 5, 5), caller) == function:
                yield state_of({**state.registers, "rbp": base}, False)

    def _base(self, low: int, high: int) -> dict[str, int]:
        """The rbp of a frame that ends at `low`, where the chain of frame pointers is needed."""
        link = next_link(low, high, self._memory, self._code.is_text) if self._orc is None else None
        return {} if link is None else {"rbp": link}
