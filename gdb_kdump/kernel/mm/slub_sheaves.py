"""Sheaves: stacks of free objects before the slabs, which the slabs count as in use; mm/slub.c: struct slab_sheaf."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.slub_caches import SlabCaches
from gdb_kdump.records.slab import SlabCache
from gdb_kdump.session import Session

_MOST = 1 << 16  # objects in a sheaf


class Sheaves:
    """Finds the objects that wait in sheaves; none where the kernel has no such thing.

    2d517aa09bbc (v6.18) slab: add opt-in caching layer of percpu sheaves.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        exists = layout.find_struct("slab_sheaf") is not None and layout.find_struct("slub_percpu_sheaves") is not None
        self._percpu = layout.find_member("kmem_cache.cpu_sheaves") if exists else None
        self._free: dict[int, dict[int, int]] = {}
        self._twice: dict[int, dict[int, int]] = {}

    @property
    def exist(self) -> bool:
        """Whether this kernel has them."""
        return self._percpu is not None

    def free(self, cache: SlabCache) -> dict[int, int]:
        """The free objects of a cache that sheaves hold, each with the address of the word that names it.

        Raises Unreadable, Corrupt, MissingDebugInfo.
        """
        if self._percpu is None:
            return {}
        if cache.addr not in self._free:
            free, twice = dict[int, int](), dict[int, int]()
            for sheaf in sorted({*self._of_cpus(cache), *self._of_nodes(cache)} - {0}):
                objects_at = sheaf + self._layout.offset("slab_sheaf.objects")
                for number, start in enumerate(self._objects(sheaf)):
                    (twice if start in free else free)[start] = objects_at + 8 * number
            self._free[cache.addr], self._twice[cache.addr] = free, twice
        return self._free[cache.addr]

    def twice(self, cache: SlabCache) -> dict[int, int]:
        """Those of them that sheaves hold more than once, each with the address of the last such word; see free."""
        self.free(cache)
        return self._twice.get(cache.addr, {})

    def _of_cpus(self, cache: SlabCache) -> Iterator[int]:
        assert self._percpu is not None
        pointer = self._memory.ptr(cache.addr + self._percpu.offset)
        if not pointer:
            return
        percpu = self._session.once(PerCpu)
        for cpu in percpu.possible_cpus():
            at = percpu.pointer(pointer, cpu)
            for name in ("main", "spare", "rcu_free"):
                member = self._layout.find_member(f"slub_percpu_sheaves.{name}")
                if member is not None:
                    yield self._memory.ptr(at + member.offset)

    def _of_nodes(self, cache: SlabCache) -> Iterator[int]:
        """The full sheaves of each node's barn: struct node_barn."""
        if self._layout.find_struct("node_barn") is None:
            return
        for barn in self._session.once(SlabCaches).barns(cache):
            for link in list_for_each(self._session, barn + self._layout.offset("node_barn.sheaves_full")):
                yield link - self._layout.offset("slab_sheaf.barn_list")

    def _objects(self, sheaf: int) -> tuple[int, ...]:
        size = self._session.number(sheaf, "slab_sheaf.size")
        if size > _MOST:
            raise Corrupt(sheaf, f"no struct slab_sheaf: {size} objects")
        data = self._memory.read(sheaf + self._layout.offset("slab_sheaf.objects"), 8 * size)
        return tuple(memoryview(data).cast("Q").tolist())
