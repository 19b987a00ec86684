"""SLAB's slabs and objects; mm/slab.c, before 16a1d968358a (v6.8) mm/slab: remove mm/slab.c."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Protocol

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.nodes import nr_node_ids
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.layout.members import array_length, find_path, is_array
from gdb_kdump.layout.mm import freelist_index_size
from gdb_kdump.layout.table import SLAB_CACHES
from gdb_kdump.records.slab import ALLOCATED, FREE, Slab, SlabCache, SlabObject
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_MAX_NAME = 128
_MAX_OBJECTS = 1 << 16  # of a slab
_INDICES = {1: "B", 2: "H", 4: "I"}  # of free objects, by their size in bytes
_LISTS = ("slabs_partial", "slabs_full", "slabs_free")


class SlabAllocator:
    """Reads the objects of one session whose kernel has SLAB; the part of SlubAllocator that does not need SLUB.

    Every method that takes an address raises Unreadable where the struct page, the cache or the struct slab cannot be
    read, and Corrupt where they are nonsense.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        self._pages = session.once(Pages)
        self._form = slab_form(session)
        self._cache = layout.unpacker("kmem_cache", ("size", "num", "name"))
        self._caches: dict[int, tuple[SlabCache, int]] = {}
        self._waiting: dict[int, frozenset[int]] = {}

    def caches(self, gaps: Gaps) -> tuple[SlabCache, ...]:
        """Every cache, in the order of slab_caches; raises MissingDebugInfo."""
        offset, caches = self._layout.offset("kmem_cache.list"), []
        heads = [addr for name in SLAB_CACHES if (addr := self._session.debuginfo.find_address(name)) is not None]
        if not heads:
            raise MissingDebugInfo(f"symbol {SLAB_CACHES[0]}", SLAB_CACHES)
        try:
            for node in list_for_each(self._session, heads[0]):
                caches.append(self._read_cache(node - offset)[0])
        except (Unreadable, Corrupt) as error:
            gaps.note(f"the caches: {error}")
        return tuple(caches)

    def find_state(self, addr: int) -> tuple[SlabCache, int, str] | None:
        """The cache, the start and the state of the object that an address lies in; None where that is no slab."""
        slab_object = self.find_object(addr)
        return None if slab_object is None else (slab_object.cache, slab_object.start, slab_object.state)

    def find_object(self, addr: int) -> SlabObject | None:
        """The object that an address lies in; None where that is no slab memory, or the slab's own."""
        page = self._pages.find_slab(addr)
        if page is None:
            return None
        slab = self._slab(*self._form.of_page(page))
        if not slab.start <= addr < slab.end:
            return None
        index = (addr - slab.start) // slab.cache.size
        start = slab.object_start(index)
        return SlabObject(addr, slab, index, start, FREE if start in slab.free else ALLOCATED)

    def for_each_object(self, cache: SlabCache, gaps: Gaps, states: Iterable[str] = (ALLOCATED,)) -> Iterator[int]:
        """Yield the addresses of a cache's objects in those states."""
        wanted = frozenset(states)
        for slab_at in self._slabs_of(cache, gaps):
            try:
                slab = self._slab(cache.addr, slab_at)
            except (Unreadable, Corrupt) as error:
                gaps.note(str(error))
                continue
            starts = map(slab.object_start, range(slab.nr_objects))
            yield from (start for start in starts if (FREE if start in slab.free else ALLOCATED) in wanted)

    def damaged_slabs(self, cache: SlabCache, gaps: Gaps) -> Iterator[SlabObject]:
        """None: SLAB's free lists are numbers, and one that does not hold is Corrupt to all that ask for objects."""
        return iter(())

    def _slabs_of(self, cache: SlabCache, gaps: Gaps) -> Iterator[int]:
        """Every slab: SLAB has the full ones on a list, too."""
        for lists in self._node_lists(cache.addr):
            for name in _LISTS:
                head = lists + self._layout.offset(f"kmem_list3.{name}")
                try:
                    yield from (node - self._form.list_node for node in list_for_each(self._session, head))
                except (Unreadable, Corrupt) as error:
                    gaps.note(f"{name} of {cache.name}: {error}")

    def _node_lists(self, cache: int) -> list[int]:
        """The `struct kmem_cache_node *` of each node of memory that has one."""
        member = self._layout.member("kmem_cache.node")
        if not is_array(member.type):  # v3.11 to v3.18: it points after the CPUs' part of the array
            words = self._memory.read(self._memory.ptr(cache + member.offset), 8 * nr_node_ids(self._session))
        else:
            words = self._memory.read(cache + member.offset, member.size)
        return [pointer for (pointer,) in struct.iter_unpack("<Q", words) if pointer]

    def _slab(self, cache_at: int, slab_at: int) -> Slab:
        cache, objects = self._read_cache(cache_at)
        start, inuse = self._form.start_and_inuse(slab_at)
        if inuse > objects:
            raise Corrupt(slab_at, f"no slab of SLAB: {inuse} of {objects} objects in use")
        free = {start + index * cache.size for index in self._form.free_indices(slab_at, inuse, objects)}
        return Slab(slab_at, start, cache, objects, inuse, None, frozenset(free | self._in_arrays(cache_at)))

    def _in_arrays(self, cache: int) -> frozenset[int]:
        """The free objects that wait in the arrays of the CPUs, in those that they share, in those for other nodes."""
        if cache not in self._waiting:
            layout, waiting = self._layout, set[int]()
            entries_at = layout.offset("array_cache.entry")
            for array in filter(None, (*self._of_cpus(cache), *self._of_nodes(cache))):
                count = min(self._session.number(array, "array_cache.avail"), _MAX_OBJECTS)
                entries = self._memory.read(array + entries_at, 8 * count)
                # v3.6 to v4.6 mark in bit 0 what stands for emergencies: SLAB_OBJ_PFMEMALLOC.
                waiting.update(entry & ~1 for (entry,) in struct.iter_unpack("<Q", entries))
            self._waiting[cache] = frozenset(waiting)
        return self._waiting[cache]

    def _of_cpus(self, cache: int) -> Iterator[int]:
        """The `struct array_cache *` of each CPU.

        bf0dea23a9c0 (v3.19) mm/slab: use percpu allocator for cpu cache.
        """
        percpu = self._session.once(PerCpu)
        if self._layout.find_member("kmem_cache.cpu_cache") is not None:
            pointer = self._session.pointer(cache, "kmem_cache.cpu_cache")
            yield from (percpu.pointer(pointer, cpu) for cpu in percpu.possible_cpus() if pointer)
            return
        member = self._layout.member("kmem_cache.array")
        for cpu in range(min(percpu.nr_cpu_ids, array_length(member))):
            yield self._memory.ptr(cache + member.offset + 8 * cpu)

    def _of_nodes(self, cache: int) -> Iterator[int]:
        """The `struct array_cache *` that a node's CPUs share, and those for objects of other nodes.

        49dfc304ba24 (v3.17) slab: use the lock on alien_cache, instead of the lock on array_cache.
        """
        layout, nodes = self._layout, self._node_lists(cache)
        inner = layout.offset("alien_cache.ac") if layout.find_struct("alien_cache") is not None else 0
        for node in nodes:
            yield self._session.pointer(node, "kmem_list3.shared")
            aliens = self._session.pointer(node, "kmem_list3.alien") if len(nodes) > 1 else 0
            for number in range(len(nodes)) if aliens else ():
                alien = self._memory.ptr(aliens + 8 * number)
                yield alien + inner if alien else 0

    def _read_cache(self, addr: int) -> tuple[SlabCache, int]:
        """The cache at a `struct kmem_cache *` and how many objects each of its slabs has."""
        if addr not in self._caches:
            size, objects, name = self._cache.unpack_from(*self._memory.block(addr, self._cache.span))
            if not size or not 0 < objects <= _MAX_OBJECTS:
                raise Corrupt(addr, f"no struct kmem_cache: size {size}, {objects} objects in a slab")
            text = self._memory.cstring(name, _MAX_NAME).decode("utf-8", "backslashreplace")
            self._caches[addr] = SlabCache(addr, text, size, size, size, 0, 0, None, frozenset(), 0), objects
        return self._caches[addr]


