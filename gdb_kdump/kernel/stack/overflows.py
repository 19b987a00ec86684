"""Whether a task's stack has grown over its end.

The kernel writes STACK_END_MAGIC where a stack ends, and looks at it in schedule() and in an oops; include/linux/
sched/task_stack.h: task_stack_end_corrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.layout.sched import end_of_stack
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

STACK_END_MAGIC = 0x57AC6E9D  # include/uapi/linux/magic.h; an unsigned long
_MARKS_FIRST_TASK = "set_task_stack_end_magic"  # a70857e46dd1 (v3.18): until then init_task's stack had none


@dataclass(frozen=True)
class Overflow:
    """A task whose stack has overflowed: the `addr` of its last word, its `value`, and what says so, a sentence."""

    task: Task
    addr: int
    value: int
    message: str


@dataclass(frozen=True)
class Overflows:
    """Of so many tasks whose stacks were looked at (`checked`) those that have overflowed; `unread` are sentences."""

    checked: int
    tasks: tuple[Overflow, ...]
    unread: tuple[str, ...]


class StackEnds:
    """Looks at the ends of the stacks of one session's tasks."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._end = end_of_stack(session.layout)

    def check(self, tasks: Sequence[Task]) -> Overflows:
        """Those of some tasks whose stacks have overflowed."""
        if not self._are_marked():
            return Overflows(0, (), ("this kernel marks the end of no stack",))
        first = self._session.debuginfo.find_address("init_task")
        marks_first = self._session.debuginfo.find_address(_MARKS_FIRST_TASK) is not None
        checked, overflows, unread = 0, list[Overflow](), list[str]()
        for task in tasks:
            if not task.stack or (task.addr == first and not marks_first):
                continue
            try:
                overflow = self._of(task)
            except Unreadable as error:
                unread.append(f"PID {task.pid}: {error}")
                continue
            checked += 1
            overflows += [overflow] if overflow is not None else []
        return Overflows(checked, tuple(overflows), tuple(unread))

    def _of(self, task: Task) -> Overflow | None:
        addr = task.stack + self._end
        value = self._session.memory.u64(addr)
        said = []
        if value != STACK_END_MAGIC:
            said.append(f"the last word of its stack, at {hex16(addr)}, is {value:#x}, not STACK_END_MAGIC")
        sp = self._stack_pointer(task)
        if 0 < addr - sp <= self._session.arch.page_size:
            said.append(f"its stack pointer {hex16(sp)} is {addr - sp:#x} bytes below the end of its stack")
        return Overflow(task, addr, value, "; ".join(said)) if said else None

    def _stack_pointer(self, task: Task) -> int:
        cpu = self._session.once(Running).cpu_of(task.addr)
        return task.sp if cpu is None else self._session.once(Registers).stack_pointer(cpu)

    def _are_marked(self) -> bool:
        """Whether the stack of any task ends in the mark."""
        for task in self._session.once(Tasks).all(Gaps()):
            try:
                if task.stack and self._session.memory.u64(task.stack + self._end) == STACK_END_MAGIC:
                    return True
            except (Unreadable, MissingDebugInfo):
                continue
        return False
