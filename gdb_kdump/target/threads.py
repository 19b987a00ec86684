"""The threads that GDB shall see: every task, the running ones with the registers that their CPUs left."""

from __future__ import annotations

from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import Registers, task_on
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.records.threads import Thread
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

# include/linux/threads.h: PID_MAX_LIMIT on 64-bit.  GDB has no thread 0, and every CPU's idle task is PID 0.
_IDLE_BASE = 4 * 1024 * 1024


def thread_id(task: Task) -> int:
    """The id of a task's GDB thread: its PID; for the idle task of CPU n it is PID_MAX_LIMIT + n."""
    return task.pid if task.pid > 0 else _IDLE_BASE + task.cpu


def all_threads(session: Session, sleeping: bool = True) -> list[Thread]:
    """Every task as a thread, those that sleep with registers only if `sleeping`.

    Raises Unreadable, MissingDebugInfo.
    """
    tasks, registers = session.once(Tasks), session.once(Registers)
    running = {task: cpu for cpu, task in session.once(Running).tasks().items()}
    threads: dict[int, Thread] = {}
    # The running tasks first: they are to be had even where the task list is not.
    for task in (*(task_on(session, cpu) for cpu in running.values()), *tasks.all(Gaps())):
        name = task.comm.decode("utf-8", "backslashreplace")
        cpu = running.get(task.addr)
        known = (
            registers.of_cpu(cpu) if cpu is not None else registers.for_thread(task) if task.stack and sleeping else {}
        )
        # A corrupt list may have a PID twice; the first one keeps it.
        threads.setdefault(thread_id(task), Thread(thread_id(task), name, cpu, known))
    return list(threads.values())
