"""klock: who waits for which lock, and who has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kps import display_name, task_json
from gdb_kdump.commands.show.tables import table
from gdb_kdump.commands.show.times import elapsed
from gdb_kdump.errors import MissingDebugInfo, UsageError
from gdb_kdump.kernel.sched.last_ran import LastRan
from gdb_kdump.kernel.sched.locks import Locks
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.kernel.stack.sleeping import Sleeping
from gdb_kdump.records.locks import Held, Lock, WaitGraph
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

_RTNL = "rtnl_mutex"


@dataclass(frozen=True)
class Sleeper:
    """A task, the function that it sleeps in, and since when it has not run (ns); None where that is not known."""

    task: Task
    function: str | None
    since: int | None


@dataclass(frozen=True)
class Waits:
    """Locks, rtnl_mutex first, then those that most wait for; `others` sleep in state D for something else."""

    graph: WaitGraph
    sleepers: dict[int, Sleeper]
    others: tuple[Sleeper, ...]


class Klock(Command[Waits]):
    name = "klock"
    summary = """Show which tasks wait for which lock, who holds it, and who waits for each other.
For mutexes, rwsems and semaphores, with PREEMPT_RT for spinlocks, too, whatever the tasks' state.  Each waiter stands
on its task's stack and in the lock's list.  Of an rwsem's readers the lock names only the last one that came.
What sleeps in state D (not to be disturbed) and waits for no such lock is listed below: for I/O, an event."""
    gap_words = "there may be more"

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Waits:
        if arguments.operands:
            raise UsageError("klock takes no operands; it shows all locks that somebody waits for")
        locks = session.once(Locks).all(gaps)
        graph = WaitGraph(sorted(locks, key=lambda lock: (not lock.name.startswith(_RTNL), -len(lock.waiters))))
        reader = _Reader(session, gaps)
        concerned = {waiter.task for lock in locks for waiter in lock.waiters} | {lock.owner for lock in locks}
        tasks = session.once(Tasks).all(gaps)
        sleepers = {task.addr: reader.read(task) for task in tasks if task.addr in concerned}
        others = [reader.read(task) for task in tasks if task.state == "D" and graph.find_lock(task.addr) is None]
        return Waits(graph, sleepers, tuple(others))

    def text(self, result: Waits) -> Iterator[str]:
        for cycle in result.graph.cycles():
            yield from _cycle_text(result, cycle)
        for lock in walks.shown(result.graph.locks):
            yield from _lock_text(result, lock)
        if result.others:
            yield "in state D, for no lock that is known:"
            yield from _rows(result.others)
        if not result.graph.locks and not result.others:
            yield "no task was found to wait for a lock, and none is in state D"

    def json(self, result: Waits) -> Any:
        return {
            "locks": [_lock_json(result, lock) for lock in walks.shown(result.graph.locks)],
            "deadlocks": [
                [{**_task_json(result, task), "waits_for": _brief(lock)} for task, lock in cycle]
                for cycle in result.graph.cycles()
            ],
            "others": [_sleeper_json(other) for other in walks.shown(result.others)],
        }


class _Reader:
    """What is to be said of each task."""

    def __init__(self, session: Session, gaps: Gaps) -> None:
        self._sleeping = session.once(Sleeping)
        self._last_ran: LastRan | None = None
        try:
            self._last_ran = session.once(LastRan)
        except MissingDebugInfo as error:
            gaps.note(str(error))

    def read(self, task: Task) -> Sleeper:
        since = self._last_ran.nanoseconds(task) if self._last_ran is not None else None
        return Sleeper(task, None if task.running else self._sleeping.find_function(task), since)


def _lock_text(result: Waits, lock: Lock) -> Iterator[str]:
    count = len(lock.waiters)
    yield f"{_title(lock)}: {_holder(result, lock)}, {count} {'waits' if count == 1 else 'wait'}"
    chain = list(result.graph.chain(lock.owner)) if lock.held is Held.BY_OWNER else []
    for task, following in chain if lock not in (one for _, one in chain) else ():  # a deadlock has been told
        yield f"    {_who(result, task)} waits for {_title(following)}, {_holder(result, following)}"
    yield from _rows([result.sleepers[waiter.task] for waiter in lock.waiters])
    yield ""


def _cycle_text(result: Waits, cycle: list[tuple[int, Lock]]) -> Iterator[str]:
    yield f"DEADLOCK of {len(cycle)} task{'s' if len(cycle) > 1 else ''}:"
    for task, lock in cycle:
        yield f"    {_who(result, task)} waits for {_title(lock)}, {_holder(result, lock)}"
    yield ""


def _rows(sleepers: Sequence[Sleeper]) -> Iterator[str]:
    cells = (
        (one.task.pid, one.task.state, hex16(one.task.addr), elapsed(one.since), display_name(one.task), one.function)
        for one in sleepers
    )
    headers = ("PID", "ST", "TASK", "LAST RAN", "COMM", "IN")
    yield from (f"  {line}" for line in table(headers, cells, right=("PID", "LAST RAN")))


def _title(lock: Lock) -> str:
    return f"{lock.name} ({lock.kind} {hex16(lock.addr)})" if lock.name else f"{lock.kind} {hex16(lock.addr)}"


def _holder(result: Waits, lock: Lock) -> str:
    if lock.held is Held.UNKNOWN:
        return "whose owner it does not say"
    if lock.held is Held.BY_READERS:
        last = f" (the last that came: {_who(result, lock.owner)})" if lock.owner else ""
        return f"held by readers{last}"
    return f"held by {_who(result, lock.owner)}"


def _who(result: Waits, task: int) -> str:
    sleeper = result.sleepers[task]
    where = f" in {sleeper.function}" if sleeper.function else ""
    state = "running" if sleeper.task.running else f"{sleeper.task.state}{where}"
    return f"PID {sleeper.task.pid} {display_name(sleeper.task)} ({state})"


def _brief(lock: Lock) -> dict[str, Any]:
    return {"lock": hex16(lock.addr), "kind": lock.kind, "name": lock.name or None}


def _task_json(result: Waits, task: int) -> dict[str, Any]:
    return _sleeper_json(result.sleepers[task])


def _sleeper_json(sleeper: Sleeper) -> dict[str, Any]:
    return {**task_json(sleeper.task), "function": sleeper.function, "last_ran_ns": sleeper.since}


def _lock_json(result: Waits, lock: Lock) -> dict[str, Any]:
    chain = result.graph.chain(lock.owner) if lock.held is Held.BY_OWNER else ()
    return {
        **_brief(lock),
        "held": lock.held.value,
        "owner": _task_json(result, lock.owner) if lock.owner else None,
        "waiters": [
            {**_task_json(result, waiter.task), "waiter": hex16(waiter.addr)} for waiter in walks.shown(lock.waiters)
        ],
        "chain": [{**_task_json(result, task), "waits_for": _brief(following)} for task, following in chain],
    }
