"""What slub_debug leaves in each object's room: red zones, poison, tracks of its allocation and free; mm/slub.c."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.mm.stackdepot import StackDepot
from gdb_kdump.records.slab import ALLOCATED, FREE, Guard, SlabCache, Track, Zone
from gdb_kdump.session import Session

# include/linux/poison.h
RED_INACTIVE = 0xBB
RED_ACTIVE = 0xCC
POISON_INUSE = 0x5A
POISON_FREE = 0x6B
POISON_END = 0xA5
_POINTER = 8
_MOST_TRIED, _ENOUGH, _FEWEST = 4000, 100, 8  # objects to look at, that tell, and that must agree
_NOTED = 8  # bytes for the requested size of a kmalloc object: 6edf2576a6cc (v6.1)


class SlubDebug:
    """Reads the debugging marks of one session's slab objects.

    `kmalloc_samples` gives allocated objects of kmalloc's caches, to find out whether the kernel guards their rest.
    """

    def __init__(self, session: Session, kmalloc_samples: Callable[[], Iterable[tuple[SlabCache, int]]]) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        # With CONFIG_KASAN there is more in an object's room than is told here, so its padding is not judged.
        self._has_kasan = layout.find_member("kmem_cache.kasan_info") is not None
        self._fills: bool | None = None
        self._kmalloc_samples = kmalloc_samples
        self._track_size = layout.size("track") if layout.find_struct("track") is not None else 0

    def guards(self, cache: SlabCache, start: int, state: str) -> tuple[Guard, ...]:
        """The guards of the object at `start`, in order of address; none where the cache is not debugged.

        mm/slub.c: check_object.  Red zones tell allocated from free, and only a free object is poisoned: where the
        state is not known these are left out.
        """
        if not cache.is_guarded:
            return ()
        guards = []
        end = start + cache.object_size
        if "RED_ZONE" in cache.flags and state in (ALLOCATED, FREE):
            red = RED_ACTIVE if state == ALLOCATED else RED_INACTIVE
            guards.append(self._guard(Zone.LEFT_REDZONE, start - cache.red_left_pad, cache.red_left_pad, red))
            guards.append(self._guard(Zone.RIGHT_REDZONE, end, cache.inuse - cache.object_size, red))
            requested = self._requested(cache, start) if state == ALLOCATED else None
            if requested is not None and self._fills_after_requested():
                addr, size = start + requested, cache.object_size - requested
                guards.append(self._guard(Zone.KMALLOC_REDZONE, addr, size, RED_ACTIVE))
        elif "RED_ZONE" not in cache.flags and cache.object_size < cache.inuse:
            guards.append(self._guard(Zone.ALIGNMENT, end, cache.inuse - cache.object_size, POISON_INUSE))
        if "OBJECT_POISON" in cache.flags and state == FREE:
            guards.append(self._guard(Zone.POISON, start, cache.object_size - 1, POISON_FREE))
            guards.append(self._guard(Zone.END_POISON, end - 1, 1, POISON_END))
        if "POISON" in cache.flags and not self._has_kasan:
            after = self._tracks_offset(cache) + self._noted_bytes(cache)
            size = cache.size - cache.red_left_pad - after
            guards.append(self._guard(Zone.PADDING, start + after, size, POISON_INUSE))
        return tuple(sorted((guard for guard in guards if guard.size > 0), key=lambda guard: guard.addr))

    def _requested(self, cache: SlabCache, start: int) -> int | None:
        """How many bytes kmalloc() was asked for, None where that is not noted; mm/slub.c: get_orig_size."""
        if not self._is_kmalloc(cache) or "STORE_USER" not in cache.flags or self._has_kasan:
            return None
        try:
            noted = self._memory.u32(start + self._tracks_offset(cache) + 2 * self._track_size)
        except Unreadable:
            return None
        # A kernel that notes nothing has padding there.
        return noted if 0 < noted <= cache.object_size else None

    def _fills_after_requested(self) -> bool:
        """Whether this kernel makes a red zone of what kmalloc() gave beyond what it was asked for.

        946fa0dbf2d8 (v6.2) mm/slub: extend redzone check to extra allocated kmalloc space than requested left no trace
        in any type; so objects that were asked for in other sizes than they have decide.
        """
        if self._fills is None:
            right, seen = 0, 0
            for cache, start in islice(self._kmalloc_samples(), _MOST_TRIED):
                requested = self._requested(cache, start)
                if requested is None or requested == cache.object_size or seen == _ENOUGH:
                    continue
                guard = self._guard(Zone.KMALLOC_REDZONE, start + requested, cache.object_size - requested, RED_ACTIVE)
                seen += guard.hole is None
                right += guard.hole is None and guard.damaged_at is None
            self._fills = right >= _FEWEST and right >= 0.9 * seen
        return self._fills

    @staticmethod
    def _is_kmalloc(cache: SlabCache) -> bool:
        return "KMALLOC" in cache.flags or cache.name.startswith(("kmalloc-", "dma-kmalloc-"))

    def _guard(self, zone: Zone, addr: int, size: int, expected: int) -> Guard:
        if size <= 0:
            return Guard(zone, addr, 0, expected)
        try:
            data = self._memory.read(addr, size)
        except Unreadable as error:
            return Guard(zone, addr, size, expected, hole=error.as_value())
        right = bytes([expected])
        damaged = data.lstrip(right)
        if not damaged:
            return Guard(zone, addr, size, expected)
        return Guard(zone, addr, size, expected, addr + size - len(damaged), damaged.rstrip(right))

    def _tracks_offset(self, cache: SlabCache) -> int:
        """Where the tracks begin, after the free pointer if that has a place of its own; mm/slub.c: get_info_end."""
        return cache.inuse + _POINTER if cache.offset >= cache.inuse else cache.inuse

    def _noted_bytes(self, cache: SlabCache) -> int:
        if "STORE_USER" not in cache.flags:
            return 0
        # Whether the kernel is one that notes the size no type tells: its place, then, is not judged.
        return 2 * self._track_size + (_NOTED if self._is_kmalloc(cache) else 0)

    def tracks(self, cache: SlabCache, start: int) -> tuple[Track, ...]:
        """The allocation of the object at `start`, and its free before or since; mm/slub.c: get_track.

        Raises Unreadable, MissingDebugInfo.
        """
        if "STORE_USER" not in cache.flags or not self._track_size:
            return ()
        unpacker = self._layout.unpacker("track", ("addr", "cpu", "pid", "when"))
        items = self._layout.enumerators("track_item")
        tracks = []
        for done, name, number in (("alloc", "TRACK_ALLOC", 0), ("free", "TRACK_FREE", 1)):
            track = start + self._tracks_offset(cache) + items.get(name, number) * self._track_size
            caller, cpu, pid, when = unpacker.unpack_from(*self._memory.block(track, unpacker.span))
            if caller:
                tracks.append(Track(done, caller, cpu, pid, when, self._stack(track)))
        return tuple(tracks)

    def _stack(self, track: int) -> tuple[int, ...]:
        """The stack of a track: 5cf909c553e9 (v5.19) mm/slub: use stackdepot to save stack trace in objects."""
        handle = self._layout.find_member("track.handle")
        if handle is not None:
            return self._session.once(StackDepot).find(self._memory.u32(track + handle.offset)) or ()
        entries = self._layout.find_member("track.addrs")
        if entries is None:
            return ()
        stack = memoryview(self._memory.read(track + entries.offset, entries.size)).cast("Q").tolist()
        return tuple(stack[: stack.index(0)] if 0 in stack else stack)
