"""Where a task sleeps: the functions of its stack, those of the scheduler and of locks told from the rest."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.kernel.stack.unwind import Frame, Stacks
from gdb_kdump.session import Session

# What the linker script puts around functions that a task sleeps in, and none of which is why it does.
_SECTIONS = (("__sched_text_start", "__sched_text_end"), ("__lock_text_start", "__lock_text_end"))
# And of PREEMPT_RT's, which stand elsewhere, what the names begin with, after underscores.
_RT_MUTEX = "rt_mutex_"


class Sleeping:
    """Looks at the stacks of one session's sleeping tasks."""

    def __init__(self, session: Session) -> None:
        self._stacks = session.once(Stacks)
        find = session.debuginfo.find_address
        ranges = ((find(start), find(end)) for start, end in _SECTIONS)
        self._ranges = [(low, high) for low, high in ranges if low is not None and high is not None]
        self.lacking = [] if self._ranges else [f"which functions are those of locks: no symbol {_SECTIONS[0][0]}"]
        self._frames: dict[int, tuple[Frame, ...]] = {}

    def find_function(self, task: Task) -> str | None:
        """The innermost function on a task's stack that is not the scheduler's or a lock's own, or None.

        arch/x86/kernel/process.c: __get_wchan; kernel/sched/core.c: in_sched_functions.
        """
        frames = (frame for frame in self._trace(task) if not frame.source.inlined)
        return next((frame.source.function for frame in frames if not self._is_lock(frame)), None)

    def functions(self, task: Task) -> Iterator[str]:
        """The functions of a task's stack from the innermost on up to that one, inlined ones, too."""
        for frame in self._trace(task):
            if not self._is_lock(frame):
                return
            yield frame.source.function or ""

    def functions_at(self, task: Task, addr: int) -> Iterator[str]:
        """The same from the one on whose frame has an address of the stack."""
        innermost = max((frame.sp for frame in self._trace(task) if frame.sp <= addr), default=0)
        for frame in self._trace(task):
            if frame.sp >= innermost:
                if not self._is_lock(frame):
                    return
                yield frame.source.function or ""

    def _is_lock(self, frame: Frame) -> bool:
        if (frame.source.function or "").lstrip("_").startswith(_RT_MUTEX):
            return True
        return any(low <= frame.pc < high for low, high in self._ranges)

    def _trace(self, task: Task) -> tuple[Frame, ...]:
        if task.addr not in self._frames:
            self._frames[task.addr] = self._stacks.trace(task).frames
        return self._frames[task.addr]
