"""Whose stack an address is on, and in which frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.sched.cpu_stacks import CpuStacks
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.kernel.stack.unwind import Frame, Stacks
from gdb_kdump.layout.sched import thread_size
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Stack:
    """A stack from `low` up to `high`: a task's own, else `name` says which of a CPU's.

    `task` is the one that was on it, None where nothing was.
    """

    low: int
    high: int
    task: Task | None
    name: str = ""


class StackOwners:
    """Knows the stacks of one session; `gaps` is what could not be found of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.gaps = Gaps()
        self.stacks = sorted(self._all(), key=lambda stack: stack.low)
        """All of them, by their addresses."""
        self._starts = [stack.low for stack in self.stacks]
        self._frames: dict[int, tuple[Frame, ...]] = {}

    def _all(self) -> Iterator[Stack]:
        try:
            size = thread_size(self._session.layout, self._session.debuginfo.find_address)
            for task in self._session.once(Tasks).all(self.gaps):
                if task.stack:
                    yield Stack(task.stack, task.stack + size, task)
        except (MissingDebugInfo, Unreadable) as error:
            self.gaps.note(f"the tasks' stacks: {error}")
        yield from self._of_cpus()

    def _of_cpus(self) -> Iterator[Stack]:
        stacks, tasks = self._session.once(CpuStacks), self._session.once(Tasks)
        try:
            running = self._session.once(Running).tasks()
            for cpu in self._session.once(PerCpu).possible_cpus():
                task = tasks.find_by_address(running[cpu]) if cpu in running else None
                for low, high in stacks.irq_stacks(cpu):
                    yield Stack(low, high, task, f"IRQ stack of CPU {cpu}")
                for low, high in stacks.exception_stacks(cpu):
                    yield Stack(low, high, task, f"exception stacks of CPU {cpu}")
        except (MissingDebugInfo, Unreadable) as error:
            self.gaps.note(f"the CPUs' stacks: {error}")

    def find(self, addr: int) -> Stack | None:
        """The stack that an address is on, or None."""
        number = bisect_right(self._starts, addr) - 1
        return self.stacks[number] if number >= 0 and addr < self.stacks[number].high else None

    def frame(self, stack: Stack, addr: int) -> Frame | None:
        """The frame of the task on a stack that an address of it lies in, None below the first and where none is.

        A frame goes from its stack pointer up to its caller's; the last one to the end of the stack.
        """
        if stack.task is None:
            return None
        # Of those that share a stack pointer the last one is the function, the others are inlined in it.
        by_sp = {frame.sp: frame for frame in self._frames_of(stack.task) if stack.low <= frame.sp < stack.high}
        below = [sp for sp in by_sp if sp <= addr]
        return by_sp[max(below)] if below else None

    def _frames_of(self, task: Task) -> tuple[Frame, ...]:
        if task.addr not in self._frames:
            try:
                self._frames[task.addr] = self._session.once(Stacks).trace(task).frames
            except (Unreadable, MissingDebugInfo, Corrupt):
                self._frames[task.addr] = ()
        return self._frames[task.addr]
