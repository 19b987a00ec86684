"""A sparse file in memory that shows libkdumpfile those blocks of a dump that it is about to read.

libkdumpfile before 0.5.3 knows no flattened dumps, but takes any file descriptor; and it does not survive every header.
Nothing is copied but what is read, and of that the window keeps no more than it may.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from gdb_kdump.errors import DumpError, words_of
from gdb_kdump.formats.flattened import DumpFile

_BLOCK = 1 << 16  # a multiple of what libkdumpfile caches: it must never see a part of a block
KEEP = 256 << 20
"""Bytes of the dump that a window has at most, beside the heads."""


class Window:
    """`descriptor` is open for reading; `heads`, offsets and sizes, are there from the beginning and stay.

    A u64 at any of the offsets in `zeros` is shown as 0.
    """

    def __init__(
        self, file: DumpFile, heads: Iterable[tuple[int, int]], zeros: Sequence[int] = (), keep: int = KEEP
    ) -> None:
        """`keep` in bytes, beside the heads; raises DumpError when the dump is larger than a file can be."""
        self._file = file
        self._zeros = zeros
        self._heads = _blocks(heads)
        self._most = keep // _BLOCK + len(self._heads)
        self._present: set[int] = set()
        self.descriptor = os.memfd_create("gdb-kdump-window", os.MFD_CLOEXEC)
        try:
            os.truncate(self.descriptor, file.size)
        except OSError as error:
            os.close(self.descriptor)
            raise DumpError(f"{file.path} is damaged: a dump of {file.size} bytes: {words_of(error)}") from None
        self._fill(self._heads)

    def show(self, extents: Iterable[tuple[int, int]]) -> None:
        """Have these offsets and sizes of the file there, all at once."""
        blocks = _blocks(extents) - self._present
        if len(self._present) + len(blocks) > self._most:
            os.truncate(self.descriptor, 0)
            os.truncate(self.descriptor, self._file.size)
            self._present.clear()
            blocks = _blocks(extents) | self._heads
        self._fill(blocks)

    def _fill(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            os.pwrite(self.descriptor, self._file.read(block * _BLOCK, _BLOCK), block * _BLOCK)
            self._present.add(block)
        for offset in self._zeros:
            os.pwrite(self.descriptor, bytes(8), offset)


def _blocks(extents: Iterable[tuple[int, int]]) -> set[int]:
    return {block for offset, size in extents for block in range(offset // _BLOCK, -(-(offset + size) // _BLOCK))}
