"""From a kernel address to its struct page, and what the page is used for; include/linux/mm.h, page-flags.h."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import MissingDebugInfo, Unreadable, Why
from gdb_kdump.layout.mm import compound_order, head_page, page_flags, page_types, tail_page_flag
from gdb_kdump.session import Session

_MAX_ORDER = 10
_SAMPLED_RUNS, _SAMPLED_PAGES = 64, 5000  # places in memory, and pages at each
_TAIL = 1  # the bit of compound_head that marks a tail page


@dataclass(frozen=True)
class Page:
    """The struct page at `addr` and the page or compound page that it belongs to.

    `head` is the latter's struct page, `start` the direct-mapped address of its memory, which is a page << `order`.
    `flags` are the names of the head's flags without PG_, `refcount` its reference count; `kind` is what it is used
    for: "slab", "buddy" (free), another page type of the kernel, "reserved", "compound", or "" where the struct page
    does not say.  `is_stray` says that it calls itself a part of what is no page; it is its own head then.
    """

    addr: int
    head: int
    pfn: int
    start: int
    order: int
    flags: tuple[str, ...]
    refcount: int
    kind: str
    is_stray: bool = False

    @property
    def is_slab(self) -> bool:
        return self.kind == "slab"

    @property
    def is_free(self) -> bool:
        """Whether the page allocator has it on a free list of whole blocks."""
        return self.kind == "buddy"


class Pages:
    """Reads the struct pages of one session, which must have them in one array (CONFIG_SPARSEMEM_VMEMMAP)."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = memory = session.memory
        layout, find = session.layout, session.debuginfo.find_address
        self._page = layout.unpacker("page", ("flags", "compound_head", "page_type", "refcount"))
        self._size: int = layout.size("page")
        self._private = layout.offset("page.private")
        self._order = compound_order(layout)
        self.page_size = session.arch.page_size
        """Bytes."""
        max_pfn = find("max_pfn")
        # The variable may be damaged, and the array of all pages is walked up to there.
        noted = session.dump.max_pfn or session.arch.most_pages
        self._max_pfn = min(noted, memory.u64(max_pfn)) if max_pfn is not None else noted
        memory_map = session.arch.memory_map(find, memory.u64, memory.why, session.vmcoreinfo, self._size)
        self._direct_map, self._vmemmap, self._image = memory_map.direct_map, memory_map.vmemmap, memory_map.image
        self._section_pages = session.arch.section_pages
        self._flags = page_flags(layout)
        self._types = page_types(layout)
        self._head_flag = self._flags.get("head", 0)
        self._tail_flag = tail_page_flag(layout)
        self._reserved_flag = self._flags.get("reserved", 0)
        # Where a page type says so, no flag does: 46df8e73a4a3 (v6.10) mm: free up PG_slab.
        self._slab_flag = self._flags.get("slab", 0)
        self._slab_type = self._types.get("slab", (0, 1))

    def page_of(self, addr: int) -> int | None:
        """The struct page of an address in the direct map or the kernel's image, or None; virt_to_page."""
        pfn = (addr - self._direct_map) // self.page_size
        if not 0 <= pfn < self._max_pfn:
            if self._image is None or not 0 <= addr - self._image[0] < self._image[1]:
                return None
            pfn = (addr - self._image[0] + self._image[2]) // self.page_size
        return self._vmemmap + pfn * self._size if 0 <= pfn < self._max_pfn else None

    def pfn_of(self, page: int) -> int:
        """The page frame number of a `struct page *`; page_to_pfn."""
        return (page - self._vmemmap) // self._size

    def is_page(self, page: int) -> bool:
        """Whether a pointer is one to a struct page of this machine."""
        number, rest = divmod(page - self._vmemmap, self._size)
        return not rest and 0 <= number < self._max_pfn

    def described_by(self, addr: int) -> int | None:
        """The `struct page *` that an address lies in, or None where it is not in the array of them."""
        number = (addr - self._vmemmap) // self._size
        return self._vmemmap + number * self._size if 0 <= number < self._max_pfn else None

    def image_alias(self, addr: int) -> int | None:
        """The address in the kernel's image of the memory at one in the direct map, or None."""
        if self._image is None or not self._direct_map <= addr < self._direct_map + self._max_pfn * self.page_size:
            return None
        offset = addr - self._direct_map - self._image[2]
        return self._image[0] + offset if 0 <= offset < self._image[1] else None

    def physical(self, addr: int) -> int | None:
        """The physical address of one in the direct map or the kernel's image, or None; __pa."""
        page = self.page_of(addr)
        return None if page is None else self.pfn_of(page) * self.page_size + addr % self.page_size

    def address_of_physical(self, physical: int) -> int | None:
        """The address in the direct map of a physical one, or None where the machine has no memory there; __va."""
        return self._direct_map + physical if 0 <= physical < self._max_pfn * self.page_size else None

    def address_of(self, page: int) -> int:
        """The address in the direct map of a `struct page *`'s memory; page_address."""
        return self._direct_map + self.pfn_of(page) * self.page_size

    def find_slab(self, addr: int) -> int | None:
        """The struct page of the slab that an address lies in, or None where it is no slab; virt_to_slab.

        Raises Unreadable.
        """
        page = self.page_of(addr)
        if page is None:
            return None
        flags, page_type, head, _ = self._read(page)
        if head:
            page = head
            if not self.is_page(page):
                return None
            flags, page_type, _, _ = self._read(page)
        return page if self._is_slab(flags, page_type) else None

    def find(self, addr: int) -> Page | None:
        """What the struct page of an address says, or None where it has none (vmalloc, modules, user space).

        Raises Unreadable.
        """
        page = self.page_of(addr)
        if page is None:
            return None
        flags, page_type, head, refcount = self._read(page)
        is_stray = bool(head) and not self.is_page(head)
        if head and not is_stray:
            flags, page_type, _, refcount = self._read(head)
        else:
            head = page
        order, used_for = self._order_of(head, flags), self._kind(flags, page_type)
        if used_for in ("", "buddy") and not refcount and head == page:
            head, order, in_block = self._free_block(page)
            used_for = used_for or in_block
        names = tuple(name for name, mask in self._flags.items() if flags & mask)
        return Page(page, head, self.pfn_of(page), self.address_of(head), order, names, refcount, used_for, is_stray)

    def _read(self, page: int) -> tuple[int, int, int, int]:
        """The flags, the page type, the head where it is a tail page (else 0), and the reference count."""
        flags, compound, page_type, refcount = self._page.unpack_from(*self._memory.block(page, self._page.span))
        if self._tail_flag:
            head = compound if flags & self._tail_flag else 0
        else:
            head = head_page(page, self._size, compound - _TAIL) if compound & _TAIL else 0
        return flags, page_type & 0xFFFFFFFF, head, refcount

    def _is_slab(self, flags: int, page_type: int) -> bool:
        mask, value = self._slab_type
        return bool(flags & self._slab_flag) or page_type & mask == value

    def _kind(self, flags: int, page_type: int) -> str:
        if self._is_slab(flags, page_type):
            return "slab"
        for name, (mask, value) in self._types.items():
            if page_type & mask == value and name != "mapcount_underflow":
                return name
        return "reserved" if flags & self._reserved_flag else "compound" if flags & self._head_flag else ""

    def _order_of(self, head: int, flags: int) -> int:
        if not flags & self._head_flag or self._order is None:
            return 0
        return self._memory.u8(head + self._order)

    def _free_block(self, page: int) -> tuple[int, int, str]:
        """The free block that a page stands in the middle of, if any; mm/page_alloc.c: is_free_buddy_page."""
        pfn, (mask, value) = self.pfn_of(page), self._types["buddy"]
        for order in range(_MAX_ORDER + 1):
            head = self._vmemmap + (pfn >> order << order) * self._size
            if self._read(head)[1] & mask == value:
                size = self._memory.u64(head + self._private)
                return (head, size, "buddy") if order <= size <= _MAX_ORDER else (page, 0, "")
        return page, 0, ""

    @property
    def slab_is_a_type(self) -> bool:
        """Whether a page's type says that it is of a slab, and no flag does."""
        return not self._slab_flag

    def some_slabs(self, most: int) -> Iterator[int]:
        """So many struct pages of slabs at most, from all over memory, as far as the dump has them."""
        share = max(1, most // 8)  # of one place: some have none
        for first in range(0, self._max_pfn, max(1, self._max_pfn // _SAMPLED_RUNS)):
            count, found = min(_SAMPLED_PAGES, self._max_pfn - first), 0
            for start, data in self._memory.stream(self._vmemmap + first * self._size, self._size, count):
                numbers = self._slab_numbers(data) if isinstance(data, bytes) else []
                for number in numbers[: min(share - found, most)]:
                    yield start + number * self._size
                    found, most = found + 1, most - 1
            if not most:
                return

    def _slab_numbers(self, data: bytes) -> list[int]:
        """Which of the struct pages in some bytes are those of slabs, by the number of each."""
        flags_at = self._session.layout.offset("page.flags") // 8
        type_at = self._session.layout.offset("page.page_type") // 4
        step, bit, (mask, value) = self._size // 8, self._slab_flag, self._slab_type
        if bit:
            flags = memoryview(data).cast("Q")[flags_at::step].tolist()
            return [number for number, word in enumerate(flags) if word & bit]
        types = memoryview(data).cast("I")[type_at :: step * 2].tolist()
        return [number for number, page_type in enumerate(types) if page_type & mask == value]

    def for_each_slab(self) -> Iterator[tuple[int, int] | Unreadable]:
        """Every slab of the machine as (struct page *, kmem_cache pointer), from the whole array of struct pages.

        Yields an Unreadable for each part of the array that is not in the dump.  Reads past the cache, which the array
        of a large machine would fill.
        """
        cache_at = self._session.layout.member("slab.slab_cache")
        if cache_at.offset % 8 or self._size % 8:
            raise MissingDebugInfo("struct page with aligned members")
        step = self._size // 8
        for first, data in self._memmap():
            if isinstance(data, Unreadable):
                yield data
                continue
            words, slab_pages = memoryview(data).cast("Q"), self._slab_numbers(data)
            caches = cache_at.offset // 8
            for number in slab_pages:
                yield first + number * self._size, words[number * step + caches]

    def _memmap(self) -> Iterator[tuple[int, bytes | Unreadable]]:
        """The array of struct pages in pieces of whole elements, each with its address."""
        for section in range(0, self._max_pfn, self._section_pages):
            start, count = self._vmemmap + section * self._size, min(self._section_pages, self._max_pfn - section)
            # A section that the machine does not have is unmapped as a whole.
            if self._memory.why(start) is Why.UNMAPPED:
                continue
            for addr, piece in self._memory.stream(start, self._size, count):
                if isinstance(piece, bytes):
                    yield addr, piece
                elif piece is not Why.UNMAPPED:
                    yield addr, Unreadable(addr, piece)
