"""struct kmem_cache and what each CPU and node has of it; mm/slab.h, mm/slub.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo, OtherAllocator, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.nodes import nr_node_ids
from gdb_kdump.layout.mm import slab_allocator, slab_flags, slab_nodes
from gdb_kdump.records.slab import SlabCache
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

_MAX_NAME = 128
_MAX_SIZE = 1 << 24  # far above any order that a slab can have
_MEMBERS = ("size", "object_size", "inuse", "offset", "flags", "name")
# Not every configuration has them: hardening, debugging, and the opposite of CONFIG_SLUB_TINY.
_OPTIONAL = ("random", "red_left_pad", "cpu_slab")


@dataclass(frozen=True)
class CpuSlab:
    """A struct kmem_cache_cpu: the slab that a CPU allocates from, its freelist, the first of its partial slabs."""

    cpu: int
    freelist_at: int
    freelist: int
    slab: int
    partial: int


class SlabCaches:
    """Reads the caches of one session; raises MissingDebugInfo where the kernel has another allocator than SLUB."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        if slab_allocator(layout) != "SLUB":
            raise OtherAllocator(slab_allocator(layout))
        self._unpacker = layout.unpacker("kmem_cache", _MEMBERS)
        members = ((name, layout.find_member(f"kmem_cache.{name}")) for name in _OPTIONAL)
        self._optional = [(name, member) for name, member in members if member is not None]
        self._flags = slab_flags(layout)
        self._caches: dict[int, SlabCache] = {}
        self._listed: tuple[SlabCache, ...] | None = None
        self._cpu_slabs: dict[int, tuple[CpuSlab, ...]] = {}
        self._gaps = Gaps()

    def all(self, gaps: Gaps) -> tuple[SlabCache, ...]:
        """Every cache, in the order of slab_caches, newest first; raises MissingDebugInfo."""
        caches = self._list()
        gaps.note(*self._gaps)
        return caches

    def _list(self) -> tuple[SlabCache, ...]:
        if self._listed is None:
            offset, caches = self._layout.offset("kmem_cache.list"), list[SlabCache]()
            nodes = list_for_each(self._session, self._session.debuginfo.address("slab_caches"))
            self._gaps = Gaps()
            with self._gaps.about("the list of caches ends early") as broken:
                steps = walk("the list", broken, lambda cache: cache.addr)
                with steps:
                    for cache in steps(self.read(node - offset) for node in nodes):
                        caches.append(cache)
            self._listed = tuple(caches)
        return self._listed

    def find(self, name: str) -> SlabCache | None:
        """The cache of that name, or with that alias, or that the kernel's variable of that name points to, or None.

        A cache that was merged into another one has no name of its own.  Raises Unreadable, Corrupt, MissingDebugInfo.
        """
        for cache in self._list():
            if cache.name == name or name in self.aliases(cache):
                return cache
        find = self._session.debuginfo.find_variable
        # aa70d2d16f28 (v6.9) net: move skbuff_cache(s) to net_hotdata
        variable = find(name) or find("net_hotdata", name)
        return None if variable is None else self.read(self._memory.ptr(variable))

    def aliases(self, cache: SlabCache) -> tuple[str, ...]:
        """The names of the caches that were merged into this one, where the kernel still knows them."""
        return tuple(name for name in self._session.once(SlabAliases).of(cache.addr) if name != cache.name)

    def read(self, addr: int) -> SlabCache:
        """The cache at a `struct kmem_cache *`; raises Unreadable, and Corrupt when it can be none."""
        if addr not in self._caches:
            self._caches[addr] = self._read(addr)
        return self._caches[addr]

    def _read(self, addr: int) -> SlabCache:
        values = self._unpacker.unpack_from(*self._memory.block(addr, self._unpacker.span))
        size, object_size, inuse, offset, flags, name = values
        if not 0 < object_size <= size <= _MAX_SIZE or not offset < size or not inuse <= size:
            raise Corrupt(addr, f"no struct kmem_cache: size {size}, object_size {object_size}, offset {offset}")
        text = self._memory.cstring(name, _MAX_NAME).decode("utf-8", "backslashreplace")
        names = frozenset(flag for flag, mask in self._flags.items() if flags & mask)
        more = {
            name: int.from_bytes(self._memory.read(addr + member.offset, member.size), "little")
            for name, member in self._optional
        }
        pad, random, cpu_slab = more.get("red_left_pad", 0), more.get("random"), more.get("cpu_slab", 0)
        return SlabCache(addr, text, size, object_size, inuse, offset, pad, random, names, cpu_slab)

    def cpu_slabs(self, cache: SlabCache) -> tuple[CpuSlab, ...]:
        """What each CPU has of a cache; raises Unreadable, MissingDebugInfo."""
        if cache.addr not in self._cpu_slabs:
            self._cpu_slabs[cache.addr] = tuple(self._read_cpu_slabs(cache)) if cache.cpu_slab else ()
        return self._cpu_slabs[cache.addr]

    def _read_cpu_slabs(self, cache: SlabCache) -> Iterator[CpuSlab]:
        names = ["freelist", "slab"]
        if self._layout.find_member("kmem_cache_cpu.partial") is not None:  # CONFIG_SLUB_CPU_PARTIAL
            names.append("partial")
        unpacker = self._layout.unpacker("kmem_cache_cpu", names)
        freelist_at = self._layout.offset("kmem_cache_cpu.freelist")
        percpu = self._session.once(PerCpu)
        for cpu in percpu.possible_cpus():
            cpu_slab = percpu.pointer(cache.cpu_slab, cpu)
            freelist, slab, *partial = unpacker.unpack_from(*self._memory.block(cpu_slab, unpacker.span))
            yield CpuSlab(cpu, cpu_slab + freelist_at, freelist, slab, partial[0] if partial else 0)

    def nodes(self, cache: SlabCache) -> Iterator[tuple[int, int]]:
        """The struct kmem_cache_node of each node that has one: (node, address); for_each_kmem_cache_node.

        Raises Unreadable, MissingDebugInfo.
        """
        place = slab_nodes(self._layout, "node")
        if place is None:
            raise MissingDebugInfo("member kmem_cache.node", ["kmem_cache.per_node", "kmem_cache.node"])
        return self._of_nodes(cache, *place)

    def barns(self, cache: SlabCache) -> Iterator[int]:
        """The struct node_barn of each node that has one, which keeps sheaves for it; raises Unreadable."""
        place, inside = slab_nodes(self._layout, "barn"), self._layout.find_member("kmem_cache_node.barn")
        if place is not None:
            yield from (barn for _, barn in self._of_nodes(cache, *place))
        elif inside is not None:
            for _, node in self.nodes(cache):
                barn = self._memory.ptr(node + inside.offset)
                if barn:
                    yield barn

    def _of_nodes(self, cache: SlabCache, offset: int, distance: int) -> Iterator[tuple[int, int]]:
        for node in range(nr_node_ids(self._session)):
            addr = self._memory.ptr(cache.addr + offset + distance * node)
            if addr:
                yield node, addr


