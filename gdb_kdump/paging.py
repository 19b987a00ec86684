"""The x86-64 page table walk, for dumps where libkdumpfile's own must not be trusted.

libkdumpfile 0.5.1 takes a page table that is cut off for one that maps nothing, and a page that is cut off for zeros;
walking ourselves we see every page on the way, and can say which of them is not in the file.
"""

from __future__ import annotations

import struct
from typing import Callable, Dict, Union

from gdb_kdump.errors import Why

IMAGE_MAP = 0xFFFFFFFF80000000  # arch/x86/include/asm/page_64_types.h: __START_KERNEL_map
_IMAGE_END = IMAGE_MAP + (1 << 30)  # KERNEL_IMAGE_SIZE with KASLR; modules follow
_PRESENT = 1 << 0
_HUGE = 1 << 7
_FRAME = 0x000FFFFFFFFFF000
_MOST_TABLES = 2048

_entry = struct.Struct("<Q").unpack_from

Table = Union[bytes, Why]


class PageTables:
    """Translates virtual addresses by the tables under `root`, the physical address of the topmost one.

    `levels` is 4 or 5; `read_page` gives the page at a physical address, or why there is none; `encryption` holds the
    bits that AMD's memory encryption sets in an entry (VMCOREINFO's sme_mask); `image_base` is the physical address
    behind __START_KERNEL_map, by which the kernel's image is found even when a table is lost.
    """

    def __init__(
        self,
        root: int,
        levels: int,
        read_page: Callable[[int], Table],
        encryption: int = 0,
        image_base: int | None = None,
    ) -> None:
        self._root = root
        self._top_shift = 12 + 9 * (levels - 1)
        self._address_bits = 12 + 9 * levels
        self._frame = _FRAME & ~encryption
        self._read_page = read_page
        self._image_base = image_base
        self._tables: Dict[int, Table] = {}

    def physical(self, addr: int) -> int | Why:
        """The physical address of `addr`, or UNMAPPED, or why a table on the way cannot be read."""
        if addr >> self._address_bits - 1 not in (0, (1 << 65 - self._address_bits) - 1):
            return Why.UNMAPPED  # not canonical
        table_at, shift = self._root, self._top_shift
        while True:
            table = self._table(table_at)
            if isinstance(table, Why):
                if self._image_base is not None and IMAGE_MAP <= addr < _IMAGE_END:
                    return addr - IMAGE_MAP + self._image_base
                return table
            (entry,) = _entry(table, (addr >> shift & 511) * 8)
            if not entry & _PRESENT:
                return Why.UNMAPPED
            if shift == 12 or (entry & _HUGE and shift <= 30):
                below = (1 << shift) - 1
                return entry & self._frame & ~below | addr & below  # type: ignore[no-any-return]
            table_at = entry & self._frame
            shift -= 9

    def _table(self, physical: int) -> Table:
        table = self._tables.get(physical)
        if table is None:
            if len(self._tables) >= _MOST_TABLES:
                self._tables.clear()
            table = self._tables[physical] = self._read_page(physical)
        return table
