"""The frames of a running task whose registers the dump does not have, where they can be told from its CPU's stacks.

What a task has done before lies on its stack, too.  Only a function that never returns says that its frame is not of
the past: that of panic(), or the one in which a CPU stays that panic() has stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdb_kdump.arch.state import State
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.sched.cpu_stacks import CpuStacks
from gdb_kdump.kernel.stack.unwind import Stacks, Trace, proper_end
from gdb_kdump.session import Session

PANIC_LOOPS = ("panic", "vpanic")
"""kernel/panic.c: where the CPU stays that panicked; one of two functions since v6.17."""


class WithoutRegisters:
    """Finds such frames in one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stacks = session.once(Stacks)
        self._of_cpus = session.once(CpuStacks)
        find, size = session.debuginfo.find_address, session.debuginfo.size
        names = (*session.arch.stop_functions, *PANIC_LOOPS)
        self._functions = [(start, size(name), name) for name in names if (start := find(name)) is not None]

    def find(self, trace: Trace) -> Trace:
        """The trace with the frames from a function on that never returns; the same where there is none.

        They are believed only when unwinding from them ends as this task's stack does.
        """
        task = trace.task
        try:
            low, high = self._of_cpus.of_task(task.addr)
            candidates = [*self._candidates(task.cpu, low, high)]
        except (Unreadable, MissingDebugInfo):
            return trace
        for state, name in candidates:
            frames, ended = self._stacks.frames_from(state, proper_end(task))
            if ended in ("user", proper_end(task)) and low <= frames[-1].sp <= high:
                note = f"{trace.ended}; these frames were found on its stack, from {name} on, which never returns"
                return replace(trace, frames=tuple(frames), ended=ended, note=note)
        return trace

    def _candidates(self, cpu: int, low: int, high: int) -> Iterator[tuple[State, str]]:
        """The states that words could mean which point into such a function, innermost stack first."""
        page = self._session.arch.page_size
        for start, end in self._of_cpus.exception_stacks(cpu):
            for first in range(start, end, page):  # guard pages lie between the stacks
                yield from self._between(first, first + page)
        for start, end in self._of_cpus.irq_stacks(cpu):
            yield from self._between(start, end)
        yield from self._between(low, high)

    def _between(self, low: int, high: int) -> Iterator[tuple[State, str]]:
        for state in self._stacks.callers_between(low, high, high):
            for start, size, name in self._functions:
                if 0 < state.pc - start <= size:
                    yield state, name
                    yield from ((framed, name) for framed in self._stacks.framed(state, start, high))