_MAX_LINKS = 1 << 16


class SlabAliases:
    """Reads the links of /sys/kernel/slab of one session; there are none where the kernel has no CONFIG_SYSFS."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._names: dict[int, list[str]] | None = None

    def of(self, cache: int) -> tuple[str, ...]:
        """The other names of a `struct kmem_cache *`, sorted; a unique cache has none.  Raises nothing: no names."""
        try:
            if self._names is None:
                self._names = {}
                for name, target in self._links():
                    self._names.setdefault(target, []).append(name)
            if not self._names:
                return ()
            offset = self._layout.offset("kmem_cache.kobj") + self._layout.offset("kobject.sd")
            return tuple(sorted(self._names.get(self._memory.ptr(cache + offset), ())))
        except (Unreadable, MissingDebugInfo):
            return ()  # a convenience for people: without it, a cache has the one name that it has

    def _links(self) -> Iterator[tuple[str, int]]:
        """The links in the directory: name, and the struct kernfs_node that each leads to."""
        layout, memory = self._layout, self._memory
        kset = memory.ptr(self._session.debuginfo.address("slab_kset"))
        if not kset:
            return
        folder = memory.ptr(kset + layout.offset("kset.kobj") + layout.offset("kobject.sd"))
        is_link = layout.enumerators("kernfs_node_type").get("KERNFS_LINK", 4)
        name_at, flags_at = layout.offset("kernfs_node.name"), layout.offset("kernfs_node.flags")
        target_at = layout.offset("kernfs_node.symlink") + layout.offset("kernfs_elem_symlink.target_kn")
        for node in self._children(folder):
            if memory.u16(node + flags_at) & is_link:
                name = memory.cstring(memory.ptr(node + name_at), _MAX_NAME).decode("utf-8", "backslashreplace")
                yield name, memory.ptr(node + target_at)

    def _children(self, folder: int) -> Iterator[int]:
        """The nodes in a directory, in no order; fs/kernfs/dir.c: kernfs_link_sibling."""
        layout, memory = self._layout, self._memory
        root = folder + layout.offset("kernfs_node.dir") + layout.offset("kernfs_elem_dir.children")
        in_node = layout.offset("kernfs_node.rb")
        left_at, right_at = layout.offset("rb_node.rb_left"), layout.offset("rb_node.rb_right")
        pending = [self._session.pointer(root, "rb_root.rb_node")]
        seen: set[int] = set()
        while pending and len(seen) < _MAX_LINKS:
            node = pending.pop()
            if not node or node in seen:
                continue
            seen.add(node)
            pending += [memory.ptr(node + left_at), memory.ptr(node + right_at)]
            yield node - in_node
