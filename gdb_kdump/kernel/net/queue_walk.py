"""What the walk of a queue comes to: the queue, and the figures of its sk_buffs."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import NamedTuple

from gdb_kdump import walks
from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.skb_columns import Figures
from gdb_kdump.layout.net import skb_counts_from_head
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.memory import Gather
from gdb_kdump.records.allocation import Allocation
from gdb_kdump.records.queue import Queue
from gdb_kdump.session import Session
from gdb_kdump.text import LOWEST_KERNEL_ADDRESS

MISALIGNED = 7  # bits that no sk_buff's address has
_MEMBERS = ("prev", "len", "data_len", "end", "head", "truesize")


@dataclass(frozen=True)
class QueueWalk:
    """A queue, and the figures of those of its sk_buffs that can be read."""

    queue: Queue
    figures: Figures
    nr_frags: Gather[int] | None = None  # what SkbFigures.nr_frags gives, on its way


class ChainWalk(NamedTuple):
    """What a walk along a list that ends in NULL came to, in the words of a Queue."""

    nodes: tuple[int, ...]
    cycle: int | None = None
    hole: Unreadable | None = None
    stopped: str = ""
    astray: int | None = None


class SkbFigures:
    """Reads the figures of sk_buffs of one session, and tells what is none."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self.skb = session.layout.unpacker("sk_buff", _MEMBERS)
        """Decodes prev and what `of` takes."""
        self.links = session.layout.unpacker("sk_buff", ("next", "prev"))
        self.end_is_offset = skb_counts_from_head(session.layout, "end")
        self._nr_frags = session.layout.number("skb_shared_info.nr_frags")

    def empty(self) -> Figures:
        """Those of no sk_buff, to add to."""
        _, lengths, data_lengths, _, _, truesizes = self.skb.columns(b"")
        return Figures(lengths, data_lengths, truesizes)

    def add(self, figures: Figures, skb: int) -> None:
        """Add those of the sk_buff at an address; raises Unreadable."""
        _, *record = self.skb.unpack_from(*self._memory.block(skb, self.skb.span))
        figures.add(skb, *self.of(*record))

    def of(self, length: int, data_len: int, end: int, head: int, truesize: int) -> tuple[int, int, int, int]:
        """What Figures has of an sk_buff with these members."""
        return length, data_len, truesize, head + end if self.end_is_offset else end

    def begin_nr_frags(self) -> Gather[int]:
        """Reads the nr_frags of shared infos (addresses) that are added to it."""
        unpacker = Unpacker([replace(self._nr_frags, offset=0)], self._nr_frags.size)
        return self._memory.gather(self._nr_frags.offset, unpacker.span, lambda data: unpacker.columns(data)[0])

    def nr_frags(self, walk: QueueWalk) -> dict[int, int | Why]:
        """The nr_frags of each shared info of a queue's sk_buffs, by its address, or why it cannot be read.

        After Ctrl-C, those that are known.
        """
        gather = walk.nr_frags or self.begin_nr_frags()
        if walks.is_interrupted():
            return gather.found(wait=False)
        try:
            if walk.nr_frags is None:
                gather.add(walk.figures.shared_info)
            return gather.found()
        except KeyboardInterrupt:
            walks.interrupt()
            return gather.found(wait=False)

    def leads_astray(self, skb: int, among: Container[int] | Figures, is_linked: bool = True) -> bool:
        """Whether what should be the next sk_buff of a chain, after those `among` it, is none, or one of another list.

        An sk_buff in a list has a prev (`is_linked`: next and prev are what they are called), one in a chain has none.
        """
        allocation = self._session.once(Allocations).of(skb)
        if allocation.kind in ("free", "page") or (allocation.kind == "slab" and not self._is_skb(skb, allocation)):
            return True
        if not is_linked:
            return False
        try:
            following, before = self.links.unpack_from(*self._memory.block(skb, self.links.span))
            if before in among or not (is_plausible(before) and is_plausible(following)):
                return False
            in_list = (
                self.links.unpack_from(*self._memory.block(before, self.links.span))[0],
                self.links.unpack_from(*self._memory.block(following, self.links.span))[1],
            )
        except Unreadable:
            return False
        return in_list == (skb, skb)

    def is_object(self, skb: int) -> bool:
        """Whether that is an allocated object of an skb cache."""
        allocation = self._session.once(Allocations).of(skb)
        return allocation.kind == "slab" and allocation.state == "allocated" and self._is_skb(skb, allocation)

    def _is_skb(self, skb: int, allocation: Allocation) -> bool:
        return allocation.is_skb and skb - allocation.start in (0, self.skb.size)


def follow_chain(
    first: int,
    following: Callable[[int], int],
    leads_astray: Callable[[int, Container[int]], bool] = lambda node, among: False,
) -> ChainWalk:
    """A list that ends in NULL, from `first` on; `following` reads the next node and may raise Unreadable.

    `leads_astray` tells of a node, and those before it, whether it is none of them.
    """
    nodes: dict[int, None] = {}
    node = first
    try:
        while node:
            if node in nodes:
                return ChainWalk(tuple(nodes), cycle=node)
            if len(nodes) >= walks.max_elements():
                return ChainWalk(tuple(nodes), stopped=walks.too_many("the queue"))
            if not is_plausible(node):
                return ChainWalk(tuple(nodes), hole=Unreadable(node, Why.UNMAPPED))
            if leads_astray(node, nodes):
                return ChainWalk(tuple(nodes), astray=node)
            try:
                after = following(node)
            except Unreadable as error:
                return ChainWalk(tuple(nodes), hole=error.as_value())
            nodes[node] = None
            node = after
    except KeyboardInterrupt:
        return ChainWalk(tuple(nodes), stopped=walks.interrupt())
    return ChainWalk(tuple(nodes))


def queue_walk(
    figures: Figures, name: str, head: int, qlen: int, nodes: tuple[int, ...] | None = None, **more: object
) -> QueueWalk:
    """A queue with the sums of its sk_buffs' figures; `nodes` where they are not all of these."""
    queue = Queue(
        name, head, qlen, tuple(figures.nodes) if nodes is None else nodes,
        bytes=sum(figures.len), truesize=sum(figures.truesize), **more  # type: ignore[arg-type]
    )  # fmt: skip
    return QueueWalk(queue, figures)


def is_plausible(node: int) -> bool:
    """Whether an sk_buff (address) can stand there at all."""
    return node >= LOWEST_KERNEL_ADDRESS and not node & MISALIGNED
