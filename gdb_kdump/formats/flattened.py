"""The bytes of one file of a dump, where a dump's headers say they are.

A plain file has them there. makedumpfile's flattened form is a stream of records, each "these bytes belong there", for
a pipe to carry (`makedumpfile -F`, and what QEMU writes as kdump-zlib, -lzo and -snappy): it is read in place, through
an index of its records.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import BinaryIO

from gdb_kdump.errors import DumpError, words_of
from gdb_kdump.formats.signatures import FLATTENED

_FLAT_HEADER = 4096  # makedumpfile's MAX_SIZE_MDF_HEADER: where the records begin
_RECORD = struct.Struct(">qq")  # makedumpfile's struct makedumpfile_data_header {offset, buf_size}, always big-endian
_RECORDS_PER_SIGN = 1 << 16
_MOST = (1 << 63) - 1


class DumpFile:
    """A file that is read at any place, as it is."""

    form = ""
    """How the file holds the dump, for the user; empty where there is nothing to say."""
    whole = True
    """Whether the file says itself that it is complete, as far as its form can say that."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._written_ns = os.fstat(file.fileno()).st_mtime_ns
        self.overwritten = False
        """Whether `check` has found that the file was written to since it was opened."""
        self.file_size = file.seek(0, os.SEEK_END)
        """The size of the file, in bytes."""
        self.size = self.file_size
        """Where the dump ends, in bytes: the same, except for a flattened dump."""

    def check(self) -> None:
        """Raise DumpError when the file has become shorter: what was read since then may be zeros."""
        now = os.fstat(self._file.fileno())
        size = now.st_size
        if size < self.file_size and stat.S_ISREG(now.st_mode):
            raise DumpError(
                f"{self.path} has been cut off while it was open: it had {self.file_size:,} bytes and has {size:,}; "
                "copy it again, and run `target kdump` again"
            )
        self.overwritten |= now.st_mtime_ns != self._written_ns

    def read(self, offset: int, size: int) -> bytes:
        """The bytes at `offset`, as many as there are; between two that are there, zeros for what was not written."""
        return _read(self._file, offset, size)

    def has(self, offset: int, size: int) -> bool:
        """Whether the file has all of these bytes."""
        return offset >= 0 and offset + size <= self.size

    def missing(self, start: int, end: int) -> int:
        """How many of the bytes from `start` to `end` the file does not have."""
        return max(0, end - max(start, self.size))


class Flattened(DumpFile):
    """A dump in makedumpfile's flattened form; `size` and all offsets are those of the dump that it describes."""

    def __init__(self, path: str, file: BinaryIO, alive: Callable[[], None]) -> None:
        """Read the stream's record headers, calling `alive` now and then; raises DumpError for damaged ones."""
        super().__init__(path, file)
        self.whole = False
        offsets, positions, sizes = array("Q"), array("Q"), array("Q")
        for record in self._records():
            if record is None:
                self.whole = True
                break
            for column, value in zip((offsets, positions, sizes), record):
                column.append(value)
            if not len(offsets) % _RECORDS_PER_SIGN:
                alive()
        order = sorted(range(len(offsets)), key=offsets.__getitem__)
        self._offsets = array("Q", map(offsets.__getitem__, order))
        self._positions = array("Q", map(positions.__getitem__, order))
        self._sizes = array("Q", map(sizes.__getitem__, order))
        # Records may overlap, a header that was written again: how far does any of those before reach?
        self._reach = array("Q")
        # What is there, as joined pieces.
        self._starts, self._ends = array("Q"), array("Q")
        reach = 0
        for offset, size in zip(self._offsets, self._sizes):
            if not self._starts or offset > reach:
                self._starts.append(offset)
                self._ends.append(offset + size)
            reach = max(reach, offset + size)
            self._reach.append(reach)
            self._ends[-1] = reach
        self.size = reach
        self.form = f"flattened, read in place through an index of {len(order):,} records"

    def _records(self) -> Iterator[tuple[int, int, int] | None]:
        """Offset in the dump, position in the file and size of each record, and None for the mark at the end."""
        end, position = self.file_size, _FLAT_HEADER
        while position + _RECORD.size <= end:
            offset, size = _RECORD.unpack(_read(self._file, position, _RECORD.size).ljust(_RECORD.size, b"\0"))
            position += _RECORD.size
            if offset == size == -1:
                yield None
                return
            if offset < 0 or size < 0 or offset + size > _MOST:
                raise DumpError(
                    f"{self.path} is a flattened dump that is damaged at byte {position - _RECORD.size:,}: a record of "
                    f"{size} bytes for offset {offset} is impossible; copy it again from where it was made"
                )
            if end > position and size:
                yield offset, position, min(size, end - position)
            position += size

    def read(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if offset < 0 or size <= 0:
            return b""
        parts = []
        index = bisect_right(self._offsets, offset + size - 1) - 1
        while index >= 0 and self._reach[index] > offset:
            parts.append((self._positions[index], self._offsets[index], self._sizes[index]))
            index -= 1
        data = bytearray(size)
        for position, start, length in sorted(parts):  # in the order in which they were written: the last one counts
            first, end = max(start, offset), min(start + length, offset + size)
            if first < end:
                piece = _read(self._file, position + first - start, end - first)
                data[first - offset : first - offset + len(piece)] = piece
        return bytes(data)

    def has(self, offset: int, size: int) -> bool:
        index = bisect_right(self._starts, offset) - 1
        return index >= 0 and offset + size <= self._ends[index]

    def missing(self, start: int, end: int) -> int:
        present = 0
        for first, last in zip(self._starts, self._ends):
            present += max(0, min(last, end) - max(first, start))
        return max(0, end - start) - present


def open_dump_file(path: str, alive: Callable[[], None] = lambda: None) -> DumpFile:
    """Open the file at `path`; raises DumpError when it cannot be one of a dump.

    `alive` is called now and then while a long index is made.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise DumpError(f"{path} is a directory: name the vmcore file in it")
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise DumpError(f"{path} is not a file: a dump must be one that can be read at any place")
        file = open(path, "rb", buffering=0)  # noqa: SIM115 (open as long as the dump)
        if _read(file, 0, len(FLATTENED)) == FLATTENED:
            return Flattened(path, file, alive)
        return DumpFile(path, file)
    except PermissionError:
        raise DumpError(f"{path}: no permission to read it (dumps belong to root)") from None
    except FileNotFoundError:
        raise DumpError(f"{path}: no such file") from None
    except DumpError:
        raise
    except (OSError, ValueError) as error:
        raise DumpError(f"{path} cannot be opened: {words_of(error)}") from None


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """The bytes at `offset` of a file, as many as there are."""
    try:
        return os.pread(file.fileno(), size, offset)
    except (OverflowError, OSError):  # a damaged offset: past what a file can have
        return b""
