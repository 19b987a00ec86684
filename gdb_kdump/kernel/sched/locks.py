"""The locks that sleeping tasks wait for, found from the tasks' own stacks; kernel/locking/.

A task that sleeps for a mutex, an rwsem or a semaphore has queued a waiter that stands on its stack. A waiter is taken
for one only where it names that task, is linked both ways into a list, and all other nodes of that are waiters, too,
but for one: the head in the lock. So what is found is true; a stack's dead words are in no list.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.checked_lists import list_elements
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.kernel.stack.sleeping import Sleeping
from gdb_kdump.layout.locks import WaitList, wait_lists
from gdb_kdump.layout.sched import thread_size
from gdb_kdump.records.elements import Break
from gdb_kdump.records.locks import Held, Lock, Waiter
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address
from gdb_kdump.walks import Gaps, walk

_FLAGS = 7  # kernel/locking/mutex.c: MUTEX_FLAGS; rwsem.c: RWSEM_OWNER_FLAGS_MASK; the lowest bits of a task's address
_READERS = 1  # rwsem.c: RWSEM_READER_OWNED
_RT_FLAGS = 3  # kernel/locking/rtmutex_common.h: RT_MUTEX_HAS_WAITERS and what is reserved beside it
# What the names of the functions that wait for each kind begin with, after underscores.
_BY_FUNCTION = (
    ("mutex_lock", "mutex"),
    ("ww_mutex_lock", "mutex"),
    ("rwsem_down", "rwsem"),
    ("down_read", "rwsem"),
    ("down_write", "rwsem"),
    ("rt_spin_lock", "spinlock"),
    ("down", "semaphore"),
)


class Locks:
    """Finds the locks of one session that somebody waits for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._sleeping = session.once(Sleeping)
        self._code = session.once(CodeOwners)
        self._kinds, self._lacking = wait_lists(session.layout)
        self._places = {(kind.node, kind.task) for kind in self._kinds}
        self._stack_size = 0
        self._tasks: dict[int, Task] = {}
        self._stacks: list[tuple[int, int]] = []

    def all(self, gaps: Gaps) -> list[Lock]:
        """Each lock that at least one task waits for; what is damaged or cannot be told goes to `gaps`."""
        session = self._session
        tasks = session.once(Tasks).all(gaps)
        self._tasks = {task.addr: task for task in tasks}
        self._stacks = sorted((task.stack, task.addr) for task in tasks if task.stack)
        try:
            self._stack_size = thread_size(self._layout, session.debuginfo.find_address)
        except MissingDebugInfo as error:
            gaps.note(f"the stacks of tasks: {error}")
            return []
        gaps.note(*self._lacking, *self._sleeping.lacking)
        locks: dict[int, Lock] = {}
        waiting: set[int] = set()
        with walk("the tasks", gaps, lambda task: task.addr) as steps:
            for task in steps(task for task in tasks if task.stack and not task.running):
                if task.addr in waiting:
                    continue
                lock = self._of_stack(task, gaps) or self._of_rt_mutex(task, gaps)
                if lock is not None:
                    waiting.update(waiter.task for waiter in lock.waiters)
                    known = locks.get(lock.addr)
                    locks[lock.addr] = lock if known is None else _joined(known, lock)
        return list(locks.values())

    def _of_stack(self, task: Task, gaps: Gaps) -> Lock | None:
        """The lock in whose list of waiters one is that stands on a task's stack."""
        top = task.stack + self._stack_size
        if not task.stack <= task.sp < top:
            return None
        data, _ = self._memory.read_prefix(task.sp & -8, top - (task.sp & -8))
        for number, (word,) in enumerate(struct.iter_unpack("<Q", data[: len(data) & -8])):
            if word != task.addr:
                continue
            for node, task_at in self._places:
                waiter = (task.sp & -8) + number * 8 - task_at
                lock = self._of_waiter(task, waiter, node, task_at, gaps)
                if lock is not None:
                    return lock
        return None

    def _of_waiter(self, task: Task, waiter: int, node: int, task_at: int, gaps: Gaps) -> Lock | None:
        if not self._is_linked(waiter + node):
            return None
        kind = self._find_kind(task, waiter)
        if kind is None:
            return None
        heads: list[int] = []
        waiters = [Waiter(task.addr, waiter)]
        for step in list_elements(self._session, waiter + node):
            if isinstance(step, Break):
                gaps.note(f"those who wait for the lock of PID {task.pid}: {step}")
                continue  # what can be reached from the other end follows
            owner = self._task_at(step.addr)
            if owner is not None and self._read(step.addr - node + task_at) == owner:
                waiters.append(Waiter(owner, step.addr - node))
            else:
                heads.append(step.addr)
                first = len(waiters)
        if len(heads) != 1:
            gaps.note(f"those who wait for the lock of PID {task.pid}: their list has {len(heads)} heads")
            return None
        addr = heads[0] - kind.head
        owner, held = self._owner(addr, kind)
        # The list begins after its head, and we did in the middle.
        return Lock(addr, kind.kind, self._name(addr), owner, held, (*waiters[first:], *waiters[:first]))

    def _is_linked(self, node: int) -> bool:
        """Whether both neighbours of a list_head know it, and it is not alone."""
        following, before = self._read(node), self._read(node + 8)
        if following is None or before is None or node in (following, before):
            return False
        if not all(is_kernel_address(addr) and not addr & 7 for addr in (following, before)):
            return False
        return self._read(following + 8) == node and self._read(before) == node

    def _read(self, addr: int) -> int | None:
        try:
            return self._memory.ptr(addr)
        except Unreadable:
            return None

    def _task_at(self, addr: int) -> int | None:
        """The task on whose stack an address lies, or None."""
        number = bisect_right(self._stacks, (addr, 1 << 64)) - 1
        if number < 0 or addr >= self._stacks[number][0] + self._stack_size:
            return None
        return self._stacks[number][1]

    def _find_kind(self, task: Task, waiter: int) -> WaitList | None:
        """The kind of lock that a waiter is for; None where no function of a lock has put it there."""
        name = self._kind_of(self._sleeping.functions_at(task, waiter))
        return next((kind for kind in self._kinds if kind.kind == name), None)

    def _name(self, addr: int) -> str:
        code = self._code.of(addr)
        return f"{code.symbol} [{code.module}]" if code.module else code.symbol

    @staticmethod
    def _kind_of(functions: Iterator[str]) -> str:
        for function in functions:
            for start, kind in _BY_FUNCTION:
                if function.lstrip("_").startswith(start):
                    return kind
        return ""

    def _owner(self, lock: int, kind: WaitList) -> tuple[int, Held]:
        word = self._read(lock + kind.owner) if kind.owner is not None else None
        if word is None:
            return 0, Held.UNKNOWN
        owner = word & ~_FLAGS
        if kind.kind == "rwsem" and word & _READERS:
            return owner if owner in self._tasks else 0, Held.BY_READERS
        return (owner, Held.BY_OWNER) if owner in self._tasks else (0, Held.UNKNOWN)

    def _of_rt_mutex(self, task: Task, gaps: Gaps) -> Lock | None:
        """The rt_mutex that a task waits for: what locks are made of with PREEMPT_RT, else a futex's.

        kernel/locking/rtmutex.c: task_blocks_on_rt_mutex.
        Traps: whether it is that of a mutex or of an rwsem nothing tells: both wait in the same functions.
        """
        if self._layout.find_member("task_struct.pi_blocked_on") is None:  # CONFIG_RT_MUTEXES
            return None
        session = self._session
        try:
            waiter = session.pointer(task.addr, "task_struct.pi_blocked_on")
            if not is_kernel_address(waiter):  # or PI_WAKEUP_INPROGRESS, of old real-time kernels
                return None
            if session.pointer(waiter, "rt_mutex_waiter.task") != task.addr:
                raise Corrupt(waiter, f"what PID {task.pid} waits for names another task")
            base = session.pointer(waiter, "rt_mutex_waiter.lock")
            owner = session.pointer(base, "rt_mutex_base.owner") & ~_RT_FLAGS
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            gaps.note(f"the lock of PID {task.pid}: {error}")
            return None
        kind = self._kind_of(self._sleeping.functions(task))
        held = Held.BY_OWNER if owner in self._tasks else Held.UNKNOWN
        return Lock(
            addr=base,
            kind=kind if kind == "spinlock" else "rt_mutex",
            name=self._name(base),
            owner=owner if held is Held.BY_OWNER else 0,
            held=held,
            waiters=(Waiter(task.addr, waiter),),
        )


def _joined(one: Lock, other: Lock) -> Lock:
    waiters = dict.fromkeys((*one.waiters, *other.waiters))
    return Lock(one.addr, one.kind, one.name, one.owner, one.held, tuple(waiters))
