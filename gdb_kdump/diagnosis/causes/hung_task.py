"""hung-task: a task waits, uninterruptibly, for longer than it may; kernel/hung_task.c.

khungtaskd is innocent, and who waits may be, too: whoever holds the lock that it waits for is asked first.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import Culprit, find_culprit
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.sched.locks import Locks
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.kernel.stack.unwind import Frame, Stacks
from gdb_kdump.records.locks import Held, Lock
from gdb_kdump.text import escape, hex16
from gdb_kdump.walks import Gaps

_SAYS = re.compile(r"INFO: task (.*):(\d+) (?:<\S+> )?blocked.* for more than (\d+) seconds")


def hung_task(case: Case) -> Cause | None:
    """The kernel names the task; the locks that tasks wait for say who holds it up."""
    says = _SAYS.search(case.trip.text)
    if says is None:
        return None
    pid, seconds = int(says[2]), says[3]
    task = case.session.once(Tasks).find_by_pid(pid)
    who = f"task {escape(says[1])} (PID {pid})"
    told = Evidence(says[0], "klog")
    if task is None:
        return Cause("hung-task", f"{who} was blocked for more than {seconds} seconds", CERTAIN, (told,))
    evidence = [Evidence(f"where PID {pid} waits", f"kbt {pid}"), told]
    lock = _lock_of(case, task)
    if lock is None:
        culprit = _in_trace(case, task, f"PID {pid} waits in it, or in what it called")
        message = f"{who} was blocked for more than {seconds} seconds; no lock was found that it waits for"
        return Cause("hung-task", message, LIKELY, tuple(evidence), task.addr, "", culprit)
    name = f"{lock.kind} {lock.name or hex16(lock.addr)}"
    evidence.insert(0, Evidence(f"PID {pid} waits for {name}", "klock"))
    owner = case.session.once(Tasks).find_by_address(lock.owner) if lock.held is Held.BY_OWNER else None
    if owner is None:
        culprit = _in_trace(case, task, f"PID {pid} waits in it, or in what it called")
        message = f"{who} was blocked for more than {seconds} seconds: it waits for {name}"
        return Cause("hung-task", message, LIKELY, tuple(evidence), lock.addr, "", culprit)
    evidence.insert(1, Evidence(f"where its holder, PID {owner.pid}, is", f"kbt {owner.pid}"))
    held_by = f"PID {owner.pid} ({escape(owner.comm)})"
    message = f"{who} was blocked for more than {seconds} seconds: it waits for {name}, which {held_by} holds"
    return Cause("hung-task", message, CERTAIN, tuple(evidence), lock.addr, "owner", _holder(case, owner))


def _holder(case: Case, owner: Task) -> Culprit | None:
    return _in_trace(case, owner, f"PID {owner.pid}, which holds the lock, is in it")


def _in_trace(case: Case, task: Task, why: str) -> Culprit | None:
    """The first module function in the trace of a task that is not the panic's: its frame's number would mislead."""
    culprit = find_culprit(_frames(case, task), why, f"The first module function in the trace of PID {task.pid}")
    return replace(culprit, level=None) if culprit is not None else None


def _lock_of(case: Case, task: Task) -> Lock | None:
    """The lock that a task waits for."""
    try:
        locks = case.session.once(Locks).all(Gaps())
    except (Unreadable, Corrupt, MissingDebugInfo):
        return None
    return next((lock for lock in locks if any(waiter.task == task.addr for waiter in lock.waiters)), None)


def _frames(case: Case, task: Task) -> tuple[Frame, ...]:
    try:
        return case.session.once(Stacks).trace(task).frames
    except (Unreadable, MissingDebugInfo):
        return ()
