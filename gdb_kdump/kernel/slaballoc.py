"""SLAB's slabs and objects, where a slab has a struct slab of its own; mm/slab.c before 8456a648cf44 (v3.13)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from gdb_kdump.errors import Corrupt, OtherAllocator, Unreadable
from gdb_kdump.kernel.lists import list_for_each
from gdb_kdump.kernel.pages import Pages
from gdb_kdump.kernel.percpu import PerCpu
from gdb_kdump.kernel.slab import Slabs
from gdb_kdump.layout import array_length, slab_allocator
from gdb_kdump.members import find_path
from gdb_kdump.rules.slabrecords import ALLOCATED, FREE, Slab, SlabCache, SlabObject
from gdb_kdump.session import Session

_MAX_NAME = 128
_MAX_OBJECTS = 1 << 16  # of a slab
_LISTS = ("slabs_partial", "slabs_full", "slabs_free")


class SlabAllocator:
    """Reads the objects of one session whose kernel has SLAB; the part of Slabs that does not need SLUB.

    Every method that takes an address raises Unreadable where the struct page, the cache or the struct slab cannot be
    read, and Corrupt where they are nonsense.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        self._pages = session.once(Pages)
        kind = session.debuginfo.find_type("struct slab")
        members = {name: find_path(kind, name) if kind is not None else None for name in ("s_mem", "inuse", "free")}
        s_mem, inuse, free = members.values()
        if kind is None or s_mem is None or inuse is None or free is None or layout.find_struct("kmem_list3") is None:
            raise OtherAllocator("SLAB, of v3.13 or later")
        self._s_mem, self._inuse, self._free, self._slab_size = s_mem.offset, inuse.offset, free.offset, kind.sizeof
        self._lru = layout.offset("page.lru")
        self._cache = layout.unpacker("kmem_cache", ("buffer_size", "num", "name"))
        self._caches: dict[int, tuple[SlabCache, int]] = {}
        self._waiting: dict[int, frozenset[int]] = {}
        self._missing: tuple[str, ...] = ()

    def caches(self) -> tuple[SlabCache, ...]:
        """Every cache, in the order of cache_chain; raises MissingDebugInfo."""
        offset, found = self._layout.offset("kmem_cache.next"), []
        try:
            for node in list_for_each(self._session, self._session.debuginfo.address("cache_chain")):
                found.append(self._read_cache(node - offset)[0])
        except (Unreadable, Corrupt) as error:
            self._miss(f"the caches: {error}")
        return tuple(found)

    def missing(self) -> tuple[str, ...]:
        """Why caches() and for_each_object() may lack something."""
        return self._missing

    def _miss(self, sentence: str) -> None:
        if sentence not in self._missing:
            self._missing += (sentence,)

    def find_state(self, addr: int) -> tuple[SlabCache, int, str] | None:
        """The cache, the start and the state of the object that an address lies in; None where that is no slab."""
        found = self.find_object(addr)
        return None if found is None else (found.cache, found.start, found.state)

    def find_object(self, addr: int) -> SlabObject | None:
        """The object that an address lies in; None where that is no slab memory, or the slab's own."""
        page = self._pages.find_slab(addr)
        if page is None:
            return None
        cache, slab_at = struct.unpack("<QQ", self._memory.read(page + self._lru, 16))
        slab = self._slab(cache, slab_at)
        if not slab.start <= addr < slab.end:
            return None
        index = (addr - slab.start) // slab.cache.size
        start = slab.object_start(index)
        return SlabObject(addr, slab, index, start, FREE if start in slab.free else ALLOCATED)

    def for_each_object(self, cache: SlabCache, states: Iterable[str] = (ALLOCATED,)) -> Iterator[int]:
        """Yield the addresses of a cache's objects in those states; missing() says what it may lack."""
        wanted = frozenset(states)
        for slab_at in self._slabs_of(cache):
            try:
                slab = self._slab(cache.addr, slab_at)
            except (Unreadable, Corrupt) as error:
                self._miss(str(error))
                continue
            starts = map(slab.object_start, range(slab.objects))
            yield from (start for start in starts if (FREE if start in slab.free else ALLOCATED) in wanted)

    def _slabs_of(self, cache: SlabCache) -> Iterator[int]:
        """The `struct slab *` of every slab: SLAB has the full ones on a list, too."""
        for lists in self._node_lists(cache.addr):
            for name in _LISTS:
                try:
                    yield from list_for_each(self._session, lists + self._layout.offset(f"kmem_list3.{name}"))
                except (Unreadable, Corrupt) as error:
                    self._miss(f"{name} of {cache.name}: {error}")

    def _node_lists(self, cache: int) -> list[int]:
        member = self._layout.member("kmem_cache.nodelists")
        words = self._memory.read(cache + member.offset, member.size)
        return [pointer for (pointer,) in struct.iter_unpack("<Q", words) if pointer]

    def _slab(self, cache_at: int, slab_at: int) -> Slab:
        cache, objects = self._read_cache(cache_at)
        start, inuse = self._memory.ptr(slab_at + self._s_mem), self._memory.u32(slab_at + self._inuse)
        if inuse > objects:
            raise Corrupt(slab_at, f"no struct slab: {inuse} of {objects} objects in use")
        free = {start + index * cache.size for index in self._free_indices(slab_at, objects)}
        return Slab(slab_at, start, cache, objects, inuse, None, frozenset(free | self._in_arrays(cache_at)))

    def _free_indices(self, slab_at: int, objects: int) -> Iterator[int]:
        """The chain of free objects' indices, whose links stand behind the struct slab; mm/slab.c: slab_bufctl."""
        links = struct.unpack(f"<{objects}I", self._memory.read(slab_at + self._slab_size, 4 * objects))
        index, seen = self._memory.u32(slab_at + self._free), set[int]()
        while index < objects:  # BUFCTL_END is the largest number
            if index in seen:
                raise Corrupt(slab_at, "the chain of free objects runs in a circle")
            seen.add(index)
            yield index
            index = links[index]

    def _in_arrays(self, cache: int) -> frozenset[int]:
        """The free objects that wait in the arrays of the CPUs and in those that they share; struct array_cache."""
        if cache not in self._waiting:
            layout, found = self._layout, set[int]()
            member = layout.member("kmem_cache.array")
            cpus = [cpu for cpu in range(self._session.once(PerCpu).nr_cpu_ids) if cpu < array_length(member)]
            arrays = [self._memory.ptr(cache + member.offset + 8 * cpu) for cpu in cpus]
            shared = layout.offset("kmem_list3.shared")
            arrays += [self._memory.ptr(lists + shared) for lists in self._node_lists(cache)]
            for array in filter(None, arrays):
                count = min(self._session.number(array, "array_cache.avail"), _MAX_OBJECTS)
                entries = self._memory.read(array + layout.offset("array_cache.entry"), 8 * count)
                found.update(entry for (entry,) in struct.iter_unpack("<Q", entries))
            self._waiting[cache] = frozenset(found)
        return self._waiting[cache]

    def _read_cache(self, addr: int) -> tuple[SlabCache, int]:
        """The cache at a `struct kmem_cache *` and how many objects each of its slabs has."""
        if addr not in self._caches:
            size, objects, name = self._cache.unpack_from(*self._memory.block(addr, self._cache.span))
            if not size or not 0 < objects <= _MAX_OBJECTS:
                raise Corrupt(addr, f"no struct kmem_cache: size {size}, {objects} objects in a slab")
            text = self._memory.cstring(name, _MAX_NAME).decode("utf-8", "backslashreplace")
            self._caches[addr] = SlabCache(addr, text, size, size, size, 0, 0, None, frozenset(), 0), objects
        return self._caches[addr]


def allocator(session: Session) -> Slabs | SlabAllocator:
    """The reader of the allocator that this kernel has; raises MissingDebugInfo for another one."""
    return session.once(SlabAllocator) if slab_allocator(session.layout) == "SLAB" else session.once(Slabs)
