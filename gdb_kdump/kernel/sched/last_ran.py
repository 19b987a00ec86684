"""How long ago tasks ran; kernel/sched/."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.sched import last_ran
from gdb_kdump.session import Session


class LastRan:
    """Compares the times that tasks were given a CPU with the clocks of the run queues; raises MissingDebugInfo."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.member = last_ran(session.layout)
        self._now = _now(session, session.layout)

    def nanoseconds(self, task: Task) -> int | None:
        """How long before the dump a task was last given a CPU; 0 for one that runs, None where nothing tells.

        Traps: a task that never ran has no time.
        """
        if task.running:
            return 0
        try:
            then = self._session.number(task.addr, f"task_struct.{self.member}")
        except Unreadable:
            return None
        return max(self._now - then, 0) if then else None


def _now(session: Session, layout: Layout) -> int:
    """The latest clock of all run queues: that of an idle CPU stands still; kernel/sched/core.c: update_rq_clock."""
    percpu, offset = session.once(PerCpu), layout.offset("rq.clock")
    clocks = []
    for cpu in percpu.possible_cpus():
        try:
            clocks.append(session.memory.u64(percpu.symbol("runqueues", cpu) + offset))
        except Unreadable:
            continue
    if not clocks:
        raise MissingDebugInfo("a clock of a run queue")
    return max(clocks)
