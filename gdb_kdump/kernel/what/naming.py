"""What an address is, down to its owners."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.kernel.stack.whose_stack import StackOwners
from gdb_kdump.kernel.what.describe import Names
from gdb_kdump.kernel.what.places import Place, Places
from gdb_kdump.kernel.what.roots import Roots
from gdb_kdump.kernel.what.sk_buffs import SkbRanges
from gdb_kdump.kernel.what.things import Thing
from gdb_kdump.records.owners import Kind, Link, What
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_MOST_CHAINS = 8
_WALKED = (Kind.SLAB, Kind.PAGE, Kind.VMAP)
"""Where nothing that was walked leading to an address is worth saying."""


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
        if place.kind is Kind.STACK:
            return What(addr, place.kind, place.links, tuple(self._on_stack(addr, gaps)))
        things = self._things(place, addr, gaps) if place.may_be_owned else []
        ways = [(thing, way) for thing in things for way in thing.ways()]
        chains = [tuple(self._links(thing, way, addr)) for thing, way in ways]
        more = max(0, len(chains) - _MOST_CHAINS) + sum(thing.more for thing in things)
        return What(addr, place.kind, place.links, tuple(chains[:_MOST_CHAINS]), more, place.kind in _WALKED)

    def _things(self, place: Place, addr: int, gaps: Gaps) -> list[Thing]:
        """The objects at an address, those of which only the beginning is known last."""
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
        return roots.things.beginning(place.start)

    def _links(self, thing: Thing, way: list[tuple[Thing, str]], addr: int) -> Iterator[Link]:
        for number, (one, relation) in enumerate(way):
            text = one.text or self._names.of(one.what, one.addr)
            if one.what == "sk_buff" and not one.above:
                text += ", which is on no queue that was walked"
            yield Link(one.what, one.addr, 0 if number else addr - thing.addr, text, relation)

    def _on_stack(self, addr: int, gaps: Gaps) -> Iterator[tuple[Link, ...]]:
        stacks = self._session.once(StackOwners)
        gaps.note(*stacks.gaps)
        stack = stacks.find(addr)
        if stack is None or stack.task is None:
            return
        task = Link("task_struct", stack.task.addr, 0, self._names.of("task_struct", stack.task.addr), "")
        frame = stacks.frame(stack, addr)
        if frame is None:
            yield (Link("stack", stack.low, addr - stack.low, "stack, below all frames,"), task)
            return
        source = frame.source
        function = f"{source.function}+{source.offset:#x}" if source.function and source.offset is not None else "?"
        yield (Link("frame", frame.sp, addr - frame.sp, f"frame #{frame.level} ({function})"), task)
