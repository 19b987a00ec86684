"""KFENCE: a few objects, each on a page of its own between guard pages, that stand in for slab objects; mm/kfence/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Unreadable
from gdb_kdump.records.slab import ALLOCATED, FREE, Track
from gdb_kdump.session import Session

_MOST = 65535  # lib/Kconfig.kfence: the range of KFENCE_NUM_OBJECTS
_NEVER_USED = "unused"
# Since v6.12 an object can wait for RCU before it is free: it may not be held any more, but readers do.
_STATES = {"KFENCE_OBJECT_ALLOCATED": ALLOCATED, "KFENCE_OBJECT_RCU_FREEING": ALLOCATED, "KFENCE_OBJECT_FREED": FREE}


@dataclass(frozen=True)
class KfenceObject:
    """An object of KFENCE's pool: `state` as for slab objects, `cache` the kmem_cache that it stands in for."""

    addr: int
    size: int
    state: str
    cache: int
    metadata: int


class Kfence:
    """Reads the pool of one session; there is none where the kernel has no KFENCE or did not switch it on."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._layout = session.layout
        self._page_size = session.arch.page_size
        self._count = 0
        pool, metadata = map(session.debuginfo.find_address, ("__kfence_pool", "kfence_metadata"))
        if pool is None or metadata is None or self._layout.find_struct("kfence_metadata") is None:
            return
        self._pool = self._memory.ptr(pool)
        # cabdf74e6b31 (v6.6) mm: kfence: allocate kfence_metadata at runtime: an array before.
        self._metadata = self._memory.ptr(metadata) if session.debuginfo.is_pointer("kfence_metadata") else metadata
        self._size = self._layout.size("kfence_metadata")
        self._unpacker = self._layout.unpacker("kfence_metadata", ("state", "addr", "size", "cache"))
        states = self._layout.enumerators("kfence_object_state")
        self._states = {number: _STATES.get(name, _NEVER_USED) for name, number in states.items()}
        if self._pool and self._metadata:
            self._count = self._find_count()

    def _find_count(self) -> int:
        """How many objects there are, which no variable says: each one's address is on the page of its number."""
        for number in range(_MOST):
            try:
                addr = self._read(number).addr
            except Unreadable:
                return number
            if addr & -self._page_size != self._page(number):
                return number
        return _MOST

    def has(self, addr: int) -> bool:
        """Whether an address lies in KFENCE's pool; include/linux/kfence.h: is_kfence_address."""
        return bool(self._count) and 0 <= addr - self._pool < (self._count + 1) * 2 * self._page_size

    def find(self, addr: int) -> KfenceObject | None:
        """The object whose page an address lies in, or after whose page; mm/kfence/kfence.h: addr_to_metadata.

        None outside the pool and where no object ever was.  Raises Unreadable.
        """
        if not self.has(addr):
            return None
        number = (addr - self._pool) // (2 * self._page_size) - 1
        fenced = self._read(number) if 0 <= number < self._count else None
        return None if fenced is None or fenced.state == _NEVER_USED else fenced

    def objects_of(self, cache: int) -> Iterator[KfenceObject]:
        """The objects that stand in for those of a `struct kmem_cache *`; raises Unreadable."""
        for number in range(self._count):
            fenced = self._read(number)
            if fenced.cache == cache and fenced.state != _NEVER_USED:
                yield fenced

    def tracks(self, fenced: KfenceObject) -> tuple[Track, ...]:
        """The allocation of an object, and its free; struct kfence_track.  Raises Unreadable, MissingDebugInfo."""
        members = ("pid", "cpu", "ts_nsec", "num_stack_entries")
        unpacker = self._layout.unpacker("kfence_track", members)
        entries = self._layout.member("kfence_track.stack_entries")
        tracks = []
        for done in ("alloc", "free"):
            track = fenced.metadata + self._layout.offset(f"kfence_metadata.{done}_track")
            pid, cpu, when, count = unpacker.unpack_from(*self._memory.block(track, unpacker.span))
            data = self._memory.read(track + entries.offset, min(max(count, 0) * 8, entries.size))
            stack = tuple(memoryview(data).cast("Q").tolist())
            if stack and not (done == "free" and fenced.state == ALLOCATED):
                tracks.append(Track(done, stack[0], cpu, pid, when, stack))
        return tuple(tracks)

    def _page(self, number: int) -> int:
        return self._pool + (number + 1) * 2 * self._page_size

    def _read(self, number: int) -> KfenceObject:
        metadata = self._metadata + number * self._size
        state, addr, size, cache = self._unpacker.unpack_from(*self._memory.block(metadata, self._unpacker.span))
        return KfenceObject(addr, size, self._states.get(state, _NEVER_USED), cache, metadata)
