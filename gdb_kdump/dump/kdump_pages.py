"""Pages of a kdump-compressed file that are stored by zlib or as they are, many at a time.

For a reader that goes through all of a dump: libkdumpfile takes longer, and looks after a cache that nobody needs then.
"""

from __future__ import annotations

from gdb_kdump.dump.inflate import inflater
from gdb_kdump.formats.kdump import Kdump

_STORED, _ZLIB = 0, 1  # makedumpfile's flags of a page: DUMP_DH_COMPRESSED_ZLIB
_READ_BYTES = 1 << 17
_MOST_SHARED = 16


class KdumpPages:
    """Reads the pages of a file, mostly in order; what it has read lately it keeps."""

    def __init__(self, kdump: Kdump) -> None:
        self._kdump = kdump
        self._inflater = inflater()
        self._data, self._data_at = b"", 0
        self._shared: dict[int, bytes] = {}  # by offset: pages that stand before what is read, mostly those of zeros

    def read(self, physical: int, size: int) -> bytes | None:
        """The bytes at a physical address, of pages that surely are there; None where another reader is needed.

        That is so where a page is stored in another way, and where one is damaged.
        """
        block = self._kdump.block
        pfn, start = divmod(physical, block)
        count = -(-(start + size) // block)
        descriptors = self._kdump.descriptors(pfn, count)
        if len(descriptors) < count:
            return None
        pages = bytearray(count * block)
        self._inflater.begin(pages, block)
        try:
            self._put_all(descriptors, pages)
        except ValueError:
            return None
        return bytes(pages) if len(pages) == size else bytes(pages[start : start + size])

    def _put_all(self, descriptors: list[tuple[int, int, int]], pages: bytearray) -> None:
        """Put pages where they belong, one after the other; raises ValueError where that cannot be done here."""
        block, shared, inflate = self._kdump.block, self._shared, self._inflater.put
        data, data_at, to = self._data, self._data_at, -block
        for offset, size, flags in descriptors:
            to += block
            if offset in shared:
                pages[to : to + block] = shared[offset]
                continue
            first = offset - data_at
            is_before = first < 0
            if is_before or first + size > len(data):
                self._data, self._data_at = self._kdump.file.read(offset, _READ_BYTES), offset
                data, data_at, first = self._data, offset, 0
                self._inflater.take(data)
            if flags == _ZLIB and size <= block:
                inflate(first, size, to)
            elif flags == _STORED and size == block and first + size <= len(data):
                pages[to : to + block] = data[first : first + size]
            else:
                raise ValueError("stored in another way, or less than a page")
            if is_before:
                if len(shared) >= _MOST_SHARED:
                    shared.clear()
                shared[offset] = bytes(pages[to : to + block])
