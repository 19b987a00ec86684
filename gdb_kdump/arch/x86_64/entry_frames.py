"""Entry code without ORC: what it saved of the interrupted context, found by what such a thing must look like.

Assembly has no DWARF and does not keep the chain of frame pointers.  But what it saves ends in the five words that the
CPU pushes or iretq pops (rip, cs, eflags, rsp, ss), a few words above the stack pointer; and where it has changed to
another stack, the new one begins with a pointer back to the old one.
"""

from __future__ import annotations

from collections.abc import Callable

from gdb_kdump.arch.x86_64.prologue import ends_in_call
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.session import Session
from gdb_kdump.text import LOWEST_KERNEL_ADDRESS, is_kernel_address

_U64 = (1 << 64) - 1
_USER_LIMIT = 1 << 56  # user addresses with 5-level paging
_FLAGS = (1 << 22) - 1  # of eflags; bit 1 is always set
_ALWAYS = 1 << 1
_USER_MODE = 3
_PADDING = 16  # what stubs push below the struct pt_regs, and the CPU's alignment above it


class EntryFrames:
    """Finds the interrupted contexts on one session's stacks; `is_text` tells whether an address is one of code."""

    def __init__(self, session: Session, is_text: Callable[[int], bool]) -> None:
        self._memory = session.memory
        self._layout = session.layout
        self._registers = session.once(Registers)
        self._is_text = is_text

    def interrupted(self, registers: dict[str, int]) -> dict[str, int] | None:
        """The registers that entry code in that state has saved, as far as it saves them; None where none are found.

        arch/x86/kernel/entry_64.S before v4.9: error_entry, save_args, SAVE_ARGS.  Raises Unreadable.
        """
        sp = registers["rsp"]
        found = self._saved_above(sp)
        if found is not None:
            return found
        link = self._memory.u64(sp)
        # The old stack's address stands where the new one begins.
        return self._saved_above(link) if self._is_elsewhere(link, sp) else None

    def framed(self, registers: dict[str, int]) -> dict[str, int] | None:
        """The registers of the caller of entry code that has made a frame, as call_softirq; None where it has not.

        It then changes to the IRQ stack and pushes the address of its frame there.
        """
        sp, base = registers["rsp"], registers.get("rbp")
        if base is None or base % 8 or not is_kernel_address(base) or self._memory.u64(sp) != base:
            return None
        caller = self._memory.u64(base + 8)
        if not self._is_text(caller - 1) or not ends_in_call(self._memory.read_prefix(caller - 7, 7)[0]):
            return None
        return {"rip": caller, "rsp": base + 16, "rbp": self._memory.u64(base)}

    def _is_elsewhere(self, link: int, sp: int) -> bool:
        return is_kernel_address(link) and not link % 8 and not sp <= link < sp + self._layout.size("pt_regs")

    def _saved_above(self, low: int) -> dict[str, int] | None:
        start, size = self._layout.offset("pt_regs.ip"), self._layout.size("pt_regs")
        data, _ = self._memory.read_prefix(low, size + _PADDING)
        words = memoryview(data[: len(data) & ~7]).cast("Q")
        for index in range(len(words) - 4):
            at = low + 8 * index
            if self._is_pushed_by_cpu(at, *words[index : index + 5]):
                return self._registers.saved_from(at - start, low)
        return None

    def _is_pushed_by_cpu(self, at: int, ip: int, cs: int, flags: int, sp: int, ss: int) -> bool:
        """Whether five words at `at` are rip, cs, eflags, rsp, ss of an interrupted context."""
        if flags & ~_FLAGS or not flags & _ALWAYS or cs >> 16 or ss >> 16 or not cs:
            return False
        if cs & _USER_MODE == _USER_MODE:
            return ip < _USER_LIMIT and sp < _USER_LIMIT and ss & _USER_MODE == _USER_MODE
        end = at + 40
        # The CPU aligns the stack to 16 bytes before it pushes; with a stack of the vector's own sp is elsewhere.
        follows = end <= sp < end + _PADDING
        elsewhere = sp >= LOWEST_KERNEL_ADDRESS and abs(sp - at) > self._layout.size("pt_regs")
        return (
            not cs & _USER_MODE and not sp % 8 and self._is_text(ip) and (follows or elsewhere) and not ss & _USER_MODE
        )
