"""Which of a hypervisor's notes is whose: by the CPU's own per-CPU base, else by the hypervisor's number of the CPU."""

from __future__ import annotations

from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.session import Session


class NumberedNotes:
    """The notes of one session's dump that a hypervisor has numbered; none where the kernel wrote the notes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_cpu: dict[int, int] | None = None

    def any(self) -> bool:
        """Whether a hypervisor wrote the notes: then nothing but of_cpu() says whose they are."""
        return any(number is not None for number in self._session.dump.numbers)

    def of_cpu(self) -> dict[int, int]:
        """The kernel's CPU numbers to indexes of the dump's notes.  Raises Unreadable.

        The kernel numbers CPUs as it meets them: after hotplug the hypervisor's numbers may be others.
        """
        if self._by_cpu is None:
            dump, percpu = self._session.dump, self._session.once(PerCpu)
            by_cpu: dict[int, int] = {}
            rest: list[tuple[int, int]] = []
            for index, (number, registers) in enumerate(zip(dump.numbers, dump.registers)):
                if number is None:
                    continue
                base = self._session.arch.per_cpu_base(registers)
                cpu = None if base is None else percpu.cpu_at(base)
                if cpu is None or cpu in by_cpu:
                    rest.append((number, index))
                else:
                    by_cpu[cpu] = index
            for number, index in rest:  # a program's registers, or those of code that has yet to load the base
                by_cpu.setdefault(number, index)
            self._by_cpu = by_cpu
        return self._by_cpu
