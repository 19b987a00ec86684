"""Which task brought the machine down, and what the kernel said of it."""

from __future__ import annotations

import struct

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.printk import Printk
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import Registers, task_on
from gdb_kdump.kernel.sched.stopped import has_panicked, panicked_cpus
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.layout.sched import thread_size
from gdb_kdump.session import Session

# Where a kernel that crashes passes: kernel/panic.c, kernel/kexec_core.c.
_CRASHING = ("machine_kexec", "__crash_kexec", "crash_kexec", "panic")


class Panic:
    """The panic of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: Task | None = None
        self._cpu: int | None = None

    def cpu(self) -> int:
        """The number of the CPU that panicked; the first one where none did.

        kernel/panic.c: panic_cpu, arch/x86/kernel/reboot.c: crashing_cpu.  Raises MissingDebugInfo, Unreadable.
        """
        if self._cpu is None:
            running = list(self._session.once(Running).tasks())
            said = panicked_cpus(self._session)
            noted = [cpu for cpu in said if cpu in running]
            self._cpu = noted[0] if noted else running[0] if said else self._by_stacks(running)
        return self._cpu

    def happened(self) -> bool:
        """Whether a CPU has panicked; else the dump was taken from outside, by a hypervisor, of a kernel that ran."""
        return has_panicked(self._session)

    def _by_stacks(self, cpus: list[int]) -> int:
        """The first CPU that was in a function of a crashing kernel, else the first that did not idle."""
        session, registers = self._session, self._session.once(Registers)
        find, size = session.debuginfo.find_address, session.debuginfo.size
        functions = [(start, size(name)) for name in _CRASHING if (start := find(name)) is not None]
        for cpu in cpus:
            sp = registers.stack_pointer(cpu)
            low = sp & -thread_size(session.layout, session.debuginfo.find_address)
            # What a dying kernel still did stands below the stack pointer of the fault.
            words = struct.iter_unpack("<Q", session.memory.read_prefix(low, sp - low & -8)[0])
            if any(0 < word - start <= length for (word,) in words for start, length in functions):
                return cpu
        running = session.once(Running).tasks()
        busy = (cpu for cpu in cpus if registers.of_cpu(cpu) and session.number(running[cpu], "task_struct.pid"))
        return next(busy, cpus[0])

    def task(self) -> Task:
        """The task that was running on that CPU; raises Unreadable, MissingDebugInfo."""
        if self._task is None:
            self._task = task_on(self._session, self.cpu())
        return self._task

    def message(self) -> str | None:
        """The kernel's own line about the panic, or None where its message buffer cannot be read."""
        try:
            return self._session.once(Printk).panic_message()
        except (MissingDebugInfo, Unreadable):
            return None
