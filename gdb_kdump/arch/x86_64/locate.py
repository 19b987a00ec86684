"""Finds the kernel's image, its page tables and its KASLR offset in a dump that does not say where they are.

The vmlinux has the text of linux_banner and its distance from the image's start; the image lies at a multiple of
2 MiB in physical memory, so one page in 512 can hold the banner. The kernel's own page tables are in the image, and
say where it is mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Union

from gdb_kdump.arch.x86_64.paging import IMAGE_MAP, IMAGE_SIZE, PAGE_SIZE, TOP_TABLES, PageTables
from gdb_kdump.errors import Why

_ALIGNMENT = 1 << 21  # arch/x86/Kconfig: the least CONFIG_PHYSICAL_ALIGN of a 64-bit kernel
_TOP = 1 << 64

ReadMemory = Callable[[int, int], Union[bytes, Why]]


SYMBOLS = ("linux_banner", *TOP_TABLES, "sme_me_mask")
"""The symbols of a vmlinux that vmlinux_of() takes."""


@dataclass(frozen=True)
class Vmlinux:
    """What is needed of a vmlinux: link-time addresses, and the text of linux_banner."""

    banner: bytes
    banner_at: int
    top_table: int
    """init_top_pgt, or what older kernels call it."""
    encryption_at: int | None = None
    """sme_me_mask, a u64, where the kernel has it."""


def vmlinux_of(banner: bytes, symbols: Mapping[str, int]) -> Vmlinux | None:
    """What locate() needs, by link-time addresses of some SYMBOLS; None where they are too few."""
    banner_at, top_table = symbols.get("linux_banner"), next(filter(None, map(symbols.get, TOP_TABLES)), None)
    if banner_at is None or top_table is None:
        return None
    return Vmlinux(banner, banner_at, top_table, symbols.get("sme_me_mask"))


@dataclass(frozen=True)
class Located:
    """Where the kernel is: what to add to a link-time address for the physical one (less the image's map) and for the
    virtual one, and the tables."""

    phys_base: int
    """As VMCOREINFO has it: virtual address - __START_KERNEL_map + phys_base is the physical address."""
    kaslr_offset: int
    tables: PageTables


def locate(vmlinux: Vmlinux, read: ReadMemory, memory: Iterable[tuple[int, int]]) -> list[Located]:
    """The kernels of this vmlinux in physical memory: one, or none, or several when it has been loaded twice.

    `read` gives the bytes at a physical address, at most a page's; `memory` says where there are any: ranges that do
    not overlap, from, to before.
    """
    kernels = []
    distance = vmlinux.banner_at - IMAGE_MAP
    places = (range(start + (distance - start) % _ALIGNMENT, end, _ALIGNMENT) for start, end in memory)
    for banner_at in chain.from_iterable(places):
        if not _matches(read, banner_at, vmlinux.banner):
            continue
        load = banner_at - distance
        for levels in (4, 5):
            tables = _tables(vmlinux, read, load, levels)
            offset = _virtual_offset(tables, vmlinux.banner_at, banner_at)
            if offset is not None:
                phys_base = load - offset
                tables.linear.append((IMAGE_MAP, IMAGE_SIZE, phys_base))
                kernels.append(Located(phys_base, offset, tables))
                break
    return kernels


def _matches(read: ReadMemory, physical: int, text: bytes) -> bool:
    """Whether the text is there; it may run on into the next page."""
    first = min(len(text), PAGE_SIZE - physical % PAGE_SIZE)
    if read(physical, first) != text[:first]:
        return False
    return first == len(text) or read(physical + first, len(text) - first) == text[first:]


def _tables(vmlinux: Vmlinux, read: ReadMemory, load: int, levels: int) -> PageTables:
    encryption = 0
    if vmlinux.encryption_at is not None:
        mask = read(vmlinux.encryption_at - IMAGE_MAP + load, 8)
        if isinstance(mask, bytes):
            encryption = int.from_bytes(mask, "little")
    root = vmlinux.top_table - IMAGE_MAP + load
    return PageTables(root, levels, lambda physical: read(physical, PAGE_SIZE), encryption)


def _virtual_offset(tables: PageTables, linked: int, physical: int) -> int | None:
    """How far from its link-time address the tables map what is at a physical address, or None."""
    for offset in range(0, IMAGE_SIZE, _ALIGNMENT):
        if linked + offset < IMAGE_MAP + IMAGE_SIZE and tables.physical(linked + offset) == physical:
            return offset
    return None