class SlabForm(Protocol):
    """What a slab says of itself; a slab is its address, each method raises Unreadable.

    8456a648cf44 (v3.13) slab: use struct page for slab management made the second form of the first.
    """

    list_node: int
    """Where in it the struct list_head is that has it on a node's list, in bytes."""

    def of_page(self, page: int) -> tuple[int, int]:
        """The `struct kmem_cache *` and the slab of the `struct page *` of a slab's memory."""

    def start_and_inuse(self, slab: int) -> tuple[int, int]:
        """The address of its first object, and how many are in use or wait in an array."""

    def free_indices(self, slab: int, inuse: int, objects: int) -> Iterator[int]:
        """The numbers of its free objects; raises Corrupt."""


class OwnStruct:
    """A struct slab of its own, on the slab or elsewhere, with a chain of free objects after it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        struct_slab = session.debuginfo.type("struct slab")
        self._size, members = struct_slab.sizeof, {}
        for name in ("list", "s_mem", "inuse", "free"):
            member = find_path(struct_slab, name)
            if member is None:
                raise MissingDebugInfo(f"member slab.{name}")
            members[name] = member.offset
        self.list_node, self._s_mem, self._inuse, self._free = members.values()

    def of_page(self, page: int) -> tuple[int, int]:
        return self._session.pointer(page, "page.slab_cache"), self._session.pointer(page, "page.slab_page")

    def start_and_inuse(self, slab: int) -> tuple[int, int]:
        return self._memory.ptr(slab + self._s_mem), self._memory.u32(slab + self._inuse)

    def free_indices(self, slab: int, inuse: int, objects: int) -> Iterator[int]:
        """The chain begins at `free`, and its links are the array after the struct; mm/slab.c: slab_bufctl."""
        links = struct.unpack(f"<{objects}I", self._memory.read(slab + self._size, 4 * objects))
        index, seen = self._memory.u32(slab + self._free), set[int]()
        while index < objects:  # BUFCTL_END is the largest number
            if index in seen:
                raise Corrupt(slab, "the chain of free objects runs in a circle")
            seen.add(index)
            yield index
            index = links[index]


class PageStruct:
    """The slab's struct page, since v5.17 called struct slab, and an array of the numbers of its free objects."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.list_node = session.layout.offset("slab.slab_list")
        self._index_size = freelist_index_size(session.layout)

    def of_page(self, page: int) -> tuple[int, int]:
        return self._session.pointer(page, "slab.slab_cache"), page

    def start_and_inuse(self, slab: int) -> tuple[int, int]:
        return self._session.pointer(slab, "slab.s_mem"), self._session.number(slab, "slab.active")

    def free_indices(self, slab: int, inuse: int, objects: int) -> Iterator[int]:
        """Those from `active` on; mm/slab.c: slab_get_obj.  The array may stand in a free object: no array without."""
        if inuse == objects:
            return
        size = self._index_size
        array = self._session.pointer(slab, "slab.freelist")
        data = self._session.memory.read(array + inuse * size, (objects - inuse) * size)
        for index in struct.unpack(f"<{objects - inuse}{_INDICES[size]}", data):
            if index >= objects:
                raise Corrupt(array, f"the list of free objects has number {index} of {objects}")
            yield index


def slab_form(session: Session) -> SlabForm:
    """The form that this kernel's slabs have; raises MissingDebugInfo."""
    layout = session.layout
    is_page = layout.find_struct("slab") is not None and layout.find_member("slab.active") is not None
    return PageStruct(session) if is_page else OwnStruct(session)
