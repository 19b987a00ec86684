"""The threads that GDB shall see: one for each CPU, its task's name and the registers at its stop."""

from __future__ import annotations

from gdb_kdump.channel import Thread
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.percpu import PerCpu
from gdb_kdump.kernel.registers import Registers
from gdb_kdump.kernel.tasks import Tasks
from gdb_kdump.session import Session


def cpu_threads(session: Session) -> list[Thread]:
    """The running task of each online CPU as a thread, the one that panicked first."""
    tasks, registers = session.once(Tasks), session.once(Registers)
    panicked = session.once(Panic).cpu()
    running = session.once(PerCpu).running()
    threads = []
    for cpu in sorted(running, key=lambda cpu: (cpu != panicked, cpu)):
        name = tasks.read(running[cpu]).comm.decode("utf-8", "backslashreplace")
        # GDB's thread ids start at 1: CPU 0 cannot be thread 0, which means "any".
        threads.append(Thread(cpu + 1, name, cpu, registers.of_cpu(cpu)))
    return threads
