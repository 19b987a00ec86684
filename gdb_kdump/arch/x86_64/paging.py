"""The x86-64 page table walk, for dumps where libkdumpfile's own must not be trusted.

libkdumpfile 0.5.1 takes a page table that is cut off for one that maps nothing, and a page that is cut off for zeros;
walking ourselves we see every page on the way, and can say which of them is not in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Union

from gdb_kdump.errors import Why

PAGE_SIZE = 4096  # bytes
IMAGE_MAP = 0xFFFFFFFF80000000  # arch/x86/include/asm/page_64_types.h: __START_KERNEL_map
IMAGE_SIZE = 1 << 30  # KERNEL_IMAGE_SIZE with KASLR; modules follow
_TOP = 1 << 64
_PRESENT = 1 << 0
_HUGE = 1 << 7
_FRAME = 0x000FFFFFFFFFF000
_MOST_TABLES = 2048
_REGION_SHIFT = 21
_REGION = 1 << _REGION_SHIFT
_MOST_REGIONS = 8192

_entry = struct.Struct("<Q").unpack_from

Table = Union[bytes, Why]


class PageTables:
    """Translates virtual addresses by the tables under `root`, the physical address of the topmost one.

    `levels` is 4 or 5; `read_page` gives the page at a physical address, or why there is none; `encryption` holds the
    bits that AMD's memory encryption sets in an entry (VMCOREINFO's sme_mask). Where a table cannot be read, an address
    is looked for in `linear`: (first address, size, physical address) of areas that the kernel maps in one piece.
    """

    def __init__(self, root: int, levels: int, read_page: Callable[[int], Table], encryption: int = 0) -> None:
        self._root = root
        self._top_shift = 12 + 9 * (levels - 1)
        self._address_bits = 12 + 9 * levels
        self._frame = _FRAME & ~encryption
        self._read_page = read_page
        self.linear: list[tuple[int, int, int]] = []
        self._tables: dict[int, Table] = {}
        self._regions: dict[int, int | Table] = {}  # what _region() said

    def physical(self, addr: int) -> int | Why:
        """The physical address of `addr`, or UNMAPPED, or why a table on the way cannot be read."""
        region = self._regions.get(addr >> _REGION_SHIFT)
        if region is None:
            if len(self._regions) >= _MOST_REGIONS:
                self._regions.clear()
            region = self._regions[addr >> _REGION_SHIFT] = self._region(addr)
        if isinstance(region, int):
            return region | addr & _REGION - 1
        if isinstance(region, Why):
            return region if region is Why.UNMAPPED else self._without_tables(addr, region)
        (entry,) = _entry(region, (addr >> 12 & 511) * 8)
        return entry & self._frame | addr & 0xFFF if entry & _PRESENT else Why.UNMAPPED

    def in_one_piece(self, addr: int) -> int:
        """For how many bytes the physical addresses follow one another for sure, where `physical` has just found one.

        More than the rest of a page only in an area that the kernel maps by large pages.
        """
        end = _REGION if isinstance(self._regions.get(addr >> _REGION_SHIFT), int) else PAGE_SIZE
        return end - addr % end

    def _region(self, addr: int) -> int | Table:
        """The physical address of the 2 MiB around `addr` where they are in one piece, else the table of its pages."""
        if addr >> self._address_bits - 1 not in (0, (1 << 65 - self._address_bits) - 1):
            return Why.UNMAPPED  # not canonical
        table_at, shift = self._root, self._top_shift
        while True:
            table = self._table(table_at)
            if isinstance(table, Why) or shift == 12:
                return table
            (entry,) = _entry(table, (addr >> shift & 511) * 8)
            if not entry & _PRESENT:
                return Why.UNMAPPED
            if entry & _HUGE and shift <= 30:
                below = (1 << shift) - 1
                return int(entry) & self._frame & ~below | addr & below & -_REGION
            table_at = entry & self._frame
            shift -= 9

    def _without_tables(self, addr: int, why: Why) -> int | Why:
        for start, size, physical in self.linear:
            if start <= addr < start + size:
                return (addr - start + physical) % _TOP
        return why

    def _table(self, physical: int) -> Table:
        table = self._tables.get(physical)
        if table is None:
            if len(self._tables) >= _MOST_TABLES:
                self._tables.clear()
            table = self._tables[physical] = self._read_page(physical)
        return table
