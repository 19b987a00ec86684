"""Kernels without ORC: callers by the chain of frame pointers, across entry code; arch/x86/kernel/unwind_frame.c."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gdb_kdump.arch.readers import Kernel, Memory
from gdb_kdump.arch.state import Broken, Caller, EndOfStack, State
from gdb_kdump.arch.x86_64.entry_frames import EntryFrames
from gdb_kdump.arch.x86_64.prologue import Prologue, decode, words_to_return
from gdb_kdump.arch.x86_64.registers import PT_REGS
from gdb_kdump.arch.x86_64.states import state_of
from gdb_kdump.errors import Unreadable
from gdb_kdump.text import hex16

_LARGEST_STACK = 1 << 14  # bytes
_LARGEST_FRAME = 2048  # bytes: CONFIG_FRAME_WARN has the compiler refuse larger ones


@dataclass(frozen=True)
class Linked:
    """The registers of a caller that a link of the chain leads to."""

    registers: dict[str, int]


@dataclass(frozen=True)
class Encoded:
    """A link that says that the caller was interrupted, and where its `struct pt_regs` is."""

    pt_regs: int


def follow_link(registers: Mapping[str, int], read: Callable[[int], int]) -> Linked | Encoded | None:
    """Where rbp leads to from a callee's registers, None where it is no link; `read` gives the u64 at an address.

    Raises what `read` does.  An rbp with its lowest bit set is an encoded pointer to pt_regs: 946c191161ce (v4.9)
    x86/entry/unwind: Create stack frames for saved interrupt registers.
    """
    base, sp = registers.get("rbp"), registers["rsp"]
    if base is None:
        return None
    if base & 1:
        return Encoded(base - 1) if 0 <= base - 1 - sp < _LARGEST_STACK else None
    if base % 8 or not 0 <= base - sp < _LARGEST_STACK:
        return None
    return Linked({"rip": read(base + 8), "rsp": base + 16, "rbp": read(base)})


def next_link(low: int, high: int, memory: Memory, is_text: Callable[[int], bool]) -> int | None:
    """The address of the first link of the chain between two addresses of a stack, or None.

    A link is a word that points further up the stack, with a return address after it.
    """
    data, _ = memory.read_prefix(low, min(high - low, _LARGEST_FRAME))
    words = memoryview(data[: len(data) & ~7]).cast("Q")
    for number, word in enumerate(words[:-1]):
        at = low + 8 * number
        if at < word < at + 2 * _LARGEST_STACK and not word % 8 and is_text(words[number + 1] - 1):
            return at
    return None


@dataclass(frozen=True)
class _Site:
    """What the code at an address is; see prologue.words_to_return."""

    is_assembly: bool
    prologue: Prologue | None = None
    words_to_return: int | None = None


class FrameChain:
    """Finds callers on the stacks of a kernel that has frame pointers."""

    def __init__(self, kernel: Kernel) -> None:
        self._memory = kernel.memory
        self._code = kernel.code
        self._read_context = kernel.read_context
        self._entries = EntryFrames(kernel)
        self._sites: dict[int, _Site] = {}

    def caller(self, state: State) -> Caller:
        """What stands above a frame; raises Unreadable."""
        registers = state.registers
        site = self._site(state.pc - (not state.interrupted))
        if site.is_assembly:
            entered = self._entries.framed(registers) or self._entries.interrupted(registers)
            if entered is not None:
                return entered
        elif state.interrupted and site.words_to_return is not None:
            at = state.sp + 8 * site.words_to_return
            return state_of({**registers, "rip": self._memory.u64(at), "rsp": at + 8}, False)
        if registers.get("rbp") == 0:
            return EndOfStack()  # where kernel threads and idle tasks begin; arch/x86/kernel/head_64.S
        link = follow_link(registers, self._memory.u64)
        if link is None:
            return Broken(f"the chain of frame pointers is broken at pc {hex16(state.pc)}")
        if isinstance(link, Encoded):
            return state_of(self._read_context(link.pt_regs, PT_REGS), True)
        return state_of(link.registers | self._kept(registers, site.prologue), False)

    def _site(self, pc: int) -> _Site:
        if pc not in self._sites:
            self._sites[pc] = self._look_at(pc)
        return self._sites[pc]

    def _look_at(self, pc: int) -> _Site:
        if self._code.is_assembly(pc):
            return _Site(True)
        bounds = self._code.function_bounds(pc)
        if bounds is None:
            return _Site(False)
        start, end = bounds
        code, _ = self._memory.read_prefix(start, max(end, pc + 1) - start)
        prologue = decode(code, pc - start)
        return _Site(False, prologue, words_to_return(code, pc - start, prologue))

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
