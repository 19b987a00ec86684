"""Lists of sk_buffs that are a struct sk_buff_head, walked with distrust, both ways where one shows damage.

Nothing here judges: a walk says what it met, and gdb_kdump.rules.queue what that means.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from operator import add, or_
from typing import NamedTuple

from gdb_kdump import walks
from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.kernel.lib.spinlocks import Spinlocks
from gdb_kdump.kernel.net.queue_walk import MISALIGNED, QueueWalk, SkbFigures, is_plausible, queue_walk
from gdb_kdump.kernel.net.skb_columns import Figures
from gdb_kdump.kernel.stack.interrupted import Interruption
from gdb_kdump.memory import Gather
from gdb_kdump.records.queue import BadLink, Role
from gdb_kdump.session import Session
from gdb_kdump.text import LOWEST_KERNEL_ADDRESS


class _Forward(NamedTuple):
    """What a walk along next came to."""

    figures: Figures
    bad_links: list[BadLink]  # pointers that contradict each other
    cycle: int | None = None  # the node that it met again
    hole: Unreadable | None = None  # what stopped it
    stopped: str = ""  # why it was given up


class SkbLists:
    """Walks the lists of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self.figures = session.once(SkbFigures)
        layout = session.layout
        self._head = layout.unpacker("sk_buff_head", ("next", "prev", "qlen"))
        self._next = layout.offset("sk_buff.next")
        self._lock, self._spinlocks = layout.find_member("sk_buff_head.lock"), session.once(Spinlocks)

    def linked(self, name: str, head: int, sock: int = 0, role: Role = Role.OTHER, nr_frags: bool = False) -> QueueWalk:
        """A `struct sk_buff_head *`, walked both ways where the first shows damage; skb_queue_walk.

        With `nr_frags` these are read on the way, as they will be asked for.  Raises Unreadable for the head only.
        """
        first, last, qlen = self._head.unpack_from(*self._memory.block(head, self._head.span))
        if not first and not last and not qlen:
            # Never initialised, as a request socket's error queue.
            return queue_walk(self.figures.empty(), name, head, 0, sock=sock, role=role)
        gather = self.figures.begin_nr_frags() if nr_frags else None
        with _no_garbage_collection():
            forward = self._follow(head, first, gather)
        figures, bad_links, cycle, hole, stopped = forward
        if stopped:
            walked = queue_walk(
                figures, name, head, qlen, bad_links=tuple(bad_links), sock=sock, role=role, stopped=stopped
            )
            return replace(walked, nr_frags=gather if walks.is_interrupted() else None)
        nodes = tuple(figures.nodes)
        end = nodes[-1] if nodes else head
        if cycle is None and hole is None and last != end:
            bad_links.append(BadLink(head, end, last))
        if not bad_links and cycle is None and hole is None:
            is_busy = qlen != len(nodes) and self._is_busy(head)
            return replace(
                queue_walk(figures, name, head, qlen, sock=sock, role=role, is_busy=is_busy), nr_frags=gather
            )
        try:
            return self._from_both_ends(name, head, last, qlen, sock, role, forward)
        except KeyboardInterrupt:
            stopped = walks.interrupt()
        return queue_walk(
            figures, name, head, qlen, nodes, bad_links=tuple(bad_links), sock=sock, role=role, stopped=stopped
        )

    def _from_both_ends(
        self, name: str, head: int, last: int, qlen: int, sock: int, role: Role, forward: _Forward
    ) -> QueueWalk:
        """A queue that is damaged somewhere, with what a walk along next came to."""
        figures, bad_links, cycle, hole, _ = forward
        nodes = tuple(figures.nodes)
        back = self._follow_back(head, last)
        bad_links = [_blame(bad, back, head) for bad in bad_links]
        cut = next((bad for bad in bad_links if bad.member == "next" and bad.found not in back), None)
        if cut is not None:
            # A wild `next` leads out of the queue: keep the nodes up to it.
            nodes = nodes[: nodes.index(cut.found)]
            figures.cut(len(nodes))
            bad_links, cycle, hole = bad_links[: bad_links.index(cut) + 1], None, None
        from_tail = tuple(node for node in back if node not in figures and node != head)
        for node in from_tail:
            self.figures.add(figures, node)
        return queue_walk(
            figures, name, head, qlen, nodes, bad_links=tuple(bad_links), cycle=cycle, hole=hole, from_tail=from_tail,
            astray=cut.found if cut else None, sock=sock, role=role, is_busy=self._is_busy(head),
        )  # fmt: skip

    def _is_busy(self, head: int) -> bool:
        """Whether the lock of a `struct sk_buff_head *` was held, and its holder may have been in the middle."""
        if self._lock is None or not self._spinlocks.is_held(head + self._lock.offset):
            return False
        return self._session.once(Interruption).possible()

    def _follow(self, head: int, first: int, gather: Gather[int] | None) -> _Forward:
        """The list along next, block by block as long as they are sound, and from there on one by one."""
        figures = self.figures.empty()
        before, node = head, first
        try:
            for following, block in self._memory.follow(first, head, self._next, self.figures.skb.pieces):
                if not self._take_sound(figures, before, node, following, block, gather):
                    return self._follow_one_by_one(head, before, node, figures)
                if following:
                    before, node = (following[-2] if len(following) > 1 else node), following[-1]
        except KeyboardInterrupt:
            return _Forward(figures, [], stopped=walks.interrupt())
        return _Forward(figures, [], hole=self._hole(node, head))

    def _take_sound(
        self, figures: Figures, before: int, node: int, following: array[int], block: bytes, gather: Gather[int] | None
    ) -> bool:
        """Add a block of nodes, from `node` on, that leads to `following` of each; False where it is not sound.

        A queue can hold hundreds of thousands of sk_buffs: nothing here is done for each of them in Python.
        """
        if len(figures) + len(following) > walks.max_elements():
            return False
        prev, lengths, data_lengths, ends, starts, truesizes = self.figures.skb.columns(block)
        nodes = [node, *following][:-1]
        if (array("Q", [before, node]) + following)[: len(prev)] != prev or not _are_plausible(nodes):
            return False
        shared_infos = list(map(add, starts, ends)) if self.figures.end_is_offset else list(ends)
        if not figures.extend(nodes, lengths, data_lengths, truesizes, shared_infos):
            return False
        if gather is not None:
            gather.add(shared_infos)
        return True

    def _follow_one_by_one(self, head: int, before: int, node: int, figures: Figures) -> _Forward:
        """The rest of a queue that is damaged somewhere, or too long, from `node` on, which follows `before`."""
        bad_links: list[BadLink] = []
        most = walks.max_elements()
        try:
            for following, block in self._memory.follow(node, head, self._next, self.figures.skb.pieces):
                for after, prev, *record in zip(following, *self.figures.skb.columns(block)):
                    if node in figures:
                        return _Forward(figures, bad_links, cycle=node)
                    if len(figures) >= most:
                        return _Forward(figures, bad_links, stopped=walks.too_many("the queue"))
                    if not is_plausible(node):
                        return _Forward(figures, bad_links, hole=Unreadable(node, Why.UNMAPPED))
                    if prev != before:
                        bad_links.append(BadLink(node, before, prev))
                    figures.add(node, *self.figures.of(*record))
                    before, node = node, after
        except KeyboardInterrupt:
            return _Forward(figures, bad_links, stopped=walks.interrupt())
        return _Forward(figures, bad_links, hole=self._hole(node, head))

    def _hole(self, node: int, head: int) -> Unreadable | None:
        """Why a walk ended at a node that is not the head."""
        if node == head:
            return None
        if not is_plausible(node):
            return Unreadable(node, Why.UNMAPPED)
        try:
            self._memory.block(node, self.figures.skb.span)
        except Unreadable as error:
            return error.as_value()
        return None

    def _follow_back(self, head: int, last: int) -> dict[int, int]:
        """The nodes from the tail on, along prev, until the head, a hole or a node that came before; by each of them
        the one after it.
        """
        back: dict[int, int] = {}
        node, after = last, head
        while node != head and node not in back and is_plausible(node) and len(back) < walks.max_elements():
            try:
                following, prev = self.figures.links.unpack_from(*self._memory.block(node, self.figures.skb.span))
            except Unreadable:
                break  # the hole that stopped the walk along next is the one that is told
            # The pointer that led there is wrong then, and what stands there belongs to no list, or to another.
            if self.figures.leads_astray(node, back, is_linked=following != after):
                break
            back[node] = after
            node, after = prev, node
        if node == head:
            back[head] = after
        return back


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python's collector would look at all sk_buffs found so far, again and again, and none is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _are_plausible(nodes: list[int]) -> bool:
    return not nodes or (min(nodes) >= LOWEST_KERNEL_ADDRESS and not reduce(or_, nodes) & MISALIGNED)


def _blame(bad: BadLink, back: dict[int, int], head: int) -> BadLink:
    """Which of two pointers that contradict each other is wrong: `prev` of the node, or `next` of the one before it.

    The walk from the tail knows: where it comes to the node before from another node, that one is the right next.
    """
    before = bad.expected
    if bad.node == head or before not in back:
        return bad
    right = back[before]
    return BadLink(before, right, bad.node, "next") if right != bad.node else bad
