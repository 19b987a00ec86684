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
        try:
            for index, (offset, stored, flags) in enumerate(descriptors):
                if flags not in (_STORED, _ZLIB) or stored > block:
                    return None
                self._put(offset, stored, flags, pages, index * block)
        except ValueError:
            return None
        return bytes(pages) if len(pages) == size else bytes(pages[start : start + size])

    def _put(self, offset: int, size: int, flags: int, pages: bytearray, at: int) -> None:
        """Put a page among others; raises ValueError."""
        block, shared = self._kdump.block, self._shared.get(offset)
        if shared is not None:
            pages[at : at + block] = shared
            return
        first = offset - self._data_at
        is_before = first < 0
        if not 0 <= first <= len(self._data) - size:
            self._data, self._data_at, first = self._kdump.file.read(offset, _READ_BYTES), offset, 0
            self._inflater.take(self._data)
        if flags == _ZLIB:
            self._inflater.put(first, size, pages, at, block)
        elif size == block and first + size <= len(self._data):
            pages[at : at + block] = self._data[first : first + size]
        else:
            raise ValueError("less than a page")
        if is_before:
            if len(self._shared) >= _MOST_SHARED:
                self._shared.clear()
            self._shared[offset] = bytes(pages[at : at + block])
