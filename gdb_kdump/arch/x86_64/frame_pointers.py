"""Kernels without ORC: callers by the chain of frame pointers, across entry code; arch/x86/kernel/unwind_frame.c."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.arch.x86_64.encoded_frame_pointers import caller_of
from gdb_kdump.arch.x86_64.entry_frames import EntryFrames
from gdb_kdump.arch.x86_64.prologue import Prologue, decode, words_to_return
from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.session import Session


@dataclass(frozen=True)
class _Place:
    """What the code at an address is; see prologue.words_to_return."""

    is_assembly: bool
    prologue: Prologue | None = None
    words_to_return: int | None = None


class FrameChain:
    """Finds callers on the stacks of one session whose kernel has frame pointers."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._source = session.once(Source)
        self._registers = session.once(Registers)
        self._entries = EntryFrames(session, self._source.is_text)
        self._places: dict[int, _Place] = {}

    def caller(self, registers: dict[str, int], interrupted: bool) -> tuple[dict[str, int], bool] | None:
        """The caller's registers, and whether they were interrupted; empty ones at the end of the stack.

        None where the chain is broken.  Raises Unreadable.
        """
        place = self._place(registers["rip"] - (not interrupted))
        if place.is_assembly:
            framed = self._entries.framed(registers)
            if framed is not None:
                return framed, False
            saved = self._entries.interrupted(registers)
            if saved is not None:
                return saved, True
        elif interrupted and place.words_to_return is not None:
            at = registers["rsp"] + 8 * place.words_to_return
            return {**registers, "rip": self._memory.u64(at), "rsp": at + 8}, False
        if registers.get("rbp") == 0:
            return {}, False  # where kernel threads and idle tasks begin; arch/x86/kernel/head_64.S
        found = caller_of(registers, self._memory.u64)
        if found is None:
            return None
        if isinstance(found, int):
            return self._registers.pt_regs(found), True
        return found | self._kept(registers, place.prologue), False

    def _place(self, pc: int) -> _Place:
        if pc not in self._places:
            self._places[pc] = self._look_at(pc)
        return self._places[pc]

    def _look_at(self, pc: int) -> _Place:
        if self._source.is_assembly(pc):
            return _Place(True)
        bounds = self._source.function_bounds(pc)
        if bounds is None:
            return _Place(False)
        start, end = bounds
        code, _ = self._memory.read_prefix(start, max(end, pc + 1) - start)
        prologue = decode(code, pc - start)
        return _Place(False, prologue, words_to_return(code, pc - start, prologue))

    def _kept(self, registers: dict[str, int], prologue: Prologue | None) -> dict[str, int]:
        """The callee-saved registers that are known in the caller."""
        if prologue is None:
            return {}
        kept = {name: registers[name] for name in prologue.kept if name in registers}
        for name, offset in prologue.saved.items():
            try:
                kept[name] = self._memory.u64(registers["rbp"] + offset)
            except Unreadable:
                continue  # the page of the rest of the frame is not in the dump
        return kept
