"""Every stack of the kernel: those of the tasks, and those that the CPUs have for interrupts and exceptions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.sched.cpu_stacks import CpuStacks
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.layout.sched import thread_size
from gdb_kdump.session import Session
from gdb_kdump.text import escape
from gdb_kdump.walks import Gaps


class Stack(NamedTuple):
    """A stack: its first address, the one after its last, and whose it is."""

    start: int
    end: int
    name: str
    has_guards: bool = False
    """Whether pages in it are not mapped: those between several stacks."""


class AllStacks:
    """Finds all stacks of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stacks: list[Stack] | None = None
        self._gaps = Gaps()

    def all(self, gaps: Gaps) -> list[Stack]:
        """All of them, by their addresses."""
        if self._stacks is None:
            self._stacks = sorted(self._find())
            self._starts = [stack.start for stack in self._stacks]
        gaps.note(*self._gaps)
        return self._stacks

    def find(self, addr: int) -> Stack | None:
        """The stack that has an address, or None."""
        stacks = self.all(Gaps())
        index = bisect_right(self._starts, addr) - 1
        return stacks[index] if index >= 0 and addr < stacks[index].end else None

    def _find(self) -> Iterator[Stack]:
        session = self._session
        try:
            size = thread_size(session.layout, session.debuginfo.find_address)
            tasks = session.once(Tasks).all(self._gaps)
        except (MissingDebugInfo, Unreadable) as error:
            self._gaps.note(str(error))
            return
        for task in tasks:
            if task.stack:
                yield Stack(task.stack, task.stack + size, f"stack of PID {task.pid} {escape(task.comm)}")
        try:
            cpus = session.once(PerCpu).possible_cpus()
        except (MissingDebugInfo, Unreadable) as error:
            self._gaps.note(str(error))
            return
        of_cpus = session.once(CpuStacks)
        for cpu in cpus:
            for start, end in of_cpus.irq_stacks(cpu):
                yield Stack(start, end, f"stack of CPU {cpu} for interrupts")
            for start, end in of_cpus.exception_stacks(cpu):
                yield Stack(start, end, f"stacks of CPU {cpu} for exceptions", has_guards=True)
