"""What this kernel's types say of locks that tasks sleep for: one question each."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.members import find_path


@dataclass(frozen=True)
class WaitList:
    """A kind of lock whose waiters queue in a list: byte offsets of list and task in a waiter, and of the list's head
    and the owner in the lock.  The owner is a word with flags in its lowest bits; None where the lock keeps none.
    """

    kind: str
    node: int
    task: int
    head: int
    owner: int | None


# The struct of a waiter, and of what it waits for.
_KINDS = {
    "mutex": ("mutex_waiter", "mutex"),
    "rwsem": ("rwsem_waiter", "rw_semaphore"),
    "semaphore": ("semaphore_waiter", "semaphore"),
}


def wait_lists(layout: Layout) -> tuple[list[WaitList], list[str]]:
    """The kinds of locks whose waiters queue in a list, and a sentence for each kind that these types do not tell.

    With PREEMPT_RT mutexes and rwsems have no list: they are made of an rt_mutex; a semaphore has one everywhere.
    """
    lists, lacking = [], []
    for kind, (waiter, lock) in _KINDS.items():
        if _is_rt_mutex(layout, lock):
            continue
        try:
            owner = layout.find_member(f"{lock}.owner")
            node, task = layout.offset(f"{waiter}.list"), layout.offset(f"{waiter}.task")
            head = layout.offset(f"{lock}.wait_list")
            lists.append(WaitList(kind, node, task, head, None if owner is None else owner.offset))
        except MissingDebugInfo as error:
            lacking.append(f"who waits for {kind}s: {error}")
    return lists, lacking


def _is_rt_mutex(layout: Layout, lock: str) -> bool:
    """Whether a lock (a struct's tag) is one of PREEMPT_RT, made of an rt_mutex.

    Since v5.15 that of an rwsem stands in its struct rwbase_rt, beside the number of readers.
    """
    struct = layout.find_struct(lock)
    return struct is not None and any(find_path(struct, path) for path in ("rtmutex", "rwbase.rtmutex", "lock.owner"))
