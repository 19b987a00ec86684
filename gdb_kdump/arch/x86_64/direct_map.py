"""Finds where the kernel maps all physical memory in a dump that has lost the variable that says it.

An empty list_head holds its own address twice (include/linux/list.h: INIT_LIST_HEAD), and memory is full of them: each
in a page whose physical address is known tells where the map begins. With KASLR that is a multiple of 1 GiB
(arch/x86/mm/kaslr.c: kernel_randomize_memory), so chance does not look like one.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable

from gdb_kdump.arch.x86_64.paging import IMAGE_MAP

_PAGE = 4096
_ALIGNMENT = 1 << 30
_KERNEL_HALF = 1 << 63
_ENOUGH = 16  # pages that agree
_AGREED = 0.9  # of all that tell anything
_words = struct.Struct(f"<{_PAGE // 8}Q").unpack


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
    """What the empty lists of a page say: none, mostly, or the same."""
    words = _words(page)
    found = set()
    for index, (word, following) in enumerate(zip(words, words[1:])):
        if word == following and _KERNEL_HALF <= word < IMAGE_MAP:
            base = word - physical - 8 * index
            if not base % _ALIGNMENT:
                found.add(base)
    return found
