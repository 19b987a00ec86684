"""What memory an address lies in: a symbol, a stack, an object of a slab cache, a page, an area of vmalloc."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu_areas import PerCpuAreas
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.mm.pages import Page, Pages
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.mm.vmap_areas import VmapArea, VmapAreas
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.stack.whose_stack import StackOwners
from gdb_kdump.records.owners import Kind, Link
from gdb_kdump.records.slab import SlabObject
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16, is_kernel_address
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Place:
    """The memory that an address lies in, from the inside out, and the object there, if an allocator knows it.

    `start` is where that begins.  `may_be_owned` says whether something may point to it, as to no code.
    """

    kind: Kind
    links: tuple[Link, ...]
    start: int | None = None
    may_be_owned: bool = True


class Places:
    """Tells of the memory of one session what it is; what keeps it from telling goes to `gaps`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._source = session.once(Source)
        self._modules = session.once(Modules)
        self._half = session.arch.address_bits(session.vmcoreinfo) - 1
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

    def of(self, addr: int) -> Place:
        """The place of an address."""
        if addr >> self._half not in (0, (1 << 64 - self._half) - 1):
            return _place(Kind.NON_CANONICAL, Link("", addr, 0, f"{hex16(addr)} is no address: it is not canonical"))
        if not addr >> self._half:
            words = f"{hex16(addr)} is an address of user space, or a physical one (kwhat -p), and none of the kernel's"
            return _place(Kind.USER, Link("", addr, 0, words))
        if not is_kernel_address(addr):
            words = f"{hex16(addr)} is no address: it is {addr - (1 << 64)}, as an error is returned"
            return _place(Kind.NOWHERE, Link("", addr, 0, words))
        return self._stack(addr) or self._code_or_data(addr) or self._data(addr) or self._nowhere(addr)

    def _nowhere(self, addr: int) -> Place:
        why = self._memory.why(addr)
        words = "no page, symbol or area of the kernel that is known" if why is None else why.sentence
        return _place(Kind.NOWHERE, Link("", addr, 0, f"{hex16(addr)}: {words}"))

    def _stack(self, addr: int) -> Place | None:
        stacks = self._session.once(StackOwners)
        stack = stacks.find(addr)
        if stack is None:
            return None
        of = stack.name or "stack"
        return Place(Kind.STACK, (Link("stack", stack.low, addr - stack.low, f"{of} {hex16(stack.low)}"),))

    def _code_or_data(self, addr: int) -> Place | None:
        if self._source.in_kernel(addr):
            return self._in_image(addr, "")
        module = self._modules.find(addr)
        if module is not None:
            return self._in_module(module, addr)
        generated = self._source.find_generated(addr)
        if generated is None:
            return None
        link = Link("generated code", generated.start, addr - generated.start, generated.name)
        return Place(Kind.GENERATED, (link,), may_be_owned=False)

    def _in_image(self, addr: int, note: str) -> Place:
        known = self._session.debuginfo.symbol_at(addr)
        if known is None:
            start, _ = self._session.debuginfo.image()
            return Place(Kind.IMAGE, (Link("image", start, addr - start, f"the kernel's image, in no symbol{note}"),))
        symbol, offset = known
        link = Link(
            "function" if symbol.is_code else "variable", addr - offset, offset, symbol_words(symbol.name) + note
        )
        return Place(Kind.SYMBOL, (link,), may_be_owned=not symbol.is_code)

    def _in_module(self, module: Module, addr: int) -> Place:
        of = Link("module", module.base, addr - module.base, f"module {escape(module.name)}")
        try:
            known = self._modules.find_symbol(module, addr)
        except (Unreadable, Corrupt, MissingDebugInfo):
            known = None
        if known is None:
            return Place(Kind.MODULE, (of,))
        name, offset = known
        return Place(Kind.MODULE, (Link("symbol", addr - offset, offset, f"{symbol_words(escape(name))}"), of))

    def _data(self, addr: int) -> Place | None:
        percpu = self._session.once(PerCpuAreas).find(addr)
        if percpu is not None:
            name = f"per-CPU variable {percpu.name}" if percpu.name else "per-CPU memory of alloc_percpu()"
            link = Link("per-CPU variable", percpu.addr, percpu.offset, f"{name} of CPU {percpu.cpu}")
            return Place(Kind.PERCPU, (link,), percpu.addr if percpu.name else None)
        if self._pages is not None:
            page = self._pages.described_by(addr)
            if page is not None:
                return self._struct_page(page, addr - page)
            if self._pages.page_of(addr) is not None:
                return self._in_page(addr)
        area = self._vmap_areas.find(addr, self.gaps) if self._vmap_areas is not None else None
        return None if area is None else self._in_area(area, addr)

    def _struct_page(self, page: int, offset: int) -> Place:
        assert self._pages is not None
        addr = self._pages.address_of(page)
        link = Link("page", page, offset, f"struct page {hex16(page)}", ", which describes")
        return Place(Kind.STRUCT_PAGE, (link, *self._in_page(addr).links), may_be_owned=False)

    def _in_page(self, addr: int) -> Place:
        """What lies in the direct map."""
        assert self._pages is not None
        alias = self._pages.image_alias(addr)
        try:
            page = self._pages.find(addr)
            if page is not None and page.is_slab:
                slab_object = allocator(self._session).find_object(addr)
                return Place(Kind.SLAB, tuple(self._in_slab(slab_object, page, addr)), _start(slab_object))
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            words = f"page frame {self._pages.pfn_of(self._pages.page_of(addr) or 0):#x}, and no more: {error}"
            return Place(Kind.PAGE, (Link("page", addr, 0, words),))
        assert page is not None
        if alias is not None and self._source.in_kernel(alias) and "reserved" in page.flags:
            return self._in_image(alias, f", which is {hex16(alias)} in the kernel's image")
        return Place(Kind.PAGE, tuple(self._page_links(page, addr)), page.start)

    def _in_slab(self, slab_object: SlabObject | None, page: Page, addr: int) -> Iterator[Link]:
        if slab_object is None:
            yield Link("slab", page.start, addr - page.start, f"slab {hex16(page.start)}, in none of its objects")
            return
        cache = slab_object.cache
        start, state = slab_object.start, slab_object.state
        why = f": {slab_object.reason}" if slab_object.reason else ""
        slabs = allocator(self._session)
        others = slabs.aliases(cache) if isinstance(slabs, SlubAllocator) else ()
        also = f" (with it {', '.join(map(escape, others))})" if others else ""
        words = f"{state} object {hex16(start)} of {escape(cache.name)}{also}{why}"
        yield Link("slab object", start, addr - start, words)

    def _page_links(self, page: Page, addr: int) -> Iterator[Link]:
        what = page.kind or ("in use" if page.refcount else "not in use")
        size = f", part of 2^{page.order} pages from {hex16(page.start)}" if page.order else ""
        flags = f"; flags {', '.join(page.flags)}" if page.flags else ""
        words = f"page {hex16(page.addr)} (pfn {page.pfn:#x}): {what}{size}, refcount {page.refcount}{flags}"
        yield Link("page", page.addr, addr % self._session.arch.page_size, words)

    def _in_area(self, area: VmapArea, addr: int) -> Place:
        caller = ""
        if area.caller:
            place = self._code_or_data(area.caller)
            named = place.links[0] if place is not None else None
            caller = f", asked for by {named.text}+{named.offset:#x}" if named is not None else ""
        words = f"{area.use or 'vmap'} area {area.start:#x}-{area.end:#x}{caller}"
        return Place(Kind.VMAP, (Link("vmap area", area.start, addr - area.start, words),), area.start)


def symbol_words(name: str) -> str:
    """A symbol under its function's name: that of a part which the compiler has moved away says so."""
    function, _, part = name.partition(".cold")
    return f"{function} (its .cold part)" if function != name and not part.strip(".0123456789") else name


def _place(kind: Kind, link: Link) -> Place:
    return Place(kind, (link,), may_be_owned=False)


def _start(slab_object: SlabObject | None) -> int | None:
    return slab_object.start if slab_object is not None else None
