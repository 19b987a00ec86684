"""Whether the kernel may have been stopped in the middle of changing something that a lock guards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import task_on
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.kernel.stack.unwind import Frame, Stacks, Trace
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_INTERRUPTS = ("irq", "nmi")


class Interruption:
    """Where the CPUs and the preempted tasks of one session stood."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._possible: bool | None = None

    def possible(self) -> bool:
        """Whether anything was interrupted in the kernel, between any two stores; True where that cannot be told.

        The CPUs that did not panic were, unless they idled or ran a program; arch/x86/kernel/reboot.c:
        crash_nmi_callback.  The one that did came to the panic by itself: it was interrupted only where there is an
        interrupt among its frames.  So were tasks that have been preempted since.
        """
        if self._possible is None:
            try:
                self._possible = any(map(_was_interrupted, self._traces_of_cpus())) or self._is_preempted()
            except (MissingDebugInfo, Unreadable, Corrupt):
                self._possible = True
        return self._possible

    def _traces_of_cpus(self) -> Iterator[tuple[Trace, int | None]]:
        """What each CPU did, and the number of the frame that was stopped there, None where it stopped by itself."""
        session, panic = self._session, self._session.once(Panic)
        crashed = panic.task().addr if panic.happened() else None
        for cpu, task in session.once(Running).tasks().items():
            trace = session.once(Stacks).trace(task_on(session, cpu))
            yield trace, None if task == crashed else 0

    def _is_preempted(self) -> bool:
        """kernel/sched/core.c: preempt_schedule_irq."""
        stacks = self._session.once(Stacks)
        waiting = (task for task in self._session.once(Tasks).all(Gaps()) if task.state == "R" and not task.running)
        return any(_was_interrupted((stacks.trace(task), None)) for task in waiting)


def _was_interrupted(stopped: tuple[Trace, int | None]) -> bool:
    trace, stopped_in = stopped
    frames = trace.frames
    if not frames:
        return stopped_in is not None and trace.ended != "user"
    points = [number + 1 for number, frame in enumerate(frames) if frame.kind in _INTERRUPTS]
    if stopped_in is not None:
        points.append(stopped_in)
    return any(point < len(frames) and not _idles(trace, frames[point:]) for point in points)


def _idles(trace: Trace, frames: Sequence[Frame]) -> bool:
    return trace.task.pid == 0 and all(frame.kind == "normal" for frame in frames)
