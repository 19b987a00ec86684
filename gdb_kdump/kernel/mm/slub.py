"""SLUB's slabs and objects: which object an address lies in, and whether it is allocated; mm/slub.c, mm/slab.h."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.mm.kfence import Kfence
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.kernel.mm.slub_caches import CpuSlab, SlabCaches
from gdb_kdump.kernel.mm.slub_debug import SlubDebug
from gdb_kdump.kernel.mm.slub_freelists import Freelists, SlabExtent
from gdb_kdump.kernel.mm.slub_sheaves import Sheaves
from gdb_kdump.records.slab import (
    ALLOCATED,
    COUNT,
    FREE,
    OUTSIDE,
    SHEAVED,
    UNKNOWN,
    FreelistProblem,
    Slab,
    SlabCache,
    SlabObject,
    Track,
)
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

_MAX_KEPT = 60_000  # slabs: those of 150,000 sk_buffs and their buffers
_MAX_PAGES = 4_096  # as walks mostly stay near; more would cost memory
_LARGEST = 1 << 24  # bytes: far above any order that a slab can have
_SAMPLED = 4  # partial slabs of each node


class SlubAllocator:
    """Reads the slabs of one session; raises MissingDebugInfo where the kernel has another allocator than SLUB.

    Every method that takes an address raises Unreadable where the struct page or the cache cannot be read, and Corrupt
    where a page says that it is a slab, but its cache or counters are nonsense.  A hole or a damaged freelist raises
    neither: the objects that it hides are UNKNOWN.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        self._caches = session.once(SlabCaches)
        self._pages = session.once(Pages)
        self._kfence = session.once(Kfence)
        self._sheaves = session.once(Sheaves)
        self._debug = SlubDebug(session, self._kmalloc_samples)
        self._unpacker = layout.unpacker("slab", ("slab_cache", "freelist", "inuse", "objects"))
        self._freelist_at = layout.offset("slab.freelist")
        self._freelists = Freelists(session.memory, self._samples)
        self._kept: dict[int, Slab] = {}
        # Page frame (of an address) -> its slab, so that walking many objects costs one look at each page.
        self._by_page: dict[int, Slab | None] = {}
        self._by_cache: dict[int, list[int]] | None = None
        self._gaps = Gaps()  # of _by_cache

    def caches(self, gaps: Gaps) -> tuple[SlabCache, ...]:
        """Every cache; see SlabCaches.all."""
        return self._caches.all(gaps)

    def find_cache(self, name: str) -> SlabCache | None:
        """A cache by its name, an alias, or its variable's name; see SlabCaches.find."""
        return self._caches.find(name)

    def aliases(self, cache: SlabCache) -> tuple[str, ...]:
        """The names of the caches that were merged into this one; see SlabCaches.aliases."""
        return self._caches.aliases(cache)

    def find_slab(self, addr: int) -> Slab | None:
        """The slab that an address lies in, or None."""
        number = addr // self._pages.page_size
        if number in self._by_page:
            return self._by_page[number]
        if len(self._by_page) >= _MAX_PAGES:
            self._by_page.clear()
        slab = self._find_slab(addr)
        # KFENCE's pages have one object each, which is not where the slab would have it.
        if not self._kfence.has(addr):
            self._by_page[number] = slab
        return slab

    def _find_slab(self, addr: int) -> Slab | None:
        page = self._pages.find_slab(addr)
        if page is not None and self._kfence.has(addr):
            # Its struct slab is not kept up: one object, anywhere on the page.
            fenced = self._kfence.find(addr)
            if fenced is None or not fenced.cache:
                return None
            start, free = self._pages.address_of(page), {fenced.addr} if fenced.state == FREE else set()
            return Slab(page, start, self._caches.read(fenced.cache), 1, 1 - len(free), None, frozenset(free))
        return None if page is None else self.slab(page)

    def find_object(self, addr: int) -> SlabObject | None:
        """The object that an address lies in, its red zones and padding included; None where that is no slab memory.

        Also None in the rest of a slab after its last object, and in KFENCE's pages that no object ever had.
        """
        slab = self.find_slab(addr)
        if slab is None:
            return None
        if self._kfence.has(addr):
            fenced = self._kfence.find(addr)
            if fenced is not None:
                return SlabObject(addr, slab, 0, fenced.addr, fenced.state, "it is one of KFENCE's")
        if not slab.start <= addr < slab.end:
            return None
        return self._object(slab, (addr - slab.start) // slab.cache.size, addr)

    def find_state(self, addr: int) -> tuple[SlabCache, int, str] | None:
        """The cache, start and state of the object that an address lies in; what find_object has, but for the rest."""
        slab = self.find_slab(addr)
        if slab is None or self._kfence.has(addr) or not slab.start <= addr < slab.end:
            slab_object = self.find_object(addr) if slab is not None else None
            return None if slab_object is None else (slab_object.cache, slab_object.start, slab_object.state)
        start = slab.object_start((addr - slab.start) // slab.cache.size)
        return slab.cache, start, self._state(slab, start)[0]

    def _object(self, slab: Slab, index: int, addr: int | None = None) -> SlabObject:
        start = slab.object_start(index)
        state, reason = self._state(slab, start)
        guards = self._debug.guards(slab.cache, start, state)
        return SlabObject(start if addr is None else addr, slab, index, start, state, reason, guards)

    def _state(self, slab: Slab, start: int) -> tuple[str, str]:
        state, reason = slab.state(start)
        if state != FREE and start in self._sheaves.free(slab.cache):
            return FREE, "it waits in a sheaf"
        if state == UNKNOWN and self._freelists.has_link(SlabExtent(slab.cache, slab.start, slab.nr_objects), start):
            return FREE, "no freelist leads to it, but it holds the link of one"
        return state, reason

    def neighbours(self, slab_object: SlabObject) -> tuple[SlabObject | None, SlabObject | None]:
        """The objects before and after one in the same slab; None where there is none."""
        slab, index = slab_object.slab, slab_object.index
        before = self._object(slab, index - 1) if index else None
        after = self._object(slab, index + 1) if index + 1 < slab.nr_objects else None
        return before, after

    def tracks(self, slab_object: SlabObject) -> tuple[Track, ...]:
        """The last allocation and the last free of an object, as far as its cache notes them.

        Raises MissingDebugInfo, too.
        """
        fenced = self._kfence.find(slab_object.addr)
        return self._kfence.tracks(fenced) if fenced else self._debug.tracks(slab_object.cache, slab_object.start)

    def for_each_object(self, cache: SlabCache, gaps: Gaps, states: Iterable[str] = (ALLOCATED,)) -> Iterator[int]:
        """Yield the addresses of a cache's objects in those states, slab by slab.

        A slab that cannot be read is passed over, its reason goes to `gaps`.
        """
        wanted, sheaved = frozenset(states), self._sheaves.free(cache)
        for page in self.slabs_of(cache, gaps):
            try:
                slab = self.slab(page)
            except (Unreadable, Corrupt) as error:
                gaps.note(str(error))
                continue
            starts = range(slab.object_start(0), slab.object_start(slab.nr_objects), cache.size)
            other = slab.state(0)[0]  # of what is on no list
            if FREE in wanted:
                yield from (start for start in starts if start in slab.free or start in sheaved)
            if other in wanted:
                yield from (start for start in starts if start not in slab.free and start not in sheaved)
        for fenced in self._kfence.objects_of(cache.addr):
            if fenced.state in wanted:
                yield fenced.addr

    def damaged_slabs(self, cache: SlabCache, gaps: Gaps) -> Iterator[SlabObject]:
        """An object of each slab of a cache whose freelists do not hold."""
        for page in self.slabs_of(cache, gaps):
            try:
                if page not in self._kept and self._is_full(page):
                    continue
                slab = self.slab(page)
            except (Unreadable, Corrupt) as error:
                gaps.note(str(error))
                continue
            if slab.problems:
                yield self._object(slab, 0)

    def _is_full(self, page: int) -> bool:
        """Whether no freelist is left in a slab: nothing of it can be wrong, but for what sheaves and CPUs have."""
        cache, freelist, inuse, objects = self._unpacker.unpack_from(*self._memory.block(page, self._unpacker.span))
        if freelist or inuse != objects or self._sheaves.exist:
            return False
        return all(row.slab != page for row in self._caches.cpu_slabs(self._caches.read(cache)))

    def slabs_of(self, cache: SlabCache, gaps: Gaps) -> list[int]:
        """The `struct slab *` of every slab of a cache, by address, without KFENCE's.

        A full slab is on no list, so the array of all pages is searched, once for all caches.
        """
        if self._by_cache is None:
            self._gaps = Gaps()
            self._by_cache = self._slabs_by_cache(self._gaps)
        gaps.note(*self._gaps)
        return self._by_cache.get(cache.addr, [])

    def _slabs_by_cache(self, gaps: Gaps) -> dict[int, list[int]]:
        by_cache: dict[int, list[int]] = {}
        with walk("the slabs", gaps) as steps:
            for row in steps(self._pages.for_each_slab()):
                if isinstance(row, Unreadable):
                    gaps.note(str(row))
                    continue
                page, cache = row
                if not self._kfence.has(self._pages.address_of(page)):
                    by_cache.setdefault(cache, []).append(page)
        return by_cache

    def slab(self, page: int) -> Slab:
        """The slab at a `struct slab *`, which is its first struct page."""
        slab = self._kept.get(page)
        if slab is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
                self._by_page.clear()
            slab = self._kept[page] = self._read(page)
        return slab

    def _read(self, page: int) -> Slab:
        cache_at, freelist, inuse, objects = self._unpacker.unpack_from(*self._memory.block(page, self._unpacker.span))
        start, cache = self._pages.address_of(page), self._caches.read(cache_at)
        if not objects or inuse > objects or objects * cache.size > _LARGEST:
            raise Corrupt(page, f"no struct slab: {inuse} of {objects} objects of {cache.size} bytes in use")
        extent = SlabExtent(cache, start, objects)
        walks = [self._freelists.walk(extent, "the slab", page + self._freelist_at, freelist)]
        problems = [walk.problem for walk in walks if walk.problem]
        # What is on the freelist of a CPU counts as in use, so this holds for every slab.
        if not problems and walks[0].hole is None and len(walks[0].objects) != objects - inuse:
            counter = page + self._layout.offset("slab.inuse")
            on_list, expected = len(walks[0].objects), objects - inuse
            problems.append(FreelistProblem("the slab", COUNT, counter, 0, inuse, on_list, expected))
        active = next((row for row in self._caches.cpu_slabs(cache) if row.slab == page), None)
        if active is not None:
            others = frozenset(walks[0].objects)
            walks.append(self._freelists.walk(extent, f"CPU {active.cpu}", active.freelist_at, active.freelist, others))
            problems += [walks[1].problem] if walks[1].problem else []
        free = frozenset(addr for walk in walks for addr in walk.objects)
        problems += self._sheaved(extent, free)
        hole = next((walk.hole for walk in walks if walk.hole is not None), None)
        cpu = None if active is None else active.cpu
        return Slab(page, start, cache, objects, inuse, cpu, free, tuple(map(self._with_other, problems)), hole)

    def _with_other(self, problem: FreelistProblem) -> FreelistProblem:
        """The same with the cache of the slab that a freelist leads to, where it leads to one."""
        if problem.kind != OUTSIDE:
            return problem
        try:
            page = self._pages.find(problem.found)
            if page is None or not page.is_slab:
                return problem
            cache_at = self._unpacker.unpack_from(*self._memory.block(page.head, self._unpacker.span))[0]
            return replace(problem, found_in=self._caches.read(cache_at).name)
        except (Unreadable, Corrupt):
            return problem

    def _sheaved(self, extent: SlabExtent, free: frozenset[int]) -> Iterator[FreelistProblem]:
        """The objects of a slab that wait in a sheaf and in another one, or on a freelist, too."""
        try:
            sheaved, twice = self._sheaves.free(extent.cache), self._sheaves.twice(extent.cache)
        except (Unreadable, Corrupt):
            return  # callers that ask for an object's state get this error themselves
        for start in sorted(start for start in free if start in sheaved):
            yield FreelistProblem("a freelist", SHEAVED, sheaved[start], 0, start, start)
        for start, at in sorted(twice.items()):
            if not extent.fault(start):
                yield FreelistProblem("a sheaf before it", SHEAVED, at, 0, start, start)

    def _samples(self) -> Iterator[tuple[SlabExtent, int]]:
        """SlubAllocator with an object on a freelist: those of the CPUs, and the first partial ones of the nodes."""
        for cache in self.caches(Gaps()):
            try:
                heads = {row.slab: row.freelist for row in self._caches.cpu_slabs(cache)}
                for page, _ in islice(self._on_nodes(cache), _SAMPLED):
                    heads.setdefault(page, self._memory.ptr(page + self._freelist_at))
                for page, first in heads.items():
                    if first and self._pages.is_page(page):
                        _, _, _, objects = self._unpacker.unpack_from(*self._memory.block(page, self._unpacker.span))
                        yield SlabExtent(cache, self._pages.address_of(page), objects), first
            except (Unreadable, Corrupt):
                continue  # the other caches will do

    def _kmalloc_samples(self) -> Iterator[tuple[SlabCache, int]]:
        """Allocated objects of kmalloc's debugged caches, from the CPUs' slabs and the first ones of the nodes."""
        for cache in self.caches(Gaps()):
            if not {"RED_ZONE", "STORE_USER"} <= cache.flags or "kmalloc" not in cache.name:
                continue
            try:
                pages = [row.slab for row in self._caches.cpu_slabs(cache) if row.slab]
                pages += [page for page, _ in islice(self._on_nodes(cache), _SAMPLED)]
                for slab in map(self.slab, pages):
                    starts = map(slab.object_start, range(slab.nr_objects))
                    yield from ((cache, start) for start in starts if slab.state(start)[0] == ALLOCATED)
            except (Unreadable, Corrupt):
                continue  # the other caches will do

    def list_name(self, slab: Slab, gaps: Gaps) -> str:
        """The list that a slab is on, for people: "CPU 1, active", "CPU 1, partial", "node 0, partial", "full".

        "no list" is one that could not be found on any; raises MissingDebugInfo, too.
        """
        names: dict[int, str] = {}
        try:
            names.update(self._on_nodes(slab.cache))
            for row in self._caches.cpu_slabs(slab.cache):
                names.update(self._on_cpu(row))
        except (Unreadable, Corrupt) as error:
            gaps.note(str(error))
        return names.get(slab.addr, "full" if slab.inuse == slab.nr_objects else "no list")

    def _on_cpu(self, row: CpuSlab) -> Iterator[tuple[int, str]]:
        """The slabs of a CPU, partial ones chained by slab.next; mm/slub.c: put_cpu_partial."""
        seen: set[int] = set()
        page = row.partial
        while page and page not in seen and self._pages.is_page(page):
            seen.add(page)
            yield page, f"CPU {row.cpu}, partial"
            page = self._session.pointer(page, "slab.next")
        if row.slab:
            yield row.slab, f"CPU {row.cpu}, active"

    def _on_nodes(self, cache: SlabCache) -> Iterator[tuple[int, str]]:
        offset = self._layout.offset("slab.slab_list")
        for node, addr in self._caches.nodes(cache):
            for link in list_for_each(self._session, addr + self._layout.offset("kmem_cache_node.partial")):
                yield link - offset, f"node {node}, partial"
