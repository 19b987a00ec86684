"""SLUB's freelists: each free object holds the pointer to the next one, encoded where the kernel is hardened."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gdb_kdump.errors import Unreadable
from gdb_kdump.memory import Memory
from gdb_kdump.records.slab import CYCLE, MISALIGNED, OUTSIDE, TWICE, FreelistProblem, SlabCache

_ENOUGH = 32  # links that agree on the encoding

# A link's stored value, the cache's random number and the link's address, to the pointer that it means.
Decoder = Callable[[int, int, int], int]


@dataclass(frozen=True)
class SlabExtent:
    """Where the objects of one slab can be: `nr_objects` of them from `start` on."""

    cache: SlabCache
    start: int
    nr_objects: int

    def fault(self, pointer: int) -> str:
        """What keeps a pointer from being an object of this slab: OUTSIDE, MISALIGNED, or "" where nothing does.

        mm/slub.c: check_valid_pointer.
        """
        offset = pointer - self.start - self.cache.red_left_pad
        if not 0 <= offset < self.nr_objects * self.cache.size:
            return OUTSIDE
        return MISALIGNED if offset % self.cache.size else ""


@dataclass(frozen=True)
class FreelistWalk:
    """The free objects on a freelist, in order, and what ended the walk before its NULL: a problem, or a hole."""

    objects: tuple[int, ...]
    problem: FreelistProblem | None = None
    hole: Unreadable | None = None


class Freelists:
    """Walks the freelists of one kernel; `samples` gives slabs and objects on freelists, to find the encoding by."""

    def __init__(self, memory: Memory, samples: Callable[[], Iterable[tuple[SlabExtent, int]]]) -> None:
        self._memory = memory
        self._samples = samples
        self._decoder: Decoder | None = None

    def walk(
        self, extent: SlabExtent, where: str, head_at: int, first: int, others: frozenset[int] = frozenset()
    ) -> FreelistWalk:
        """Follow the freelist `where` of a slab, whose head at `head_at` holds `first`.

        `others` are the objects on the slab's other freelist.  mm/slub.c: get_freepointer, on_freelist.
        """
        seen: dict[int, None] = {}
        holder, pointer_at, stored, pointer = 0, head_at, first, first
        while pointer:
            fault = extent.fault(pointer) or (CYCLE if pointer in seen else TWICE if pointer in others else "")
            if fault:
                problem = FreelistProblem(where, fault, pointer_at, holder, stored, pointer)
                return FreelistWalk(tuple(seen), problem)
            seen[pointer] = None
            holder, pointer_at = pointer, pointer + extent.cache.offset
            try:
                stored = self._memory.u64(pointer_at)
            except Unreadable as error:
                return FreelistWalk(tuple(seen), hole=error.as_value())
            pointer = self.decode(extent.cache, pointer_at, stored)
        return FreelistWalk(tuple(seen))

    def has_link(self, extent: SlabExtent, start: int) -> bool:
        """Whether an object holds an encoded link of a freelist, as only a free one does.

        Without the encoding there is no telling: any NULL or pointer to a neighbour would do.
        """
        if extent.cache.random is None:
            return False
        pointer_at = start + extent.cache.offset
        try:
            pointer = self.decode(extent.cache, pointer_at, self._memory.u64(pointer_at))
        except Unreadable:
            return False
        return not pointer or not extent.fault(pointer)

    def decode(self, cache: SlabCache, pointer_at: int, stored: int) -> int:
        """The pointer that the link `stored` at `pointer_at` means; mm/slub.c: freelist_ptr_decode."""
        if cache.random is None:
            return stored
        if self._decoder is None:
            self._decoder = self._find_decoder()
        return self._decoder(stored, cache.random, pointer_at)

    def _find_decoder(self) -> Decoder:
        """The encoding of this kernel.

        1ad53d9fa3f6 (v5.7) slub: improve bit diffusion for freelist ptr obfuscation turned the address's bytes round.
        It went into stable kernels too and left no trace in any type, so the links themselves decide: rightly decoded
        they are NULL or lead to an object of their own slab, which wrongly decoded ones do once in 2**50.
        """
        votes = {_swapped: 0, _plain: 0}
        for extent, first in self._samples():
            if extent.cache.random is None or extent.fault(first):
                continue
            pointer_at = first + extent.cache.offset
            try:
                stored = self._memory.u64(pointer_at)
            except Unreadable:
                continue  # the next sample will do
            for decoder in votes:
                pointer = decoder(stored, extent.cache.random, pointer_at)
                votes[decoder] += not pointer or not extent.fault(pointer)
            if max(votes.values()) >= _ENOUGH:
                break
        return _plain if votes[_plain] > votes[_swapped] else _swapped


def _swapped(stored: int, random: int, pointer_at: int) -> int:
    return stored ^ random ^ int.from_bytes(pointer_at.to_bytes(8, "little"), "big")


def _plain(stored: int, random: int, pointer_at: int) -> int:
    return stored ^ random ^ pointer_at
