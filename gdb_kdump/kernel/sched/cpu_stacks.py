"""The stacks that a CPU may be on: its task's, and those that it has for interrupts and exceptions."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.layout.sched import thread_size
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address

_WORD = 8


class CpuStacks:
    """Finds the stacks of one session's CPUs; ranges are (first address, address after the last)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of_task(self, task: int) -> tuple[int, int]:
        """The stack of a `struct task_struct *`; raises Unreadable, MissingDebugInfo."""
        low = self._session.pointer(task, "task_struct.stack")
        return low, low + thread_size(self._session.layout, self._session.debuginfo.find_address)

    def exception_stacks(self, cpu: int) -> Iterator[tuple[int, int]]:
        """Where the stacks that exceptions have for themselves lie, as far as the types tell."""
        for symbol, type_name in self._session.arch.exception_stacks:
            low = self._per_cpu_pointer(symbol, "", cpu)
            stacks = self._session.debuginfo.find_type(type_name)
            if low is not None and stacks is not None:
                yield low, low + stacks.sizeof

    def irq_stacks(self, cpu: int) -> Iterator[tuple[int, int]]:
        """The stack for interrupts, as far as the types tell: the kernel points to its end, or to its last word."""
        stack = self._session.debuginfo.find_type(self._session.arch.irq_stack)
        if stack is None:
            return
        for symbol, path in self._session.arch.irq_stack_pointers:
            top = self._per_cpu_pointer(symbol, path, cpu)
            if top is not None:
                end = (top + _WORD) & -2 * _WORD
                yield end - stack.sizeof, end
                return

    def contradicts(self, cpu: int, task: int, sp: int) -> bool:
        """Whether a stack pointer of the kernel is on none of the stacks of a CPU and its task.

        False where the types do not tell all of these stacks, and for what overflows into the page below a stack.
        """
        if not is_kernel_address(sp):
            return False
        own = [*self.irq_stacks(cpu)], [*self.exception_stacks(cpu)]
        if not all(own):
            return False
        try:
            low, high = self.of_task(task)
        except (Unreadable, MissingDebugInfo):
            return False
        known = [(low - self._session.arch.page_size, high), *own[0], *own[1]]
        return not any(start <= sp <= end for start, end in known) and not self._in_entry_area(cpu, sp)

    def _in_entry_area(self, cpu: int, sp: int) -> bool:
        """Whether a stack pointer is where entry code begins, before it changes to the task's stack."""
        for name, member in self._session.arch.entry_areas:
            area = self._session.debuginfo.find_type(name)
            if area is None:
                continue
            offset = self._session.layout.offset(f"{name.split()[-1]}.{member}")
            for low, _ in self.exception_stacks(cpu):
                if 0 <= sp - (low - offset) <= area.sizeof:
                    return True
        return False

    def _per_cpu_pointer(self, symbol: str, path: str, cpu: int) -> int | None:
        session, percpu = self._session, self._session.once(PerCpu)
        if percpu.find_symbol(symbol) is None:
            return None
        try:
            offset = session.layout.offset(f"{symbol}.{path}") if path else 0
            return session.memory.ptr(percpu.symbol(symbol, cpu) + offset) or None
        except (Unreadable, MissingDebugInfo):
            return None
