"""The task that a CPU has on it, as the kernel notes it."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.layout.table import CURRENT_TASK
from gdb_kdump.session import Session


def task_of_cpu(session: Session, cpu: int) -> int:
    """The `struct task_struct *` on a CPU; raises MissingDebugInfo, Unreadable.

    By the machine's own variable, which changes with the stack; else by what the scheduler has just chosen.
    arch/x86/include/asm/current.h; kernel/sched/core.c: __schedule.
    """
    percpu, memory = session.once(PerCpu), session.memory
    for symbol, path in CURRENT_TASK:
        if percpu.find_symbol(symbol) is not None:
            offset = session.layout.offset(f"{symbol}.{path}") if path else 0
            return memory.ptr(percpu.symbol(symbol, cpu) + offset)
    if percpu.find_symbol("runqueues") is not None:
        return memory.ptr(percpu.symbol("runqueues", cpu) + session.layout.offset("rq.curr"))
    raise MissingDebugInfo("per-CPU current task", [symbol for symbol, _ in CURRENT_TASK])


def idle_task_of(session: Session, cpu: int) -> int:
    """The `struct task_struct *` of a CPU's idle task; kernel/sched/core.c: init_idle.

    Raises MissingDebugInfo, Unreadable.
    """
    member = session.layout.offset("rq.idle")
    return session.memory.ptr(session.once(PerCpu).symbol("runqueues", cpu) + member)
