"""Memory that a file holds in pieces, each with its physical address: it is read in place.

Not through libkdumpfile: 0.5.1 reads zeros wherever a segment has no data, or the file has none for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from gdb_kdump.errors import Why
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.records.runs import Hole, Run

_NO_ADDRESS = (1 << 64) - 1


class Segment(NamedTuple):
    """Memory that the file describes: addresses, offset in the file, and bytes."""

    physical: int
    offset: int
    size: int
    virtual: int

    @property
    def has_physical(self) -> bool:
        """Whether it says where in physical memory it is."""
        return self.physical != _NO_ADDRESS


class Segments:
    """The memory in one file; `page_size` in bytes, `machine` the e_machine, `description` for the user."""

    incomplete = False
    """makedumpfile marked the file: it ran out of space, or reached the size that it was given (-L)."""
    notes = b""
    """The notes of an ELF core."""

    def __init__(
        self, file: DumpFile, segments: Sequence[Segment], page_size: int, machine: int, description: str
    ) -> None:
        self.file = file
        self.page_size = page_size
        self.machine = machine
        self.description = description
        self._place(segments)

    def _place(self, segments: Sequence[Segment]) -> None:
        self._segments = sorted(segments)
        self.by_address = all(segment.has_physical for segment in segments)
        """Whether the segments say where in physical memory they are (/proc/kcore's do not)."""
        gone = [self.file.missing(segment.offset, segment.offset + segment.size) for segment in segments]
        self.pages = -(-sum(segment.size for segment in segments) // self.page_size)
        self.pages_lost = sum(-(-missing // self.page_size) for missing in gone)
        self.bytes_missing = sum(gone)
        self.mapped = [(segment.virtual, segment.physical) for segment in segments if segment.has_physical]
        """The virtual and physical addresses of the segments that have both."""
        self._starts = [segment.physical for segment in self._segments]
        # Segments may overlap (the kernel image has one of its own): how far back can one reach?
        self._reach = list(accumulate((segment.physical + segment.size for segment in self._segments), max))
        self.max_pfn = -(-(self._reach[-1] if self._reach else 0) // self.page_size)

    def read(self, physical: int, size: int) -> list[Run]:
        """The bytes and holes at a physical address: TRUNCATED where the file ends, FILTERED where no segment is."""
        runs: list[Run] = []
        while size:
            offset, length = self._find(physical, size)
            if isinstance(offset, Why):
                runs.append(Hole(length, offset))
            else:
                data = self.file.read(offset, length)
                runs += [data] if len(data) == length else [data, Hole(length - len(data), Why.UNKNOWN)]
            physical += length
            size -= length
        self.file.check()
        return runs

    def hole(self, physical: int, size: int) -> Hole | None:
        """The hole at a physical address, up to `size` bytes of it, or None where the file has something."""
        offset, length = self._find(physical, size)
        return Hole(length, offset) if isinstance(offset, Why) else None

    def held(self) -> list[tuple[int, int]]:
        """The physical addresses that the file may have bytes of, from, to before: no more than a damaged one can hold.

        Ranges that touch or overlap are one.
        """
        ranges: list[tuple[int, int]] = []
        for segment in self._segments:
            start, end = segment.physical, segment.physical + min(segment.size, self.file.size - segment.offset)
            if end <= start or not segment.has_physical:
                continue
            if ranges and start <= ranges[-1][1]:
                ranges[-1] = ranges[-1][0], max(ranges[-1][1], end)
            else:
                ranges.append((start, end))
        return ranges

    def _find(self, physical: int, size: int) -> tuple[int | Why, int]:
        """Where in the file the byte at `physical` is, or why it is not, and how far that goes.

        A page that the file has only the beginning of is missing, like a page of any other dump.
        """
        index, page = bisect_right(self._starts, physical) - 1, self.page_size
        # What begins later may end a hole, or hold what another segment has lost.
        following = self._starts[index + 1] - physical if index + 1 < len(self._starts) else size
        size = min(size, following)
        cut: int | None = None
        while index >= 0 and self._reach[index] > physical:
            start, offset, length, _ = self._segments[index]
            within = min(size, start + length - physical)
            if within > 0:
                position = offset + physical - start
                end = min(-(-(physical + within) // page) * page, start + length)  # of its last page here
                if self.file.has(position, end - physical):
                    return position, within
                there = self._available(position, end - physical)
                if (physical + there) // page > physical // page:
                    return position, min(within, (physical + there) // page * page - physical)
                cut = min(within, page - physical % page, cut or within)
            index -= 1
        if cut is not None:
            return Why.TRUNCATED, cut
        # makedumpfile describes memory as it writes it: what comes after the last segment was still to be written.
        is_after_all = self.incomplete and physical >= self.max_pfn * page
        return Why.TRUNCATED if is_after_all else Why.FILTERED, size

    def _available(self, at: int, size: int) -> int:
        """How many of `size` bytes at `at` the file has, in one piece."""
        low, high = 0, size
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.file.has(at, middle) else (low, middle - 1)
        return low
