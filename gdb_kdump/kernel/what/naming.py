"""What an address is, down to its owners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdb_kdump.kernel.mm.typed_caches import TypedCaches
from gdb_kdump.kernel.stack.whose_stack import StackOwners
from gdb_kdump.kernel.what.describe import Names
from gdb_kdump.kernel.what.place import Place
from gdb_kdump.kernel.what.places import Places
from gdb_kdump.kernel.what.roots import Roots
from gdb_kdump.kernel.what.sk_buffs import SkbRanges
from gdb_kdump.kernel.what.things import Thing
from gdb_kdump.records.owners import Kind, Link, What, at
from gdb_kdump.records.slab import ALLOCATED
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_MOST_CHAINS = 8
_WALKED = (Kind.SLAB, Kind.PAGE, Kind.VMAP)
"""Where nothing that was walked leading to an address is worth saying."""
_OWNED = (*_WALKED, Kind.SYMBOL, Kind.MODULE, Kind.PERCPU, Kind.IMAGE)


class Naming:
    """Names the addresses of one session; tasks, sockets, queues are walked when an address first needs that."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._places = session.once(Places)
        self._names = session.once(Names)

    def name(self, addr: int) -> str:
        """What an address is, in one line for people."""
        return self.of(addr, Gaps()).text

    def of(self, addr: int, gaps: Gaps) -> What:
        """What an address (unsigned long) is; what could not be looked for goes to `gaps`."""
        place = self._places.of(addr)
        gaps.note(*self._places.gaps)
        owners, more = self._owners(place, addr, gaps)
        kind, memory = place.kind, place.links
        for alias in place.aliases:
            other = self._places.of(alias)
            others, left_out = self._owners(other, alias, gaps)
            owners, more = [*owners, *others], more + left_out
            if other.kind is Kind.SYMBOL:
                kind, memory = other.kind, other.links
            elif other.kind in (Kind.STACK, Kind.VMAP):
                memory = (*memory[:-1], replace(memory[-1], relation=", which is also"), *other.links)
        return What(
            addr=addr,
            kind=kind,
            memory=memory,
            owners=tuple(owners[:_MOST_CHAINS]),
            more=more + max(0, len(owners) - _MOST_CHAINS),
            searched=kind in _WALKED,
            physical=place.physical,
            aliases=place.aliases,
        )

    def _owners(self, place: Place, addr: int, gaps: Gaps) -> tuple[list[tuple[Link, ...]], int]:
        """The chains that lead to an address, and how many more there are."""
        if place.kind is Kind.STACK:
            return list(self._on_stack(addr, gaps)), 0
        if place.kind not in _OWNED or (place.kind is Kind.SYMBOL and place.links[0].what == "function"):
            return [], 0
        things = self._things(place, addr, gaps)
        chains = [tuple(self._links(thing, way, addr)) for thing in things for way in thing.ways()]
        return chains, sum(thing.more for thing in things)

    def _things(self, place: Place, addr: int, gaps: Gaps) -> list[Thing]:
        """The objects at an address; or those of which only the beginning or the cache is known."""
        roots = self._session.once(Roots)
        gaps.note(*roots.gaps)
        known = [thing for thing in roots.things.find(addr) if thing.addr >= (place.start or 0)]
        skbs: list[Thing] = []
        if place.kind in _WALKED:
            ranges = self._session.once(SkbRanges)
            gaps.note(*ranges.gaps)
            skbs = ranges.find(addr)
            skbs += [thing for start in {addr, place.start} if start for thing in ranges.referred(start)]
        if known or skbs or place.start is None:
            return [*skbs, *known]
        return roots.things.beginning(place.start) or self._by_cache(place)

    def _by_cache(self, place: Place) -> list[Thing]:
        """The object of a cache that has only such ones."""
        slab_object = place.slab_object
        if slab_object is None or slab_object.state != ALLOCATED:
            return []
        tag = self._session.once(TypedCaches).tag(slab_object.cache.addr)
        if not tag:
            return []
        return [self._session.once(Roots).alone(tag, slab_object.start)]

    def _links(self, thing: Thing, way: list[tuple[Thing, str]], addr: int) -> Iterator[Link]:
        for number, (one, relation) in enumerate(way):
            offset = 0 if number else addr - thing.addr
            if one.text:
                text = one.text
            elif number:
                text = self._names.brief(one.what, one.addr)
            else:
                text = self._names.at(one.what, one.addr, offset)
            yield Link(one.what, one.addr, offset, text + one.note, relation)

    def _on_stack(self, addr: int, gaps: Gaps) -> Iterator[tuple[Link, ...]]:
        stacks = self._session.once(StackOwners)
        gaps.note(*stacks.gaps)
        stack = stacks.find(addr)
        if stack is None or stack.task is None:
            return
        task = Link("task_struct", stack.task.addr, 0, self._names.brief("task_struct", stack.task.addr), "")
        frame = stacks.frame(stack, addr)
        if frame is None:
            yield (Link("stack", stack.low, addr - stack.low, "below all frames", " on the stack of"), task)
            return
        source, offset = frame.source, addr - frame.sp
        function = f"{source.function}+{source.offset:#x}" if source.function and source.offset is not None else "?"
        yield (Link("frame", frame.sp, offset, at(f"frame #{frame.level}", offset, f" ({function})")), task)
