"""Which task brought the machine down, and what the kernel said of it."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.percpu import PerCpu
from gdb_kdump.kernel.printk import Printk
from gdb_kdump.kernel.tasks import Task, Tasks
from gdb_kdump.layout import PANIC_CPU
from gdb_kdump.session import Session


class Panic:
    """The panic of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: Task | None = None

    def cpu(self) -> int:
        """The number of the CPU that panicked; the first online one where the kernel does not say.

        kernel/panic.c: panic_cpu, arch/x86/kernel/reboot.c: crashing_cpu.
        """
        session, online = self._session, self._session.once(PerCpu).online_cpus()
        for symbol in PANIC_CPU:
            address = session.debuginfo.find_address(symbol)
            # Both are -1 as long as no CPU has panicked: a dump taken from outside, by a hypervisor.
            if address is not None and session.memory.s32(address) in online:
                return session.memory.s32(address)
        return online[0]

    def task(self) -> Task:
        """The task that was running on that CPU; raises Unreadable, MissingDebugInfo."""
        if self._task is None:
            self._task = self._session.once(Tasks).read(self._session.once(PerCpu).running()[self.cpu()])
        return self._task

    def message(self) -> str | None:
        """The kernel's own line about the panic, or None where its message buffer cannot be read."""
        try:
            return self._session.once(Printk).panic_message()
        except (MissingDebugInfo, Unreadable):
            return None
