"""Ranges of addresses that may overlap, and which of them an address lies in."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """Ranges from a start up to an end (addresses), each with a number, e.g. an index of what is there."""

    def __init__(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """`rows` are (start, end, number)."""
        ordered = sorted(rows)
        self._starts = array("Q", [start for start, _, _ in ordered])
        self._ends = array("Q", [end for _, end, _ in ordered])
        self._numbers = array("Q", [number for _, _, number in ordered])
        # The highest end up to each: where that is not above an address, nothing that begins earlier has it.
        highest = 0
        self._reach = array("Q", [highest := max(highest, end) for end in self._ends])

    def find(self, addr: int) -> Iterator[int]:
        """The numbers of the ranges that an address lies in, the one that begins last first."""
        index = bisect_right(self._starts, addr) - 1
        while index >= 0 and self._reach[index] > addr:
            if addr < self._ends[index]:
                yield self._numbers[index]
            index -= 1
