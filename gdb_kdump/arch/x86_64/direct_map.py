"""Where the kernel maps all physical memory: by its variable, or looked for in a dump that has lost that.

An empty list_head holds its own address twice (include/linux/list.h: INIT_LIST_HEAD), and memory is full of them: each
in a page whose physical address is known tells where the map begins. With KASLR that is a multiple of 1 GiB
(arch/x86/mm/kaslr.c: kernel_randomize_memory), so chance does not look like one.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gdb_kdump.arch.x86_64.paging import IMAGE_MAP, IMAGE_SIZE, PAGE_SIZE
from gdb_kdump.errors import Why

_ALIGNMENT = 1 << 30
_KERNEL_HALF = 1 << 63
_ENOUGH = 16  # pages that agree
_AGREED = 0.9  # of all that tell anything
# Where the direct map begins when it is not randomized, oldest first; Documentation/arch/x86/x86_64/mm.rst.
# d52888aa2753 (v4.20) x86/mm: Move LDT remap out of KASLR region on 5-level paging: what was its begin is unmapped now.
_PAGE_OFFSETS = (0xFFFF880000000000, 0xFFFF888000000000)
_VMEMMAP = 0xFFFFEA0000000000  # where the kernel does not move it; Documentation/arch/x86/x86_64/mm.rst
_ALWAYS_MAPPED = 1 << 20  # bytes from its begin: after the first MiB, every machine has memory
_words = struct.Struct(f"<{PAGE_SIZE // 8}Q").unpack


def direct_map(
    find_address: Callable[[str], int | None], read_u64: Callable[[int], int], why: Callable[[int], Why | None]
) -> int:
    """The address of the kernel's direct map of physical memory; arch/x86/include/asm/page_64_types.h: PAGE_OFFSET.

    `find_address` finds a symbol, `read_u64` and `why` (there is no byte at an address, or None) read memory.
    Raises Unreadable where a variable has it and is not in the dump.
    """
    randomized = find_address("page_offset_base")
    if randomized is not None:
        return read_u64(randomized)
    mapped = (base for base in _PAGE_OFFSETS if why(base + _ALWAYS_MAPPED) in (None, Why.FILTERED))
    return next(mapped, _PAGE_OFFSETS[-1])


@dataclass(frozen=True)
class MemoryMap:
    """Where a running kernel has physical memory, and the struct pages of it."""

    direct_map: int
    vmemmap: int
    image: tuple[int, int, int] | None


def memory_map(
    find_address: Callable[[str], int | None],
    read_u64: Callable[[int], int],
    why: Callable[[int], Why | None],
    vmcoreinfo: Mapping[str, str],
) -> MemoryMap:
    """The kernel's memory map; the arguments are those of direct_map().  Raises Unreadable.

    The image is known where VMCOREINFO has phys_base: 401721ecd1dc (v4.10) kexec: export the value of phys_base.
    """
    vmemmap, phys_base = find_address("vmemmap_base"), vmcoreinfo.get("NUMBER(phys_base)")
    return MemoryMap(
        direct_map(find_address, read_u64, why),
        _VMEMMAP if vmemmap is None else read_u64(vmemmap),
        None if phys_base is None else (IMAGE_MAP, IMAGE_SIZE, int(phys_base)),
    )


def find_direct_map(pages: Iterable[tuple[int, bytes]]) -> int | None:
    """The address of the direct map, or None; `pages` are physical addresses and contents, read until it is certain.

    Mirrors include/linux/list.h: list_empty, in every page at once.
    """
    votes: Counter[int] = Counter()
    for physical, page in pages:
        votes.update(_bases(physical, page))
        total = sum(votes.values())
        if total >= _ENOUGH:
            base, count = votes.most_common(1)[0]
            if count >= _ENOUGH and count >= _AGREED * total:
                return base
    return None


def _bases(physical: int, page: bytes) -> set[int]:
    """The addresses of the direct map that the empty lists of a page mean: none, mostly, or one."""
    words = _words(page)
    bases = set()
    for index, (word, following) in enumerate(zip(words, words[1:])):
        if word == following and _KERNEL_HALF <= word < IMAGE_MAP:
            base = word - physical - 8 * index
            if not base % _ALIGNMENT:
                bases.add(base)
    return bases
