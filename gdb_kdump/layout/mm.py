"""What this kernel's types say of pages and of slabs: one question each."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.layout import POINTER_SIZE, Layout
from gdb_kdump.layout.members import find_path

_LARGEST_FOLIO = 20  # order of pages: above include/linux/mmzone.h: MAX_FOLIO_ORDER


def page_flags(layout: Layout) -> dict[str, int]:
    """Names of the low bits of page.flags without PG_, as masks, the first of several names of a bit.

    include/linux/page-flags.h: enum pageflags.  Raises MissingDebugInfo.
    """
    numbers = layout.enumerators("pageflags")
    if not numbers:
        raise MissingDebugInfo("enum pageflags")
    numbers.pop("__NR_PAGEFLAGS", None)
    names: dict[int, str] = {}
    for name, number in numbers.items():
        names.setdefault(number, name.removeprefix("PG_"))
    return {name: 1 << number for number, name in names.items()}


def tail_page_flag(layout: Layout) -> int:
    """The bit of page.flags that says that page.compound_head leads to the head of a compound page.

    0 where page.compound_head says it itself, by its bit 0: 1d798ca3f164 (v4.4) mm: make compound_head() robust.
    """
    is_marked = layout.member("page.compound_head").path != "first_page"
    return 0 if is_marked else page_flags(layout).get("tail", 0)


def head_page(page: int, size: int, info: int) -> int:
    """The head of the compound page that a tail page (struct page *, of `size` bytes) is of, by its page.compound_head.

    mm: rework compound_head() for power-of-2 sizeof(struct page) (v7.1): in some configurations it is a mask for the
    tail's own address.  No type tells, but no pointer is one: a mask has all bits down to those of several pages.
    """
    covered = (1 << 64) - info
    is_mask = covered & covered - 1 == 0 and 2 * size <= covered <= size << _LARGEST_FOLIO
    return page & info if is_mask else info


def page_types(layout: Layout) -> dict[str, tuple[int, int]]:
    """The kinds of pages that page.page_type tells: name to (mask, value) with page_type & mask == value.

    4ffca5a96678 (v6.12) mm: support only one page_type per page: a number in the top byte;
    8db00ad56461 (v6.11) mm: allow reuse of the lower 16 bit: bits, each cleared where it holds, in an enum;
    46df8e73a4a3 (v6.10) mm: free up PG_slab: the same with macros, and no slab bit in page.flags any more;
    6e292b9be7f4 (v4.18) mm: split page_type out from _mapcount: before, a free page had the _mapcount
    PAGE_BUDDY_MAPCOUNT_VALUE, which is -128 since ef2b4b95a63a (v2.6.38) mm: PageBuddy and mapcount robustness.
    """
    types = layout.enumerators("pagetype")
    page_type = layout.find_member("page.page_type")
    if not types and page_type is not None and page_type.path == "_mapcount.counter":
        return {"buddy": (0xFFFFFFFF, -128 & 0xFFFFFFFF)}
    numbers = {name: number for name, number in types.items() if name.startswith("PGTY_")}
    if numbers:
        return {name.removeprefix("PGTY_"): (0xFF << 24, number << 24) for name, number in numbers.items()}
    base = types.get("PAGE_TYPE_BASE", 0xF0000000)
    bits = {name: bit for name, bit in types.items() if name.startswith("PG_")} or {"PG_buddy": 0x80}
    if not types and layout.find_member("page.memcg_data") is not None:
        # mm: Convert page kmemcg type to a page memcg flag (v5.11): the macros after that of a type that went away.
        bits |= {"PG_offline": 0x100, "PG_table": 0x200, "PG_guard": 0x400}
    if "slab" not in page_flags(layout):
        bits.setdefault("PG_slab", 0x1000)
    return {name.removeprefix("PG_"): (base | bit, base) for name, bit in bits.items()}


def compound_order(layout: Layout) -> int | None:
    """The byte offset, from the head page, of the byte that has the order of a compound page; None where unknown.

    ebc1baf5c9b4 (v6.6) mm: free up a word in the first tail page: the low byte of the first tail page's flags;
    1c5509be58f6 (v6.3) mm: remove 'First tail page' members from struct page;
    mm: add fields for compound destructor and order into struct page (v4.0): page[1].lru.prev, before.
    """
    if layout.find_member("page.compound_order") is not None:
        return layout.size("page") + layout.offset("page.compound_order")
    if layout.find_struct("folio") is None:
        order = layout.find_member("page.lru_prev")
        return None if order is None else layout.size("page") + order.offset
    candidates = (find_path(layout.struct("folio"), path) for path in ("_folio_order", "_flags_1.f", "_flags_1"))
    order_at = next((member for member in candidates if member is not None), None)
    return None if order_at is None else order_at.offset


def slab_allocator(layout: Layout) -> str:
    """SLUB, SLAB or SLOB, by the members of struct kmem_cache that each has alone.

    16a1d968358a (v6.8) mm/slab: remove mm/slab.c and slab_def.h; 6630e950d532 (v6.4) mm/slob: remove slob.c.
    """
    if layout.find_member("kmem_cache.batchcount") is not None:
        return "SLAB"
    return "SLUB" if layout.find_member("kmem_cache.offset") is not None else "SLOB"


def slab_nodes(layout: Layout, member: str) -> tuple[int, int] | None:
    """Where a struct kmem_cache has each node's `node` or `barn`: the offset of the first pointer, and their distance.

    slab: decouple pointer to barn from kmem_cache_node (v7.1) put both into one array.  None where it has no such one.
    """
    both = layout.find_member("kmem_cache.per_node")
    if both is not None:
        element = both.type.strip_typedefs().target()
        pointer = find_path(element, member)
        return None if pointer is None else (both.offset + pointer.offset, int(element.sizeof))
    alone = layout.find_member(f"kmem_cache.{member}")
    return None if alone is None else (alone.offset, POINTER_SIZE)


def freelist_index_size(layout: Layout) -> int:
    """The bytes of a number in the array of a SLAB slab's free objects.

    a41adfaa23df (v3.15) slab: introduce byte sized index for the freelist of a slab; before, an unsigned int.
    """
    index_type = layout.find_type("freelist_idx_t")
    return 4 if index_type is None else int(index_type.sizeof)


def slab_flags(layout: Layout) -> dict[str, int]:
    """The masks of kmem_cache.flags by their names without SLAB_; include/linux/slab.h, mm/slub.c.

    cc61eb851c9a (v6.9) mm, slab: use an enum to define SLAB_ cache creation flags: numbers of bits that depend on the
    configuration; before that the values were fixed.
    """
    numbers = layout.enumerators("_slab_flag_bits")
    if numbers:
        numbers.pop("_SLAB_FLAGS_LAST_BIT", None)
        return {name.removeprefix("_SLAB_"): 1 << number for name, number in numbers.items()}
    return dict(_FIXED_SLAB_FLAGS)


_FIXED_SLAB_FLAGS = {
    "CONSISTENCY_CHECKS": 0x100,
    "RED_ZONE": 0x400,
    "POISON": 0x800,
    "KMALLOC": 0x1000,
    "HWCACHE_ALIGN": 0x2000,
    "CACHE_DMA": 0x4000,
    "CACHE_DMA32": 0x8000,
    "STORE_USER": 0x10000,
    "RECLAIM_ACCOUNT": 0x20000,
    "PANIC": 0x40000,
    "TYPESAFE_BY_RCU": 0x80000,
    "TRACE": 0x200000,
    "NOLEAKTRACE": 0x800000,
    "ACCOUNT": 0x4000000,
    "OBJECT_POISON": 0x80000000,
}
