"""Locks that tasks wait for, who holds them, and how that hangs together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class Held(Enum):
    """What a lock says of who holds it."""

    BY_OWNER = "owner"
    """One task has it, and the lock names it."""
    BY_READERS = "readers"
    """It is shared; the lock names the last one that came, who may have left since."""
    UNKNOWN = "unknown"
    """It names nobody: it is of a kind that keeps no owner, or on its way from one to the next."""


@dataclass(frozen=True)
class Waiter:
    """A task (`struct task_struct *`) in a lock's list, and its place there (`struct mutex_waiter *` and such)."""

    task: int
    addr: int


@dataclass(frozen=True)
class Lock:
    """A lock that at least one task waits for: `kind` is mutex, rwsem, semaphore, spinlock or rt_mutex.

    `name` is its symbol, "" where it has none.  `owner` is a `struct task_struct *`, or 0; `held` says what it
    has of it.
    """

    addr: int
    kind: str
    name: str
    owner: int
    held: Held
    waiters: tuple[Waiter, ...]


class WaitGraph:
    """Which task waits for which lock, and through its owner for whom."""

    def __init__(self, locks: Sequence[Lock]) -> None:
        self.locks = tuple(locks)
        self._of_task = {waiter.task: lock for lock in locks for waiter in lock.waiters}

    def find_lock(self, task: int) -> Lock | None:
        """The lock that a task waits for, or None."""
        return self._of_task.get(task)

    def chain(self, task: int) -> Iterator[tuple[int, Lock]]:
        """(task, the lock that it waits for), from a task on over the owners, until one waits for no lock.

        In a cycle each task comes once.  Readers end a chain: which of them is waited for nobody knows.
        """
        met: set[int] = set()
        lock = self._of_task.get(task)
        while lock is not None and task not in met:
            met.add(task)
            yield task, lock
            task = lock.owner if lock.held is Held.BY_OWNER else 0
            lock = self._of_task.get(task)

    def cycles(self) -> list[list[tuple[int, Lock]]]:
        """Each circle of tasks that wait for each other: (task, the lock that it waits for), once."""
        cycles: list[list[tuple[int, Lock]]] = []
        done: set[int] = set()
        for start in self._of_task:
            steps = list(self.chain(start))
            order = [task for task, _ in steps]
            last = steps[-1][1]
            if last.held is Held.BY_OWNER and last.owner in order and last.owner not in done:
                cycles.append(steps[order.index(last.owner) :])
            done.update(order)
        return cycles
