"""The task that a CPU was running, also where its struct task_struct is not in the dump."""

from __future__ import annotations

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.sched.tasks import NO_PID, UNKNOWN, Task, Tasks
from gdb_kdump.layout.layout import thread_size
from gdb_kdump.session import Session


def task_on(session: Session, cpu: int) -> Task:
    """The task of an online CPU (int); with NO_PID, UNKNOWN and the stack of its registers where its page is missing.

    Raises Unreadable where there are no registers either, MissingDebugInfo.
    """
    addr = session.once(Running).tasks()[cpu]
    try:
        return session.once(Tasks).read(addr)
    except Unreadable:
        sp = session.once(Registers).of_cpu(cpu).get("rsp", 0)
        if not sp:
            raise
        stack = sp & -thread_size(session.layout, session.debuginfo.find_address)
        return Task(addr, NO_PID, NO_PID, UNKNOWN.encode(), UNKNOWN, cpu, False, True, sp, stack)
