"""Which pages a kdump-compressed file has: a bit each, in order of page frame numbers."""

from __future__ import annotations

from collections.abc import Callable

from gdb_kdump.formats.flattened import DumpFile

_STEP = 4096  # bytes of bitmap between two remembered page counts
_STEPS_KEPT = 256  # a MiB of bitmap, which tells of 32 GiB of memory

_ONES_OF_BYTE = bytes(bin(byte).count("1") for byte in range(256))


def _count_ones(bits: int) -> int:
    """How many bits of a number are set."""
    return sum(bits.to_bytes(-(-bits.bit_length() // 8), "little").translate(_ONES_OF_BYTE))


# Python 3.10 brought one that is ten times as fast, and every page that is read needs it.
_ones: Callable[[int], int] = getattr(int, "bit_count", None) or _count_ones


class PageBitmap:
    """The bitmap of `size` bytes at offset `start` of a file.

    Only pages from frame `first` to before `end` are this file's; a set that `makedumpfile --split` wrote has the whole
    bitmap in each of its files.
    """

    def __init__(self, file: DumpFile, start: int, size: int, first: int, end: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._first, self._end = first, end
        self._steps: dict[int, bytes] = {}
        self._counts = self._count()
        self.pages = self._counts[-1]
        """How many pages were dumped into this file."""

    def has(self, pfn: int) -> bool:
        """Whether a page was dumped into this file."""
        step, rest = divmod(pfn, 8 * _STEP)
        if not self._first <= pfn < self._end or step >= len(self._counts) - 1:
            return False
        if step not in self._steps:
            if len(self._steps) >= _STEPS_KEPT:
                self._steps.clear()
            start = step * _STEP
            self._steps[step] = self._file.read(self._start + start, min(_STEP, self._size - start))
        bits = self._steps[step]
        return rest >> 3 < len(bits) and bool(bits[rest >> 3] >> (rest & 7) & 1)

    def run(self, pfn: int, most: int) -> int:
        """How many pages from one that it has() are there in a row, at most `most`, as far as one step tells."""
        step, rest = divmod(pfn, 8 * _STEP)
        most = min(most, self._end - pfn)
        bits = int.from_bytes(self._steps[step][rest >> 3 : rest + most + 7 >> 3], "little") >> (rest & 7)
        return min(most, (~bits & bits + 1).bit_length() - 1)  # as many as there are ones before the first zero

    def gap(self, pfn: int, most: int) -> int:
        """How many pages from one that it does not have are missing in a row, at most `most`, as far as one step tells.

        At least 1.
        """
        step, rest = divmod(pfn, 8 * _STEP)
        if pfn < self._first:
            return min(most, self._first - pfn)
        if pfn >= self._end or step >= len(self._counts) - 1:
            return most
        most = min(most, 8 * _STEP - rest)
        bits = int.from_bytes(self._steps[step][rest >> 3 : rest + most + 7 >> 3], "little") >> (rest & 7)
        return min(most, (bits & -bits).bit_length() - 1) if bits else most

    def index(self, pfn: int) -> int:
        """How many pages of this file come before one that it has()."""
        step, rest = divmod(pfn, 8 * _STEP)
        return self._counts[step] + _ones(self._read(step, self._first, self._end) & (1 << rest) - 1)

    def between(self, first: int, end: int) -> int:
        """How many pages were dumped, into whichever file, with page frame numbers from `first` to before `end`."""
        # A damaged header may name more pages than the bitmap has bits.
        steps = range(first // (8 * _STEP), -(-min(end, 8 * self._size) // (8 * _STEP)))
        return sum(_ones(self._read(step, first, end)) for step in steps)

    def _count(self) -> list[int]:
        """How many pages were dumped into this file before each step of the bitmap, and in all."""
        counts, total = [0], 0
        for step in range(-(-self._size // _STEP)):
            total += _ones(self._read(step, self._first, self._end))
            counts.append(total)
        return counts

    def _read(self, step: int, first: int, end: int) -> int:
        """A step of the bitmap as a number, bit 0 for its first page; only pages from `first` to before `end`."""
        start = step * _STEP
        stop = min(start + _STEP, self._size)
        if stop <= start:
            return 0
        bits = int.from_bytes(self._file.read(self._start + start, stop - start), "little")
        if start * 8 < first:
            skip = first - start * 8
            bits = bits >> skip << skip
        if stop * 8 > end:
            bits &= (1 << max(0, end - start * 8)) - 1
        return bits
