"""Tasks: all of them, the running ones, and one by PID or address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.on_cpu import idle_task_of
from gdb_kdump.layout.sched import task_cpu, thread_list
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """One struct task_struct: `comm` as the kernel has it up to its NUL, `state` as ps shows it, `cpu` its number.

    `cpu` is NO_CPU for a task of a kernel before v4.9 whose stack, which has the number, is not in the dump; `pid` is
    NO_PID for a running task that is not.
    """

    addr: int
    pid: int
    tgid: int
    comm: bytes
    state: str
    cpu: int
    is_kthread: bool
    running: bool
    sp: int
    stack: int


NO_CPU = NO_PID = -1
UNKNOWN = "?"
_MEMBERS = ("pid", "tgid", "flags", "sp", "stack")
_STATE_MEMBERS = ("state", "exit_state")
# Defaults where the type lacks the member: a user task, its own leader, no saved stack pointer.
_INSTEAD = {"tgid": 0, "flags": 0, "sp": 0}
_PF_KTHREAD = 0x00200000  # include/linux/sched.h, the same bit since v2.6.27
# include/linux/sched.h; none of these bits ever had another meaning
_TASK_UNINTERRUPTIBLE = 0x2
_TASK_IDLE = _TASK_UNINTERRUPTIBLE | 0x400  # TASK_NOLOAD, since v4.2
_TASK_RTLOCK_WAIT = 0x1000  # 5f220be21418 (v5.15) sched/wakeup: Prepare for RT sleeping spin/rwlocks
_TASK_FROZEN = 0x8000  # f5d39b020809 (v6.1) freezer,sched: Rewrite core freezer logic


class Tasks:
    """Reads the tasks of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        layout = session.layout
        self._lacking = Gaps()
        for name in layout.absent("task_struct", _INSTEAD):
            self._lacking.note(str(MissingDebugInfo(f"member task_struct.{name}")))
        cpu, self._cpu_on_stack = self._try(lambda: task_cpu(layout)) or (None, None)
        members = (*_MEMBERS, "cpu") if cpu is not None else _MEMBERS
        self._unpacker = layout.unpacker("task_struct", members, _INSTEAD)
        self._comm = self._try(lambda: layout.member("task_struct.comm"))
        self._state = self._try(lambda: layout.unpacker("task_struct", _STATE_MEMBERS))
        self._states = _StateLetters(session)
        self._all: tuple[Task, ...] | None = None
        self._gaps = Gaps()

    def _try(self, look_up: Callable[[], T]) -> T | None:
        """What a task can do without: None where the types lack it, with a sentence in `_lacking`."""
        try:
            return look_up()
        except MissingDebugInfo as error:
            self._lacking.note(str(error))
            return None

    def read(self, addr: int) -> Task:
        """The task at a `struct task_struct *`, "?" for a comm or state that its type lacks; raises Unreadable."""
        memory = self._session.memory
        pid, tgid, flags, sp, stack, *own_cpu = self._unpacker.unpack_from(*memory.block(addr, self._unpacker.span))
        tgid = tgid or pid
        cpu = own_cpu[0] if own_cpu else self._cpu_of(stack)
        comm, letter = UNKNOWN.encode(), UNKNOWN
        if self._comm is not None:
            comm = memory.cstring(addr + self._comm.offset, self._comm.size)
        if self._state is not None:
            state, exit_state = self._state.unpack_from(*memory.block(addr, self._state.span))
            letter = self._states.letter(state & 0xFFFFFFFF | exit_state)
        running = addr in self._session.once(Running).tasks().values()
        return Task(addr, pid, tgid, comm, letter, cpu, bool(flags & _PF_KTHREAD), running, sp, stack)

    def _cpu_of(self, stack: int) -> int:
        """The CPU in the struct thread_info of a stack."""
        if self._cpu_on_stack is None or not stack:
            return NO_CPU
        try:
            return self._session.number(stack, "thread_info.cpu")
        except Unreadable:
            return NO_CPU

    def all(self, gaps: Gaps) -> tuple[Task, ...]:
        """Every task: each CPU's idle task, then processes, each with its threads, in the order of the task list."""
        tasks = self._listed()
        gaps.note(*self._gaps)
        return tasks

    def _listed(self) -> tuple[Task, ...]:
        if self._all is None:
            self._gaps = Gaps()
            self._gaps.note(*self._lacking)
            tasks: dict[int, Task] = {}
            self._add(tasks, self._idle())
            with walk("the task list", self._gaps) as steps:
                for group in steps(map(self._threads, self._leaders(self._gaps))):
                    self._add(tasks, group)
            self._all = tuple(tasks.values())
        return self._all

    def _add(self, tasks: dict[int, Task], group: Iterator[int]) -> None:
        with walk("a thread group", self._gaps) as steps:
            for addr in steps(group):
                if addr not in tasks:  # a damaged list may lead into another group
                    tasks[addr] = self.read(addr)

    def _leaders(self, gaps: Gaps) -> list[int]:
        """Every thread group's leader; include/linux/sched/signal.h: for_each_process.

        Where the list is broken, what lies after the break is found from its other end.
        """
        layout = self._session.layout
        try:
            offset = layout.offset("task_struct.tasks")
            head = self._session.debuginfo.address("init_task") + offset
        except MissingDebugInfo as error:
            gaps.note(str(error))
            return []
        nodes: dict[int, None] = {}
        after: dict[int, None] = {}
        with gaps.about("the task list, followed forward") as broken, walk("the list", broken) as forward:
            for node in forward(list_for_each(self._session, head)):
                nodes.setdefault(node)
        if forward.ended:
            backward = list_for_each(self._session, head, layout.offset("list_head.prev"))
            unknown = takewhile(lambda node: node not in nodes, backward)
            with gaps.about("the task list, followed backward") as broken, walk("the list", broken) as steps:
                for node in steps(unknown):
                    after.setdefault(node)
        return [node - offset for node in (*nodes, *reversed(after))]

    def _threads(self, leader: int) -> Iterator[int]:
        """The threads of a thread group, its leader first; include/linux/sched/signal.h: for_each_thread."""
        yield leader
        layout = self._session.layout
        in_signal, in_task = thread_list(layout)
        head = leader + in_task.offset
        if in_signal is not None:
            head = self._session.pointer(leader, "task_struct.signal") + in_signal.offset
        for node in list_for_each(self._session, head):
            yield node - in_task.offset

    def _idle(self) -> Iterator[int]:
        """The idle task of each CPU that is online or that panic() has stopped."""
        for cpu in self._session.once(Running).tasks():
            yield idle_task_of(self._session, cpu)

    def find_by_pid(self, pid: int) -> Task | None:
        """The first task with that PID, or None; 0 is the idle task of the first CPU."""
        return next((task for task in self._listed() if task.pid == pid), None)

    def find_by_address(self, addr: int) -> Task | None:
        """The task whose `struct task_struct *` that is, or None where no list has it."""
        return next((task for task in self._listed() if task.addr == addr), None)


