"""Whether the kernel panicked, and which CPUs panic() stopped: those are no longer online, but have not gone."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.sched.cpu_stacks import CpuStacks
from gdb_kdump.kernel.sched.numbered import NumberedNotes
from gdb_kdump.kernel.sched.on_cpu import task_of_cpu
from gdb_kdump.layout.table import PANIC_CPU
from gdb_kdump.session import Session


def panicked_cpus(session: Session) -> list[int]:
    """What the kernel's variables say, best first: -1 as long as no CPU has panicked; empty where it has none."""
    addresses = filter(None, map(session.debuginfo.find_address, PANIC_CPU))
    return [session.memory.s32(address) for address in addresses]


def has_panicked(session: Session) -> bool:
    """Whether a CPU has panicked; else the dump was taken from outside, by a hypervisor, of a kernel that ran."""
    noted = panicked_cpus(session)
    return not noted or any(cpu >= 0 for cpu in noted)


class Stopped:
    """Finds the CPUs of one session that panic() stopped."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cpus: tuple[int, ...] | None = None

    def cpus(self) -> tuple[int, ...]:
        """Their numbers, where the dump shows it: their registers or stacks are in the function that stops a CPU.

        kernel/panic.c: panic, arch/x86/kernel/process.c: stop_this_cpu.  Raises Unreadable.
        """
        if self._cpus is None:
            percpu = self._session.once(PerCpu)
            online, present = percpu.online_cpus(), list[int]()
            with suppress(Unreadable):  # Running.offline() says so
                present = percpu.present_cpus()
            gone = [cpu for cpu in present if cpu not in online]
            stopped = filter(self._is_stopped, gone) if gone and has_panicked(self._session) else ()
            self._cpus = tuple(stopped)
        return self._cpus

    def _is_stopped(self, cpu: int) -> bool:
        functions = [*self._functions()]
        index = self._session.once(NumberedNotes).of_cpu().get(cpu)
        if index is not None:
            pc = self._session.dump.registers[index].get(self._session.arch.pc, 0)
            if any(0 <= pc - start <= size for start, size in functions):
                return True
        # Nothing comes back from there: what has been called from it stays on the stack.
        return any(
            0 < word - start <= size
            for low, high in self._stacks(cpu)
            for (word,) in struct.iter_unpack("<Q", self._session.memory.read_prefix(low, high - low & -8)[0])
            for start, size in functions
        )

    def _functions(self) -> Iterator[tuple[int, int]]:
        debuginfo = self._session.debuginfo
        for name in self._session.arch.stop_functions:
            start = debuginfo.find_address(name)
            if start is not None:
                yield start, debuginfo.size(name)

    def _stacks(self, cpu: int) -> Iterator[tuple[int, int]]:
        stacks = self._session.once(CpuStacks)
        try:
            task = task_of_cpu(self._session, cpu)
            # Of a CPU that has never come up this is the first task, which is another's.
            if self._session.number(task, "task_struct.cpu") == cpu:
                yield stacks.of_task(task)
        except (Unreadable, MissingDebugInfo):
            pass
        yield from stacks.irq_stacks(cpu)
        for low, high in stacks.exception_stacks(cpu):
            page = self._session.arch.page_size
            yield from ((start, start + page) for start in range(low, high, page))  # guard pages are between them
