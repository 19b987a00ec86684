"""Entry code without ORC: what it saved of the interrupted context, found by what such a thing must look like.

Assembly has no DWARF and does not keep the chain of frame pointers.  But what it saves ends in the five words that the
CPU pushes or iretq pops (rip, cs, eflags, rsp, ss), a few words above the stack pointer; and where it has changed to
another stack, the new one begins with a pointer back to the old one.
"""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.arch.readers import Kernel
from gdb_kdump.arch.state import State
from gdb_kdump.arch.x86_64.prologue import ends_in_call
from gdb_kdump.arch.x86_64.registers import CALLEE_SAVED, PT_REGS
from gdb_kdump.arch.x86_64.states import is_user_selector, state_of
from gdb_kdump.text import LOWEST_KERNEL_ADDRESS, is_kernel_address

_USER_LIMIT = 1 << 56  # user addresses with 5-level paging
_FLAGS = (1 << 22) - 1  # of eflags; bit 1 is always set
_ALWAYS = 1 << 1
_USER_MODE = 3
# arch/x86/include/asm/segment.h: __KERNEL_CS, __USER_CS, __USER32_CS; FLAT_KERNEL_CS and FLAT_USER_CS64 of Xen's.
_KERNEL_CODE, _USER_CODE = (0x10, 0xE030), (0x33, 0x23, 0xE033)
_PADDING = 16  # what stubs push below the struct pt_regs, and the CPU's alignment above it
# arch/x86/entry/entry_64.S today, arch/x86/kernel/entry_64.S and arch/x86/ia32/ia32entry.S before v4.3.
_SYSCALL_NAMES = (
    "SYSCALL", "SYSENTER", "INT80", "int80", "system_call", "sys_call", "sysret", "sysenter", "cstar", "tracesys",
    "ptregs", "stub_",
)  # fmt: skip


def entry_kind(function: str | None) -> str:
    """The kind of an entry frame by the name of its code; arch/x86/include/asm/idtentry.h: DECLARE_IDTENTRY*."""
    name = function or ""
    if "nmi" in name:
        return "nmi"
    if any(word in name for word in _SYSCALL_NAMES):
        return "syscall"
    if "interrupt" in name or "sysvec" in name or "irq" in name or "intr" in name:
        return "irq"
    return "exception"