class _StateLetters:
    """State letters from the kernel's own table; fs/proc/array.c: task_state_array, include/linux/sched.h:
    __task_state_index.
    """

    def __init__(self, session: Session) -> None:
        memory, address = session.memory, session.debuginfo.find_address("task_state_array")
        self._letters = "RSDTtXZPI"
        if address is None:
            return
        letters = ""
        for index in range(16):
            try:
                text = memory.cstring(memory.ptr(address + 8 * index), 32)
            except Unreadable:
                break
            # Every entry is "S (sleeping)"; what stands after the table is not.
            if len(text) < 4 or text[1:3] != b" (":
                break
            letters += chr(text[0])
        self._letters = letters or self._letters

    def letter(self, state: int) -> str:
        # Without these two, a task that sleeps in a lock of PREEMPT_RT or in the freezer would seem to run.
        if state & (_TASK_RTLOCK_WAIT | _TASK_FROZEN):
            state = _TASK_UNINTERRUPTIBLE
        # The last letter, I, is a combination of two bits, so the table has one entry more than there are bits.
        if "I" in self._letters and state & _TASK_IDLE == _TASK_IDLE:
            return "I"
        reported = state & ((1 << (len(self._letters.rstrip("I")) - 1)) - 1)
        return self._letters[reported.bit_length()]
