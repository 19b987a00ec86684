"""The x86-64 page table walk, for dumps where libkdumpfile's own must not be trusted.

libkdumpfile 0.5.1 takes a page table that is cut off for one that maps nothing, and a page that is cut off for zeros;
walking ourselves we see every page on the way, and can say which of them is not in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Union

from gdb_kdump.errors import Why
from gdb_kdump.formats.vmcoreinfo import number, symbol

PAGE_SIZE = 4096  # bytes
TOP_TABLES = ("init_top_pgt", "init_level4_pgt", "swapper_pg_dir")
"""The kernel's topmost page table: its names, newest first."""
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
_entries = struct.Struct("<Q").iter_unpack

Table = Union[bytes, Why]


def virtual_bits(vmcoreinfo: dict[str, str]) -> int:
    """The bits of a virtual address that the page tables translate: of four levels, or of five."""
    return 57 if number(vmcoreinfo, "pgtable_l5_enabled") else 48


def known_tables(
    vmcoreinfo: dict[str, str], noted: Callable[[], int | None], read_page: Callable[[int], Table]
) -> PageTables | None:
    """The kernel's page tables where VMCOREINFO says where they are, else None.

    `noted` gives phys_base as the dump's own headers have it, which kernels before 4.10 need.
    """
    top = next(filter(None, (symbol(vmcoreinfo, name) for name in TOP_TABLES)), None)
    phys_base = number(vmcoreinfo, "phys_base")
    if phys_base is None and top is not None:
        phys_base = noted()
    if top is None or phys_base is None:
        return None
    levels = 5 if number(vmcoreinfo, "pgtable_l5_enabled") else 4
    # phys_base may be negative, as an unsigned number too: the image was loaded below where it was linked for.
    root = (top - IMAGE_MAP + phys_base) % _TOP
    tables = PageTables(root & -PAGE_SIZE, levels, read_page, number(vmcoreinfo, "sme_mask") or 0)
    tables.linear.append((IMAGE_MAP, IMAGE_SIZE, phys_base))
    return tables


def phys_base_of(segments: Iterable[tuple[int, int]]) -> int | None:
    """phys_base by the (virtual, physical) addresses of a dump's segments, or None where none is of the image."""
    image = (segment for segment in segments if IMAGE_MAP <= segment[0] < IMAGE_MAP + IMAGE_SIZE)
    lowest = min(image, key=lambda segment: segment[0], default=None)
    return None if lowest is None else lowest[1] - (lowest[0] - IMAGE_MAP)


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

    def mapped(self, start: int, end: int) -> Iterator[tuple[int, int, int | Why]]:
        """What is mapped of the kernel's half, from `start` to before `end`: address, bytes, physical address.

        In place of the latter, why a table cannot be read.  Each table is gone through once: those of KASAN's zeros
        and of espfix occur thousands of times (arch/x86/kernel/espfix_64.c).
        """
        start = max(start, _TOP - (1 << self._address_bits - 1))
        root = _TOP - (1 << self._address_bits)
        yield from self._mapped_by(self._root, self._top_shift, root, start, min(end, _TOP), set())

    def _mapped_by(
        self, table_at: int, shift: int, base: int, start: int, end: int, seen: set[int]
    ) -> Iterator[tuple[int, int, int | Why]]:
        """The same of one table, whose entries map 1 << `shift` bytes each from `base` on."""
        first, last = max(0, start - base >> shift), min(511, end - 1 - base >> shift)
        if first > last:
            return
        table = self._table(table_at)
        if isinstance(table, Why):
            low, high = max(start, base), min(end, base + (512 << shift))
            yield low, high - low, table
            return
        for index, (entry,) in enumerate(_entries(table[first * 8 : last * 8 + 8]), first):
            if not entry & _PRESENT:
                continue
            addr, physical = base + (index << shift), entry & self._frame
            if shift > 12 and not (entry & _HUGE and shift <= 30):
                if physical not in seen:
                    seen.add(physical)
                    yield from self._mapped_by(physical, shift - 9, addr, start, end, seen)
                continue
            low, high = max(start, addr), min(end, addr + (1 << shift))
            yield low, high - low, (physical & -(1 << shift)) + low - addr

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
