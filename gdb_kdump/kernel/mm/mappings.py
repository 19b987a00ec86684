"""By which addresses the kernel has a page besides that in its map of all memory: image, modules, vmalloc, stacks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from gdb_kdump.errors import Why
from gdb_kdump.kernel.lib.intervals import Intervals
from gdb_kdump.session import Session

_TOP = 1 << 64
_HALF = 1 << 63


class Mappings:
    """Reads the page tables of one session; raises Unreadable where the dump has lost where the direct map is."""

    def __init__(self, session: Session) -> None:
        self._server = session.server
        find, memory = session.debuginfo.find_address, session.memory
        self.start = session.arch.direct_map(find, memory.u64, memory.why)
        """The direct map: the address of physical address 0."""
        self.end = self.start + (session.dump.max_pfn or 0) * session.arch.page_size
        """The address after the last that it may have."""

    def elsewhere(self, start: int, end: int) -> Iterator[tuple[int, int, int | Why]]:
        """What is mapped from `start` to before `end`, but not by the direct map: address, bytes, physical address.

        In place of the latter, why a page table cannot be read.  Raises DumpError.
        """
        for low, high in ((max(start, _HALF), min(end, self.start)), (max(start, self.end), min(end, _TOP))):
            if low < high:
                yield from self._server.mapped(low, high - low)

    def aliases(self, physical: int) -> tuple[int, ...]:
        """The addresses outside of the direct map that a physical address has, lowest first.  Raises DumpError."""
        pieces, by_physical = self._elsewhere
        found = (pieces[number] for number in by_physical.find(physical))
        return tuple(sorted(addr + physical - start for start, _, addr in found))

    @cached_property
    def _elsewhere(self) -> tuple[list[tuple[int, int, int]], Intervals]:
        """All that is mapped but by the direct map: physical addresses, their ends, addresses; and which has which."""
        mapped = self.elsewhere(0, _TOP)
        pieces = [(where, where + size, addr) for addr, size, where in mapped if not isinstance(where, Why)]
        return pieces, Intervals((start, end, number) for number, (start, end, _) in enumerate(pieces))
