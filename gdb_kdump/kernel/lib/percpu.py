"""Per-CPU variables and the CPUs of the machine."""

from __future__ import annotations

import struct

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.table import PERCPU_PREFIXES
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address


class PerCpu:
    """Where each CPU has its copy of the per-CPU variables; include/linux/percpu-defs.h: per_cpu_ptr."""

    def __init__(self, session: Session) -> None:
        self._session = session
        memory, find = session.memory, session.debuginfo.find_address
        count, offsets = find("nr_cpu_ids"), find("__per_cpu_offset")
        # 6f9c07be9d02 (v6.1) lib/cpumask: add FORCE_NR_CPUS config option made nr_cpu_ids a constant, NR_CPUS.
        constant = session.debuginfo.size("__per_cpu_offset") // 8 if offsets is not None else 1
        self.nr_cpu_ids = memory.u32(count) if count is not None else constant
        # A kernel built without SMP has neither, and its per-CPU variables are ordinary ones.
        self._has_offsets = offsets is not None
        self._offsets: tuple[int, ...] = ()
        if offsets is not None:
            self._offsets = struct.unpack(f"<{self.nr_cpu_ids}Q", memory.read(offsets, 8 * self.nr_cpu_ids))

    def pointer(self, percpu_address: int, cpu: int) -> int:
        """The address of CPU `cpu`'s copy of a per-CPU object, given its per-CPU address (`void __percpu *`).

        Raises MissingDebugInfo.
        """
        if not self._has_offsets:
            if not is_kernel_address(percpu_address):
                raise MissingDebugInfo("symbol __per_cpu_offset")
            return percpu_address
        return (percpu_address + self._offsets[cpu]) & (1 << 64) - 1

    def find_symbol(self, name: str) -> int | None:
        """The per-CPU address (`void __percpu *`) of a per-CPU variable, or None."""
        addresses = (self._session.debuginfo.find_address(prefix + name) for prefix in PERCPU_PREFIXES)
        return next((addr for addr in addresses if addr is not None), None)

    def symbol(self, name: str, cpu: int) -> int:
        """The address of CPU `cpu`'s copy of a per-CPU variable; raises MissingDebugInfo."""
        percpu_address = self.find_symbol(name)
        if percpu_address is None:
            raise MissingDebugInfo(f"symbol {name}", [prefix + name for prefix in PERCPU_PREFIXES])
        return self.pointer(percpu_address, cpu)

    def online_cpus(self) -> list[int]:
        """The numbers of the CPUs that were online; include/linux/cpumask.h: cpu_online_mask.

        Without the kernel's mask they are those that the dump has registers of.
        """
        return self._in_mask("online")

    def possible_cpus(self) -> list[int]:
        """The CPUs that may have something of their own: one that panic() has stopped is no longer online."""
        return self._in_mask("possible")

    def present_cpus(self) -> list[int]:
        """The CPUs that the machine has, whether they are online or not; include/linux/cpumask.h: cpu_present_mask."""
        return self._in_mask("present") if self._mask("present") is not None else self.online_cpus()

    def cpu_at(self, base: int) -> int | None:
        """The CPU whose per-CPU variables have that offset, or None."""
        known = [cpu for cpu in self.possible_cpus() if self._has_offsets and self._offsets[cpu] == base]
        return known[0] if len(known) == 1 else None

    def _mask(self, name: str) -> int | None:
        """The address of a mask of CPUs, or None."""
        find = self._session.debuginfo.find_address
        # 5aec01b834fd (v4.5) kernel/cpu.c: eliminate cpu_*_mask: it was a pointer to one.
        mask, pointer = find(f"__cpu_{name}_mask"), find(f"cpu_{name}_mask")
        return self._session.memory.ptr(pointer) if mask is None and pointer is not None else mask

    def _in_mask(self, name: str) -> list[int]:
        memory, mask = self._session.memory, self._mask(name)
        if mask is None:
            noted = self._session.dump.registers[: len(self._offsets) or None]
            return [cpu for cpu, registers in enumerate(noted) if registers] or [0]
        bits = int.from_bytes(memory.read(mask, (self.nr_cpu_ids + 63) // 64 * 8), "little")
        return [cpu for cpu in range(self.nr_cpu_ids) if bits >> cpu & 1]