class EntryFrames:
    """Finds the interrupted contexts on one kernel's stacks."""

    def __init__(self, kernel: Kernel) -> None:
        self._memory = kernel.memory
        self._types = kernel.types
        self._read_context = kernel.read_context
        self._is_text = kernel.code.is_text

    def interrupted(self, registers: dict[str, int]) -> State | None:
        """What entry code with these registers has interrupted, as far as it saved that; None where nothing is found.

        arch/x86/kernel/entry_64.S before v4.9: error_entry, save_args, SAVE_ARGS.  Raises Unreadable.
        """
        sp = registers["rsp"]
        saved = self._saved_above(sp)
        if saved is None:
            link = self._memory.u64(sp)
            # The old stack's address stands where the new one begins.
            saved = self._saved_above(link) if self._is_elsewhere(link, sp) else None
        return None if saved is None else state_of(saved, True)

    def between(self, low: int, high: int) -> Iterator[tuple[int, State]]:
        """What may be a whole struct pt_regs between two addresses: where it begins, and the state that it has.

        An NMI's five words stand above it twice more: arch/x86/entry/entry_64.S: asm_exc_nmi.  Raises Unreadable.
        """
        start, size = self._types.offset("pt_regs.ip"), self._types.size("pt_regs")
        data, _ = self._memory.read_prefix(low, high - low)
        words = memoryview(data[: len(data) & ~7]).cast("Q")
        last, end = [0], 0
        for index in range(start // 8, len(words) - 4):
            if words[index + 1] not in _KERNEL_CODE and words[index + 1] not in _USER_CODE:
                continue
            at, pushed = low + 8 * index, list(words[index : index + 5])
            if self._may_be_pushed(at, *pushed) and not (pushed == last and at < end):
                last, end = pushed, at + size
                yield at - start, state_of(self._read_context(at - start, PT_REGS), True)

    def _may_be_pushed(self, at: int, ip: int, cs: int, flags: int, sp: int, ss: int) -> bool:
        """The same as _is_pushed_by_cpu, and of what has jumped to where no code is, with the stack below its own."""
        if self._is_pushed_by_cpu(at, ip, cs, flags, sp, ss):
            return True
        if cs not in _KERNEL_CODE or is_user_selector(ss) or ss >> 16 or flags & ~_FLAGS or not flags & _ALWAYS:
            return False
        return not sp % 8 and 0 <= sp - (at + 40) < _PADDING

    def framed(self, registers: dict[str, int]) -> State | None:
        """The caller of entry code that has made a frame, as call_softirq does; None where it has not.

        It then changes to the IRQ stack and pushes the address of its frame there.
        """
        sp, base = registers["rsp"], registers.get("rbp")
        if base is None or base % 8 or not is_kernel_address(base) or self._memory.u64(sp) != base:
            return None
        caller = self._memory.u64(base + 8)
        if not self._is_text(caller - 1) or not ends_in_call(self._memory.read_prefix(caller - 7, 7)[0]):
            return None
        return state_of({"rip": caller, "rsp": base + 16, "rbp": self._memory.u64(base)}, False)

    def _is_elsewhere(self, link: int, sp: int) -> bool:
        return is_kernel_address(link) and not link % 8 and not sp <= link < sp + self._types.size("pt_regs")

    def _saved_above(self, low: int) -> dict[str, int] | None:
        start, size = self._types.offset("pt_regs.ip"), self._types.size("pt_regs")
        data, _ = self._memory.read_prefix(low, size + _PADDING)
        words = memoryview(data[: len(data) & ~7]).cast("Q")
        for index in range(len(words) - 4):
            at = low + 8 * index
            if self._is_pushed_by_cpu(at, *words[index : index + 5]):
                return self._saved_from(at - start, low)
        return None

    def _saved_from(self, addr: int, low: int) -> dict[str, int]:
        """The registers of a partly saved pt_regs (its address): only those at or above `low`; raises Unreadable.

        Before v4.9 system calls and interrupts save what a C function may change, from r11 on; interrupts put rbp in
        front of it (SAVE_ARGS_IRQ, save_args).  Of a system call the user's rsp and eflags are not there.
        """
        saved = self._read_context(addr, PT_REGS)
        if addr >= low:
            return saved
        base = self._memory.u64(low)
        is_interrupt = low - addr <= self._types.offset("pt_regs.bx")
        for name in (*CALLEE_SAVED, *(() if is_interrupt else ("rsp", "eflags"))):
            saved.pop(name, None)
        return {**saved, "rbp": base} if is_interrupt else saved

    def _is_pushed_by_cpu(self, at: int, ip: int, cs: int, flags: int, sp: int, ss: int) -> bool:
        """Whether five words at `at` are rip, cs, eflags, rsp, ss of an interrupted context."""
        if flags & ~_FLAGS or not flags & _ALWAYS or cs >> 16 or ss >> 16 or not cs:
            return False
        if cs & _USER_MODE == _USER_MODE:
            return ip < _USER_LIMIT and sp < _USER_LIMIT and ss & _USER_MODE == _USER_MODE
        end = at + 40
        # The CPU aligns the stack to 16 bytes before it pushes; with a stack of the vector's own sp is elsewhere.
        follows = end <= sp < end + _PADDING
        elsewhere = sp >= LOWEST_KERNEL_ADDRESS and abs(sp - at) > self._types.size("pt_regs")
        return (
            not is_user_selector(cs)
            and not sp % 8
            and self._is_text(ip)
            and (follows or elsewhere)
            and not is_user_selector(ss)
        )
