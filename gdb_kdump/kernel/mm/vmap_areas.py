"""Areas of memory that is mapped page by page: vmalloc, ioremap, stacks, modules; mm/vmalloc.c."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

_MOST_NODES = 1024  # mm/vmalloc.c: vmap_init_nodes has 128 at most
_MOST_PAGES = 1 << 22  # of one area: a damaged count would have all of memory read
# include/linux/vmalloc.h: VM_*, macros whose low bits have not changed since v2.6.
_FLAGS = {0x1: "ioremap", 0x2: "vmalloc", 0x4: "vmap"}


@dataclass(frozen=True)
class VmapArea:
    """A struct vmap_area from `start` up to `end`, with what its struct vm_struct at `vm` says (0: it has none).

    `use` is "vmalloc", "vmap", "ioremap" or "" where the flags say nothing of that; `caller` is the return address of
    who asked for it; `pages` is the array of `nr_pages` struct page *, 0 where there is none; `phys_addr` is where an
    area of ioremap leads.
    """

    addr: int
    start: int
    end: int
    vm: int
    use: str = ""
    caller: int = 0
    pages: int = 0
    nr_pages: int = 0
    phys_addr: int = 0


class VmapAreas:
    """Finds the areas of one session, once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        layout = session.layout
        self._area = layout.unpacker("vmap_area", ("va_start", "va_end", "vm"))
        self._vm = layout.unpacker("vm_struct", ("addr", "flags", "pages", "nr_pages", "phys_addr", "caller"))
        self._areas: list[VmapArea] | None = None
        self._starts: list[int] = []
        self._by_page: dict[int, list[tuple[VmapArea, int]]] | None = None
        self._gaps = Gaps()

    def find(self, addr: int, gaps: Gaps) -> VmapArea | None:
        """The area that an address lies in, or None."""
        areas = self.all(gaps)
        number = bisect_right(self._starts, addr) - 1
        return areas[number] if number >= 0 and addr < areas[number].end else None

    def all(self, gaps: Gaps) -> list[VmapArea]:
        """Every area, by address; what cannot be followed goes to `gaps`."""
        if self._areas is None:
            self._gaps = Gaps()
            areas: dict[int, VmapArea] = {}
            for head in self._heads(self._gaps):
                with walk("a list of vmap areas", self._gaps) as steps:
                    for node in steps(list_for_each(self._session, head)):
                        area = self._read(node - self._session.layout.offset("vmap_area.list"))
                        areas[area.start] = area
            self._areas = sorted(areas.values(), key=lambda area: area.start)
            self._starts = [area.start for area in self._areas]
        gaps.note(*self._gaps)
        return self._areas

    def _heads(self, gaps: Gaps) -> Iterator[int]:
        """The lists that areas are on.

        d093602919ad (v6.9) mm: vmalloc: remove global vmap_area_root rb-tree: one for each of several vmap_nodes.
        """
        session, find = self._session, self._session.debuginfo.find_address
        alone, nodes, count = find("vmap_area_list"), find("vmap_nodes"), find("nr_vmap_nodes")
        if nodes is not None and count is not None:
            try:
                first, number = session.memory.ptr(nodes), min(session.memory.u32(count), _MOST_NODES)
                busy = session.layout.offset("vmap_node.busy") + session.layout.offset("rb_list.head")
                yield from (first + index * session.layout.size("vmap_node") + busy for index in range(number))
            except (Unreadable, MissingDebugInfo) as error:
                gaps.note(f"the vmap areas: {error}")
        elif alone is not None:
            yield alone
        else:
            gaps.note(f"the vmap areas: {MissingDebugInfo('symbol vmap_nodes', ['vmap_nodes', 'vmap_area_list'])}")

    def _read(self, addr: int) -> VmapArea:
        memory = self._session.memory
        start, end, vm = self._area.unpack_from(*memory.block(addr, self._area.span))
        if not start < end:
            raise Corrupt(addr, f"a vmap_area from 0x{start:016x} to 0x{end:016x}")
        try:
            at, flags, pages, nr_pages, phys_addr, caller = self._vm.unpack_from(*memory.block(vm, self._vm.span))
        except Unreadable:  # the place of the pointer may hold a number: it shares a union
            return VmapArea(addr, start, end, 0)
        if at != start:
            return VmapArea(addr, start, end, 0)
        use = next((name for bit, name in _FLAGS.items() if flags & bit), "")
        return VmapArea(addr, start, end, vm, use, caller, pages, nr_pages, phys_addr)

    def mapping(self, page: int, gaps: Gaps) -> list[tuple[VmapArea, int]]:
        """The areas that map a `struct page *`, each with the address where it does."""
        if self._by_page is None:
            self._by_page = {}
            for area in self.all(gaps):
                for index, mapped in enumerate(self.pages(area)):
                    addr = area.start + index * self._session.arch.page_size
                    self._by_page.setdefault(mapped, []).append((area, addr))
        return self._by_page.get(page, [])

    def page_at(self, area: VmapArea, addr: int) -> int | None:
        """The `struct page *` of an address in an area, or None where its array does not say; raises Unreadable."""
        index = (addr - area.start) // self._session.arch.page_size
        return self._session.memory.ptr(area.pages + 8 * index) if area.pages and index < area.nr_pages else None

    def pages(self, area: VmapArea) -> list[int]:
        """Every `struct page *` of an area, as far as its array can be read."""
        if not area.pages or area.nr_pages > _MOST_PAGES:
            return []
        data, _ = self._session.memory.read_prefix(area.pages, 8 * area.nr_pages)
        return memoryview(data[: len(data) & ~7]).cast("Q").tolist()
