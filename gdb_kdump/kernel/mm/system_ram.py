"""Which physical addresses are memory that the kernel uses, by its own resource tree; kernel/resource.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.session import Session

_RAM = "System RAM"  # and, of memory that came later, "System RAM (kmem)"; kernel/resource.c: walk_system_ram_range
_CAPTURE = "Crash kernel"  # kernel/crash_core.c: crashk_res, where the kernel has nothing of its own
_MOST = 1 << 16  # resources
_LONGEST_NAME = 64


class SystemRam:
    """Reads the resource tree of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def ranges(self) -> list[tuple[int, int]] | None:
        """The first address of each range of RAM and the one after its last, in order; None where the tree is lost.

        Without what is reserved for the capture kernel.
        """
        try:
            known = list(self._resources())
        except (MissingDebugInfo, Unreadable):
            return None
        edges = [edge for start, end, name in known for edge in _edges(start, end, name)]
        ranges: list[tuple[int, int]] = []
        depth = 0
        for addr, step in sorted(edges):
            if depth == 0 and step > 0:
                ranges.append((addr, addr))
            depth += step
            if depth == 0 and step < 0:
                ranges[-1] = ranges[-1][0], addr
        return [(start, end) for start, end in ranges if end > start] or None

    def _resources(self) -> Iterator[tuple[int, int, str]]:
        """Every struct resource: first and last address, and name.  Raises Unreadable, MissingDebugInfo."""
        session, seen = self._session, set[int]()
        waiting = [session.debuginfo.address("iomem_resource")]
        while waiting:
            addr = waiting.pop()
            if not addr or addr in seen or len(seen) > _MOST:
                continue
            seen.add(addr)
            name = session.pointer(addr, "resource.name")
            text = session.memory.cstring(name, _LONGEST_NAME).decode(errors="replace") if name else ""
            yield session.number(addr, "resource.start"), session.number(addr, "resource.end"), text
            waiting += session.pointer(addr, "resource.child"), session.pointer(addr, "resource.sibling")


def _edges(start: int, last: int, name: str) -> tuple[tuple[int, int], ...]:
    """Where a resource opens and closes a range of RAM: address, and 1 or -1."""
    if name.startswith(_RAM):
        return (start, 1), (last + 1, -1)
    return ((start, -1), (last + 1, 1)) if name == _CAPTURE else ()
