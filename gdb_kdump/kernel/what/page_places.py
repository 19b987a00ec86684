"""What the memory at an address of the direct map, of vmalloc, or of a struct page is: an object, or a page of what."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.mm.page_users import PageUsers
from gdb_kdump.kernel.mm.pages import Page, Pages
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.mm.vmap_areas import VmapArea, VmapAreas
from gdb_kdump.kernel.what.describe import Names
from gdb_kdump.kernel.what.place import Place
from gdb_kdump.records.owners import Kind, Link, at
from gdb_kdump.records.slab import SlabObject
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16, is_kernel_address
from gdb_kdump.walks import Gaps

_FLAGS_IN_MAPPING = 3  # include/linux/page-flags.h: PAGE_MAPPING_FLAGS
_ANON = 1  # PAGE_MAPPING_ANON


class PagePlaces:
    """Tells it of one session's memory; what keeps it from telling goes to `gaps`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names = session.once(Names)
        self.gaps = Gaps()
        self._pages: Pages | None = None
        self._vmap_areas: VmapAreas | None = None
        try:
            self._pages = session.once(Pages)
        except (MissingDebugInfo, Unreadable) as error:
            self.gaps.note(f"no page and no slab can be told: {error}")
        try:
            self._vmap_areas = session.once(VmapAreas)
        except MissingDebugInfo as error:
            self.gaps.note(f"no area of vmalloc can be told: {error}")
        layout = session.layout
        self._mapping, self._index = layout.find_member("page.mapping"), layout.find_member("page.index")

    def find(self, addr: int) -> Place | None:
        """The place of an address, or None where there is no such page or area."""
        pages = self._pages
        if pages is not None:
            page = pages.described_by(addr)
            if page is not None:
                words = self._names.at("page", page, addr - page)
                link = Link("page", page, addr - page, words, ", which describes")
                return Place(Kind.STRUCT_PAGE, (link, *self._described(pages, pages.address_of(page))))
            if pages.page_of(addr) is not None:
                return self._of_page(pages, addr)
        area = self._vmap_areas.find(addr, self.gaps) if self._vmap_areas is not None else None
        return None if area is None else self._in_area(area, addr)

    def _described(self, pages: Pages, addr: int) -> Iterator[Link]:
        """What a struct page says of the page at an address: of a slab its cache, and none of its objects."""
        frame = f"page frame {pages.pfn_of(pages.page_of(addr) or 0):#x} at {hex16(addr)}"
        try:
            page, slabs = pages.find(addr), allocator(self._session)
            slab = slabs.find_slab(addr) if isinstance(slabs, SlubAllocator) else None
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            yield Link("page", addr, 0, f"{frame}; no more is known: {error}")
            return
        assert page is not None, "it has a struct page"
        of = f" of the cache {escape(slab.cache.name)}" if slab is not None else ""
        yield Link("page", addr, 0, f"{frame}{_page_words(page)}{of}", ", which is")
        yield from [*self._user_of(page)] or self._mapped(page)

    def _mapped(self, page: Page) -> list[Link]:
        """The area of vmalloc that a page is mapped in."""
        mapped = () if self._vmap_areas is None else self._vmap_areas.mapping(page.addr, self.gaps)
        return [
            Link(
                "vmap area", area.start, start - area.start, f"mapped at {hex16(start)} in the {self._area_words(area)}"
            )
            for area, start in mapped[:1]
        ]

    def _of_page(self, pages: Pages, addr: int) -> Place:
        """What lies at an address that has a struct page."""
        physical, alias = pages.physical(addr), pages.image_alias(addr)
        page, frame = None, f"page frame {pages.pfn_of(pages.page_of(addr) or 0):#x}"
        try:
            page = pages.find(addr)
            if page is not None and page.is_slab:
                slab_object = allocator(self._session).find_object(addr)
                start = None if slab_object is None else slab_object.start
                return Place(Kind.SLAB, (self._in_slab(slab_object, page, addr),), start, slab_object, physical)
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            link = Link("page", addr, 0, f"{frame}, and no more is known: {error}")
            return Place(Kind.PAGE, (link,), None, None, physical)
        assert page is not None, "page_of() has found it"
        offset = addr - (page.start if page.order else addr & -pages.page_size)
        link = Link("page", page.addr, offset, at(frame, offset, _page_words(page)), ", which is")
        mapped = () if self._vmap_areas is None else self._vmap_areas.mapping(page.addr, self.gaps)
        aliases = [start + addr % pages.page_size for _, start in mapped]
        low, high = self._session.debuginfo.image()
        if alias is not None and low <= alias < high and "reserved" in page.flags:
            aliases.append(alias)
        return Place(Kind.PAGE, (link, *self._user_of(page)), page.start, None, physical, tuple(aliases))

    def _in_slab(self, slab_object: SlabObject | None, page: Page, addr: int) -> Link:
        if slab_object is None:
            words = at(f"slab {hex16(page.start)}", addr - page.start, ", in none of its objects")
            return Link("slab", page.start, addr - page.start, words)
        cache, start = slab_object.cache, slab_object.start
        why = f": {slab_object.reason}" if slab_object.reason else ""
        slabs = allocator(self._session)
        others = slabs.aliases(cache) if isinstance(slabs, SlubAllocator) else ()
        also = f" (and {', '.join(map(escape, others))})" if others else ""
        words = at(f"{slab_object.state} object {hex16(start)}", addr - start, f" of {escape(cache.name)}{also}{why}")
        return Link("slab object", start, addr - start, words)

    def _user_of(self, page: Page) -> Iterator[Link]:
        """Who has a page, where the struct page itself says so: a page_pool, a file, or a process's memory."""
        memory = self._session.memory
        if page.kind not in ("", "compound") or not page.refcount:
            return
        try:
            pool = self._session.once(PageUsers).pool(page)
            if pool is not None:
                yield Link("page_pool", pool, 0, f"one of {self._names.at('page_pool', pool, 0)}")
                return
            mapping = memory.ptr(page.head + self._mapping.offset) if self._mapping is not None else 0
            if mapping & _FLAGS_IN_MAPPING == _ANON and is_kernel_address(mapping):
                anon_vma = mapping & ~_FLAGS_IN_MAPPING
                yield Link("anon_vma", anon_vma, 0, f"the memory of processes (anon_vma {hex16(anon_vma)})")
            elif is_kernel_address(mapping) and not mapping & _FLAGS_IN_MAPPING:
                yield from self._file(page, mapping)
        except (Unreadable, MissingDebugInfo):
            return

    def _file(self, page: Page, mapping: int) -> Iterator[Link]:
        """The inode of a page of a file, where that has this mapping, too."""
        inode = self._session.pointer(mapping, "address_space.host")
        own = self._session.pointer(inode, "inode.i_mapping") if is_kernel_address(inode) else 0
        if mapping in (own, inode + self._session.layout.offset("inode.i_data")):
            index = self._session.memory.u64(page.head + self._index.offset) if self._index is not None else 0
            yield Link("address_space", mapping, 0, f"page {index:#x}", " of the contents of")
            yield Link("inode", inode, 0, self._names.at("inode", inode, 0))

    def _area_words(self, area: VmapArea, offset: int = 0) -> str:
        caller = f", asked for by {self._names.function(area.caller)}" if area.caller else ""
        return at(f"{area.use or 'vmap'} area {area.start:#x}-{area.end:#x}", offset, caller)

    def _in_area(self, area: VmapArea, addr: int) -> Place:
        words = self._area_words(area, addr - area.start)
        physical, aliases = None, tuple[int, ...]()
        try:
            page = self._vmap_areas.page_at(area, addr) if self._vmap_areas is not None else None
            if page is not None and self._pages is not None and self._pages.is_page(page):
                alias = self._pages.address_of(page) + addr % self._pages.page_size
                physical, aliases = self._pages.physical(alias), (alias,)
        except Unreadable:
            pass  # where its pages are listed is not in the dump
        link = Link("vmap area", area.start, addr - area.start, words)
        return Place(Kind.VMAP, (link,), area.start, None, physical, aliases)


def _page_words(page: Page) -> str:
    what = page.kind or ("in use" if page.refcount else "not in use")
    size = f", part of 2^{page.order} pages" if page.order else ""
    flags = f", flags {' '.join(page.flags)}" if page.flags else ""
    return f" (struct page {hex16(page.addr)}): {_KINDS.get(what, what)}{size}, refcount {page.refcount}{flags}"


_KINDS = {"buddy": "free (buddy)", "table": "page table", "compound": "in use", "large_kmalloc": "large kmalloc"}
