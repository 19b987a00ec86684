"""Caches, slabs and objects as SLUB, SLAB and KFENCE have them.  Sizes and offsets are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_kdump.errors import Unreadable
from gdb_kdump.records.record import record
from gdb_kdump.text import hex16

ALLOCATED = "allocated"
FREE = "free"
UNKNOWN = "unknown"

# What can be wrong with a freelist.
OUTSIDE = "outside"
MISALIGNED = "misaligned"
CYCLE = "cycle"
TWICE = "twice"
COUNT = "count"
SHEAVED = "sheaved"


@dataclass(frozen=True)
class SlabCache:
    """A struct kmem_cache.

    Objects stand `size` apart, `red_left_pad` behind the start of their room; `object_size` of it is the user's, what
    stands from `inuse` on is the allocator's.  A free object has the pointer to the next one at `offset`, encoded with
    `random` (None where the kernel does not); `flags` are the names of its flags without SLAB_.
    """

    addr: int
    name: str
    size: int
    object_size: int
    inuse: int
    offset: int
    red_left_pad: int
    random: int | None
    flags: frozenset[str]
    cpu_slab: int

    @property
    def is_guarded(self) -> bool:
        """Whether its objects have red zones, poison or padding to look at; mm/slub.c: check_object."""
        return bool(self.flags & {"RED_ZONE", "POISON"})


@dataclass(frozen=True)
class FreelistProblem:
    """A freelist that does not hold: `where` names the list ("slab", "CPU 1"), `kind` is one of the words above.

    `pointer` is the address that holds the bad link, in the free object `object` or, where that is 0, at the list's
    head; `stored` is what stands there and `found` what it means.  For COUNT there is no such link: `found` objects
    are on the list, where `expected` ought to be.  For SHEAVED it is a sheaf whose word at `pointer` does not hold.
    """

    where: str
    kind: str
    pointer: int
    object: int
    stored: int
    found: int
    expected: int = 0
    found_in: str = ""
    """What `found` is an object of where it is in another cache's slab, or another slab of the same cache: its name."""

    @property
    def sentence(self) -> str:
        place = f"the freelist of {self.where}"
        if self.kind == COUNT:
            return f"{place} has {self.found} objects, the counters say {self.expected}"
        if self.kind == SHEAVED:
            return f"a sheaf holds {hex16(self.found)} at {hex16(self.pointer)}, which {self.where} has too"
        link = f"{place} leads from object {hex16(self.object)} to {hex16(self.found)}"
        if not self.object:
            link = f"{place}, whose head is at {hex16(self.pointer)}, begins with {hex16(self.found)}"
        return f"{link}, {_KINDS[self.kind]}" + (f" but in one of {self.found_in}" if self.found_in else "")


_KINDS = {
    OUTSIDE: "which is not in this slab",
    MISALIGNED: "which is not the start of an object",
    CYCLE: "which it has passed before",
    TWICE: "which another freelist has too",
}


@record
class Slab:
    """A struct slab (or the struct page that it was before) at `addr`, with the memory from `start` on.

    `cpu` is the CPU that allocates from it, None where none does.  `free` are the free objects that were found; they
    are all of them unless a freelist has one of the `problems`, or runs into a `hole`.
    """

    addr: int
    start: int
    cache: SlabCache
    nr_objects: int
    inuse: int
    cpu: int | None
    free: frozenset[int]
    problems: tuple[FreelistProblem, ...] = ()
    hole: Unreadable | None = None

    @property
    def end(self) -> int:
        """The address behind the last object's room."""
        return self.start + self.nr_objects * self.cache.size

    def object_start(self, index: int) -> int:
        """The address of the object of that index."""
        return self.start + index * self.cache.size + self.cache.red_left_pad

    def state(self, start: int) -> tuple[str, str]:
        """Whether the object at `start` is ALLOCATED, FREE or UNKNOWN, and why that is not known."""
        if start in self.free:
            return FREE, ""
        if self.hole is not None:
            return UNKNOWN, f"a freelist of its slab runs into {hex16(self.hole.addr)}: {self.hole.why.sentence}"
        problem = next((problem for problem in self.problems if problem.kind != SHEAVED), None)
        if problem is not None:
            return UNKNOWN, problem.sentence
        return ALLOCATED, ""


class Zone(Enum):
    """Which bytes of an object's room a guard is, by what we call them; mm/slub.c: check_object."""

    LEFT_REDZONE = "left redzone"
    RIGHT_REDZONE = "right redzone"
    KMALLOC_REDZONE = "kmalloc redzone"  # what kmalloc() gave beyond what it was asked for
    ALIGNMENT = "alignment padding"
    POISON = "poison"
    END_POISON = "end poison"
    PADDING = "padding"


@dataclass(frozen=True)
class Guard:
    """Bytes around or in an object that SLUB's debugging has filled, and nobody may write: `size` of them at `addr`.

    `expected` says what with; a free object's poison ends in another byte, which is a guard of its own.  `damaged_at`
    is the first address that holds something else, None where none does; `found` are the bytes from there to the last
    damaged one; `hole` is why they could not be read.
    """

    zone: Zone
    addr: int
    size: int
    expected: int
    damaged_at: int | None = None
    found: bytes = b""
    hole: Unreadable | None = None

    @property
    def name(self) -> str:
        return self.zone.value


@dataclass(frozen=True)
class Track:
    """Who allocated (`kind` "alloc") or freed ("free") an object: return address, CPU, PID, jiffies, stack."""

    kind: str
    caller: int
    cpu: int
    pid: int
    when: int
    stack: tuple[int, ...]


@dataclass(frozen=True)
class SlabObject:
    """The object that the room around `addr` belongs to: `start` is the object's own address, `index` its number.

    `state` is ALLOCATED, FREE or UNKNOWN, `reason` why it is unknown, or what else there is to say.  `guards` is empty
    where the cache has none.
    """

    addr: int
    slab: Slab
    index: int
    start: int
    state: str
    reason: str = ""
    guards: tuple[Guard, ...] = ()

    @property
    def cache(self) -> SlabCache:
        return self.slab.cache

    @property
    def offset(self) -> int:
        """Where `addr` is in the object; below zero in its left red zone, object_size or more behind it."""
        return self.addr - self.start
