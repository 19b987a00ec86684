"""What of memory a search is to go through: all of it, the stacks, the slabs of a cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, Unreadable, UsageError, Why
from gdb_kdump.kernel.mm.mappings import Mappings
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.stack.whose_stack import StackOwners
from gdb_kdump.records.search import Unread
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_TOP = 1 << 64


@dataclass(frozen=True)
class Area:
    """What is to be searched: ranges (addresses and bytes), which are physical ones or the kernel's.

    `shift` is what is added to what is found there, `unread` what is known to be missing already.
    """

    ranges: tuple[tuple[int, int], ...]
    physical: bool = False
    shift: int = 0
    unread: tuple[Unread, ...] = ()


def kernel_memory(session: Session, start: int = 0, end: int = _TOP) -> list[Area]:
    """All of memory by its addresses in the direct map, or what is mapped from `start` to before `end`.

    Raises Unreadable where the dump has lost where the direct map is, and DumpError.
    """
    mappings = session.once(Mappings)
    low, high = max(start, mappings.start), min(end, mappings.end)
    areas = []
    if low < high:
        areas.append(Area(((low - mappings.start, high - low),), True, mappings.start))
    if (start, end) != (0, _TOP):
        pieces = list(mappings.elsewhere(start, end))
        ranges = tuple((addr, size) for addr, size, where in pieces if not isinstance(where, Why))
        lost = tuple(Unread(addr, size, where.name) for addr, size, where in pieces if isinstance(where, Why))
        if pieces:
            areas.append(Area(ranges, unread=lost))
    return areas


def physical_memory(session: Session, start: int = 0, end: int = _TOP) -> list[Area]:
    """Memory by its physical addresses."""
    end = min(end, (session.dump.max_pfn or 0) * session.arch.page_size)
    return [Area(((start, end - start),), physical=True)] if start < end else []


def stacks(session: Session, gaps: Gaps) -> list[Area]:
    """The stacks of all tasks, and of the CPUs."""
    owners, extents = session.once(StackOwners), []
    gaps.note(*owners.gaps)
    for stack in owners.stacks:
        if stack.name:  # those of a CPU, of which pages between them are not mapped
            pieces = session.server.mapped(stack.low, stack.high - stack.low)
            extents += [(addr, addr + size) for addr, size, _ in pieces]
        else:
            extents.append((stack.low, stack.high))
    return [Area(_apart(extents))]


def slabs(session: Session, cache_name: str, gaps: Gaps) -> list[Area]:
    """The slabs of a cache: objects that are allocated, and those that are free.

    Raises UsageError where there is no such cache, MissingDebugInfo, Unreadable.
    """
    allocator, mappings = session.once(SlubAllocator), session.once(Mappings)
    cache = allocator.find_cache(cache_name)
    if cache is None:
        raise UsageError(f"there is no slab cache {cache_name!r}; kslab -l lists them")
    extents = []
    for page in allocator.slabs_of(cache, gaps):
        try:
            slab = allocator.slab(page)
        except (Unreadable, Corrupt) as error:
            gaps.note(str(error))
            continue
        extents.append((slab.start - mappings.start, slab.end - mappings.start))
    return [Area(_apart(extents), True, mappings.start)]


def _apart(extents: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges (address, bytes) that do not overlap, of some (first address, the one after the last) that may."""
    ranges: list[tuple[int, int]] = []
    for start, end in sorted(extents):
        start = max(start, sum(ranges[-1]) if ranges else 0)
        if start < end:
            ranges.append((start, end - start))
    return tuple(ranges)
