"""libkdumpfile: the only file that imports kdumpfile, and that knows its releases and their habits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import kdumpfile  # type: ignore[import-untyped]

from gdb_kdump.dump.kdump_pages import KdumpPages
from gdb_kdump.dump.preflight import Examined
from gdb_kdump.dump.window import KEEP, Window
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.kdump import Kdump
from gdb_kdump.records.runs import UNIT, Hole, Run, append

_TOP = 1 << 64
_CACHED_PAGES = 64  # libkdumpfile looks through all of them for every page: its own 1024 make a page cost 5 µs, not 2

if hasattr(kdumpfile, "Context"):  # pykdumpfile, the bindings since libkdumpfile 0.5.4
    KVADDR, _MACHPHYSADDR = kdumpfile.KVADDR, kdumpfile.MACHPHYSADDR
    KdumpfileError = kdumpfile.KdumpfileError
    _NoData = kdumpfile.NoDataError
    _NotTranslated = kdumpfile.AddressTranslationError
    _EndOfFile = kdumpfile.EOFError
    _Damaged = kdumpfile.CorruptError
    NotImplementedHere = kdumpfile.NotImplementedError

    def _open(descriptor: int) -> Any:
        file = kdumpfile.Context()
        # With mmap a file that is too short means SIGBUS; without, an error.
        file.attr["file.mmap_policy"] = 0
        file.open_fd(descriptor)
        return file

else:  # the bindings in libkdumpfile's own tree: Debian 12's python3-libkdumpfile
    from kdumpfile import exceptions

    KVADDR, _MACHPHYSADDR = kdumpfile.KDUMP_KVADDR, kdumpfile.KDUMP_MACHPHYSADDR
    KdumpfileError = exceptions.KDumpBaseException
    _NoData = exceptions.NoDataException
    _NotTranslated = exceptions.AddressTranslationException
    _EndOfFile = exceptions.EOFException
    _Damaged = exceptions.CorruptException
    NotImplementedHere = exceptions.NotImplementedException

    def _open(descriptor: int) -> Any:
        file = kdumpfile.kdumpfile(file=f"/proc/self/fd/{descriptor}")  # it takes no path that is not UTF-8
        file.attr["file.mmap_policy"] = 0  # here it can be said only when the headers were mapped already
        return file


class File:
    """One file of a dump in libkdumpfile's hands; raises what libkdumpfile and the system raise."""

    def __init__(
        self, source: DumpFile, kdump: Kdump | None, heads: Sequence[tuple[int, int]], keep: int = KEEP
    ) -> None:
        """`heads` are what libkdumpfile reads on opening it: offsets and sizes; a window has `keep` bytes."""
        self._kdump = kdump
        hidden = kdump.header.hidden_blobs if kdump else []
        self._window = Window(source, heads, hidden, keep) if source.form or hidden else None
        self._pages: KdumpPages | None = None
        self._descriptor = self._window.descriptor if self._window else os.open(source.path, os.O_RDONLY)
        self._path = source.path
        self._source = source
        self.library = _open(self._descriptor)
        self.library.attr["cache.size"] = _CACHED_PAGES
        self._page_size = kdump.block if kdump else UNIT
        self.end = kdump.end * kdump.block if kdump else _TOP
        """The end of the physical memory that this file is for."""

    def read_in_order(self) -> None:
        """Have pages read as is best for who goes through all of them, in order."""
        if self._kdump and not self._kdump.header.hidden_blobs:
            self._pages = KdumpPages(self._kdump)

    def absent(self, physical: int) -> Why | None:
        """Why the file has no data for a physical address, or None when it has.

        libkdumpfile up to 0.5.4 must never be asked for a page that was not dumped: a failed read puts a hole into its
        page cache, and the server dies of it once the cache is full (e63dab40c8ce, "Get data buffer before adjusting
        ghost partition size").
        """
        return self._kdump.absent(physical) if self._kdump else None

    def surely_has(self, physical: int, size: int) -> int:
        """How many bytes from a physical address on the file has, or 0: then `absent` must say it."""
        return self._kdump.surely_has(physical, size) if self._kdump else 0

    def stretch(self, physical: int, size: int) -> tuple[int, Why | None]:
        """For how many bytes from a physical address on, up to `size`, what absent() says of it is true."""
        return self._kdump.stretch(physical, size) if self._kdump else (size, None)

    def read_physical(self, runs: list[Run], physical: int, size: int) -> None:
        """Append what is at a physical address that the file should have."""
        page = self._pages.read(physical, size) if self._pages else None
        if page is not None and len(page) == size:
            self._source.check()
            append(runs, page)
            return
        if self._window and self._kdump:
            pages = [
                self._kdump.extents(page)
                for page in range(physical & -self._page_size, physical + size, self._page_size)
            ]
            self._window.show(extent for extents in pages if isinstance(extents, tuple) for extent in extents)
        try:
            data = bytes(self.library.read(_MACHPHYSADDR, physical, size))
            self._source.check()
            append(runs, data)
            return
        except KdumpfileError:
            self._source.check()
        # One of its pages is damaged.
        position, end = physical, physical + size
        while position < end:
            length = min(self._page_size - position % self._page_size, end - position)
            append(runs, self.read(_MACHPHYSADDR, position, length))
            position += length

    def read(self, space: int, addr: int, size: int) -> Run:
        """What libkdumpfile has at an address of a space, within one page, or why it has nothing."""
        try:
            return bytes(self.library.read(space, addr, size))  # 0.5.1 gives a bytearray
        except _NoData:  # which the bitmap tells before: here 0.5.1 only misunderstands a header, one of version 0
            why = Why.UNKNOWN if self._kdump else Why.FILTERED
        except _NotTranslated:
            why = Why.UNMAPPED
        except _EndOfFile:
            why = Why.TRUNCATED
        except _Damaged:
            why = Why.CORRUPT
        except NotImplementedHere as error:
            raise DumpError(
                f"{self._path} need not be damaged, but has what this libkdumpfile was built without: {error}; "
                "install one that has it"
            ) from None
        except KdumpfileError:
            why = Why.UNKNOWN
        self._renew_cache()
        return Hole(size, why)

    def _renew_cache(self) -> None:
        """Have libkdumpfile begin with an empty cache: a failed read has left it a hole to fall into; see absent()."""
        try:
            size = self.library.attr["cache.size"]
        except KeyError:
            return
        self.library.attr["cache.size"] = size ^ 1  # it does nothing about the number that it has already


def open_files(examined: Examined, keep: int = KEEP) -> list[File]:
    if examined.segments:
        return [File(examined.files[0], None, [])]
    return [File(kdump.file, kdump, [(0, kdump.descriptors_at)], keep) for kdump in examined.kdumps]
