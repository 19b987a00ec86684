"""Queues of sk_buffs, walked with distrust: struct sk_buff_head, struct rb_root, sk_backlog, the accept queue.

Nothing here judges: a walk says what it met, and gdb_kdump.rules.queue what that means.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import add, or_
from typing import Optional

from gdb_kdump import walks
from gdb_kdump.errors import MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.lib.rbtree import RbTrees
from gdb_kdump.kernel.lib.spinlocks import Spinlocks
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.skb_columns import Figures
from gdb_kdump.kernel.stack.interrupted import Midway
from gdb_kdump.layout.net import skb_counts_from_head
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.memory import Gather
from gdb_kdump.records.allocation import Allocation
from gdb_kdump.records.queue import BadLink, Queue, Role
from gdb_kdump.session import Session
from gdb_kdump.text import LOWEST_KERNEL_ADDRESS

_MISALIGNED = 7  # bits that no sk_buff's address has

# What a walk along next came to: what it found, contradicting pointers, the node that it met again, the hole that
# stopped it, and why it was given up.
Followed = tuple[Figures, list[BadLink], Optional[int], Optional[Unreadable], str]

_MEMBERS = ("prev", "len", "data_len", "end", "head", "truesize")


@dataclass(frozen=True)
class Chain:
    """What a walk along a list that ends in NULL came to, in the words of a Queue."""

    nodes: tuple[int, ...]
    cycle: int | None = None
    hole: Unreadable | None = None
    stopped: str = ""
    astray: int | None = None


@dataclass(frozen=True)
class Walked:
    """A queue, and the Figures of those of its sk_buffs that can be read."""

    queue: Queue
    figures: Figures
    nr_frags: Gather[int] | None = None  # what SkbQueues.nr_frags gives, on its way


class SkbQueues:
    """Walks the queues of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        self._head = layout.unpacker("sk_buff_head", ("next", "prev", "qlen"))
        self._links = layout.unpacker("sk_buff", ("next", "prev"))
        self._skb = layout.unpacker("sk_buff", _MEMBERS)
        self._next = layout.offset("sk_buff.next")
        self._lock, self._spinlocks = layout.find_member("sk_buff_head.lock"), session.once(Spinlocks)
        self._end_is_offset = skb_counts_from_head(layout, "end")
        self._nr_frags = layout.number("skb_shared_info.nr_frags")

    def linked(self, name: str, head: int, sock: int = 0, role: Role = Role.OTHER, nr_frags: bool = False) -> Walked:
        """A `struct sk_buff_head *`, walked both ways where the first shows damage; skb_queue_walk.

        With `nr_frags` these are read on the way, as they will be asked for.  Raises Unreadable for the head only.
        """
        first, last, qlen = self._head.unpack_from(*self._memory.block(head, self._head.span))
        if not first and not last and not qlen:
            # Never initialised, as a request socket's error queue.
            return _walked(self._nothing(), name, head, 0, sock=sock, role=role)
        gather = self._gather() if nr_frags else None
        with _no_garbage_collection():
            figures, bad_links, cycle, hole, stopped = self._follow(head, first, gather)
        if stopped:
            walked = _walked(
                figures, name, head, qlen, bad_links=tuple(bad_links), sock=sock, role=role, stopped=stopped
            )
            return replace(walked, nr_frags=gather if walks.is_interrupted() else None)
        nodes = tuple(figures.nodes)
        end = nodes[-1] if nodes else head
        if cycle is None and hole is None and last != end:
            bad_links.append(BadLink(head, end, last))
        if not bad_links and cycle is None and hole is None:
            is_busy = qlen != len(nodes) and self._is_busy(head)
            return replace(_walked(figures, name, head, qlen, sock=sock, role=role, is_busy=is_busy), nr_frags=gather)
        try:
            return self._from_both_ends(name, head, last, qlen, sock, role, (figures, bad_links, cycle, hole, stopped))
        except KeyboardInterrupt:
            stopped = walks.interrupt()
        return _walked(
            figures, name, head, qlen, nodes, bad_links=tuple(bad_links), sock=sock, role=role, stopped=stopped
        )

    def _from_both_ends(
        self, name: str, head: int, last: int, qlen: int, sock: int, role: Role, followed: Followed
    ) -> Walked:
        """A queue that is damaged somewhere, with what a walk along next came to."""
        figures, bad_links, cycle, hole, _ = followed
        nodes = tuple(figures.nodes)
        back = self._follow_back(head, last)
        bad_links = [_blame(bad, back, head) for bad in bad_links]
        cut = next((bad for bad in bad_links if bad.member == "next" and bad.found not in back), None)
        if cut is not None:
            # What stands behind a pointer that leads astray is nobody's: the walk ends where it was still right.
            nodes = nodes[: nodes.index(cut.found)]
            figures.cut(len(nodes))
            bad_links, cycle, hole = bad_links[: bad_links.index(cut) + 1], None, None
        from_tail = tuple(node for node in back if node not in figures and node != head)
        for node in from_tail:
            self._add(figures, node)
        return _walked(
            figures, name, head, qlen, nodes, bad_links=tuple(bad_links), cycle=cycle, hole=hole, from_tail=from_tail,
            astray=cut.found if cut else None, sock=sock, role=role, is_busy=self._is_busy(head),
        )  # fmt: skip

    def _is_busy(self, head: int) -> bool:
        """Whether the lock of a `struct sk_buff_head *` was held, and its holder may have been in the middle."""
        if self._lock is None or not self._spinlocks.is_held(head + self._lock.offset):
            return False
        return self._session.once(Midway).could_be()

    def backlog(self, sock: int) -> Walked:
        """The sk_backlog of a `struct sock *`; include/net/sock.h: __sk_add_backlog.  Raises Unreadable."""
        first, last = (self._session.number(sock, f"sock.backlog_{part}") for part in ("head", "tail"))
        figures = self._nothing()

        def following(skb: int) -> int:
            self._add(figures, skb)
            return self._memory.ptr(skb + self._next)

        found = self.chain(first, following, self.leads_astray)
        # 8eae939f1400 (v2.6.34) net: add limit for socket backlog counts the bytes; before, nobody does.
        is_counted = self._layout.find_member("sock.backlog_len") is not None
        counted = self._session.number(sock, "sock.backlog_len") if is_counted else sum(figures.truesize)
        head = sock + self._layout.offset("sock.sk_backlog")
        return _walked(
            figures,
            Role.BACKLOG.value,
            head,
            counted,
            cycle=found.cycle,
            hole=found.hole,
            astray=found.astray,
            kind="backlog",
            tail=("tail", last),
            sock=sock,
            role=Role.BACKLOG,
            stopped=found.stopped,
        )

    def tree(
        self,
        name: str,
        root: int,
        sock: int = 0,
        role: Role = Role.OTHER,
        last: tuple[str, int] | None = None,
    ) -> Walked:
        """A `struct rb_root *` of sk_buffs, in order; include/linux/skbuff.h: skb_rbtree_walk.

        `last` is the member that names the last sk_buff, and what it says.  Raises Unreadable for the root only.
        """
        offset, seq = self._layout.offset("sk_buff.rb_node"), self._sequence_number()
        found = RbTrees(self._memory, self._layout).walk(root, offset, self._looks_right, seq, self._is_object)
        figures = self._nothing()
        for node in found.nodes:
            self._add(figures, node.addr)
        hole = next((Unreadable(dead.found, dead.why) for dead in found.dead_ends if dead.why is not None), None)
        return _walked(
            figures, name, root, len(figures), hole=hole, kind="rbtree", tree=found.nodes,
            dead_ends=found.dead_ends, tail=last, sock=sock, role=role, stopped=found.stopped,
        )  # fmt: skip

    def accept(self, sock: int) -> Walked:
        """The accept queue of a listening `struct sock *`: request_socks; raises Unreadable.

        net/ipv4/inet_connection_sock.c: inet_csk_reqsk_queue_add, reqsk_queue_remove.
        """
        first, last = (self._session.number(sock, f"inet_connection_sock.accept_{part}") for part in ("head", "tail"))
        qlen, following = self._session.number(sock, "sock.sk_ack_backlog"), self._layout.offset("request_sock.dl_next")
        found = self.chain(first, lambda request: self._memory.ptr(request + following))
        head = sock + self._layout.offset("inet_connection_sock.icsk_accept_queue")
        queue = Queue(
            Role.ACCEPT.value, head, qlen, found.nodes, cycle=found.cycle, hole=found.hole, kind="accept",
            tail=("rskq_accept_tail", last), sock=sock, role=Role.ACCEPT, stopped=found.stopped,
        )  # fmt: skip
        return Walked(queue, self._nothing())

    def child(self, request: int) -> int:
        """The `struct sock *` that waits to be accepted with a `struct request_sock *`; raises Unreadable."""
        return self._session.pointer(request, "request_sock.sk")

    def nr_frags(self, walked: Walked) -> dict[int, int | Why]:
        """The nr_frags of each shared info of a queue's sk_buffs, by its address, or why it cannot be read.

        After Ctrl-C, those that are known.
        """
        gather = walked.nr_frags or self._gather()
        if walks.is_interrupted():
            return gather.found(wait=False)
        try:
            if walked.nr_frags is None:
                gather.add(walked.figures.shared_info)
            return gather.found()
        except KeyboardInterrupt:
            walks.interrupt()
            return gather.found(wait=False)

    def _gather(self) -> Gather[int]:
        unpacker = Unpacker([replace(self._nr_frags, offset=0)], self._nr_frags.size)
        return self._memory.gather(self._nr_frags.offset, unpacker.span, lambda data: unpacker.columns(data)[0])

    def _follow(self, head: int, first: int, gather: Gather[int] | None) -> Followed:
        # A queue can hold hundreds of thousands: sound ones are taken by the block, with nothing per sk_buff in Python.
        found = self._nothing()
        before, node = head, first
        try:
            for following, block in self._memory.follow(first, head, self._next, self._skb.pieces):
                prev, lengths, data_lengths, ends, starts, truesizes = self._skb.columns(block)
                if len(found) + len(following) > walks.max_elements():
                    return self._follow_one_by_one(head, before, node, found)
                nodes = [node, *following]
                after = nodes.pop()
                linked = (array("Q", [before, node]) + following)[: len(prev)] == prev
                shared_infos = list(map(add, starts, ends)) if self._end_is_offset else list(ends)
                if not (
                    linked
                    and _are_plausible(nodes)
                    and found.extend(nodes, lengths, data_lengths, truesizes, shared_infos)
                ):
                    return self._follow_one_by_one(head, before, node, found)
                if gather is not None:
                    gather.add(shared_infos)
                before, node = nodes[-1] if nodes else before, after
        except KeyboardInterrupt:
            return found, [], None, None, walks.interrupt()
        return found, [], None, self._hole(node, head), ""

    def _follow_one_by_one(self, head: int, before: int, node: int, found: Figures) -> Followed:
        """The rest of a queue from `node` on, behind `before`, that is damaged somewhere, or too long."""
        bad_links: list[BadLink] = []
        most = walks.max_elements()
        try:
            for following, block in self._memory.follow(node, head, self._next, self._skb.pieces):
                for after, prev, *record in zip(following, *self._skb.columns(block)):
                    if node in found:
                        return found, bad_links, node, None, ""
                    if len(found) >= most:
                        return found, bad_links, None, None, walks.too_many("the queue")
                    if not is_plausible(node):
                        return found, bad_links, None, Unreadable(node, Why.UNMAPPED), ""
                    if prev != before:
                        bad_links.append(BadLink(node, before, prev))
                    found.add(node, *self._figures_of(*record))
                    before, node = node, after
        except KeyboardInterrupt:
            return found, bad_links, None, None, walks.interrupt()
        return found, bad_links, None, self._hole(node, head), ""

    def _hole(self, node: int, head: int) -> Unreadable | None:
        """Why a walk ended at a node that is not the head."""
        if node == head:
            return None
        if not is_plausible(node):
            return Unreadable(node, Why.UNMAPPED)
        try:
            self._memory.block(node, self._skb.span)
        except Unreadable as error:
            return error.as_value()
        return None

    def _follow_back(self, head: int, last: int) -> dict[int, int]:
        """The nodes from the tail on, along prev, until the head, a hole or a node that came before; by each of them
        the one behind it.
        """
        found: dict[int, int] = {}
        node, after = last, head
        while node != head and node not in found and is_plausible(node) and len(found) < walks.max_elements():
            try:
                following, prev = self._links.unpack_from(*self._memory.block(node, self._skb.span))
            except Unreadable:
                break  # the hole that stopped the walk along next is the one that is told
            # The pointer that led there is wrong then, and what stands there is nobody's, or another list's.
            if self.leads_astray(node, found, is_linked=following != after):
                break
            found[node] = after
            node, after = prev, node
        if node == head:
            found[head] = after
        return found

    def leads_astray(self, skb: int, among: Container[int] | Figures, is_linked: bool = True) -> bool:
        """Whether what should be the next sk_buff of a chain, behind those `among` it, is none, or one of another list.

        An sk_buff in a list has a prev (`is_linked`: next and prev are what they are called), one in a chain has none.
        """
        place = self._session.once(Allocations).of(skb)
        if place.kind in ("free", "page") or (place.kind == "slab" and not self._is_skb(skb, place)):
            return True
        if not is_linked:
            return False
        try:
            following, before = self._links.unpack_from(*self._memory.block(skb, self._links.span))
            if before in among or not (is_plausible(before) and is_plausible(following)):
                return False
            in_list = (
                self._links.unpack_from(*self._memory.block(before, self._links.span))[0],
                self._links.unpack_from(*self._memory.block(following, self._links.span))[1],
            )
        except Unreadable:
            return False
        return in_list == (skb, skb)

    def _is_skb(self, skb: int, place: Allocation) -> bool:
        return place.is_skb and skb - place.start in (0, self._skb.size)

    def chain(
        self,
        first: int,
        following: Callable[[int], int],
        leads_astray: Callable[[int, Container[int]], bool] = lambda node, among: False,
    ) -> Chain:
        """A list that ends in NULL, from `first` on; `following` reads the next node and may raise Unreadable.

        `leads_astray` tells of a node, and those before it, whether it is none of them.
        """
        found: dict[int, None] = {}
        node = first
        try:
            while node:
                if node in found:
                    return Chain(tuple(found), cycle=node)
                if len(found) >= walks.max_elements():
                    return Chain(tuple(found), stopped=walks.too_many("the queue"))
                if not is_plausible(node):
                    return Chain(tuple(found), hole=Unreadable(node, Why.UNMAPPED))
                if leads_astray(node, found):
                    return Chain(tuple(found), astray=node)
                try:
                    after = following(node)
                except Unreadable as error:
                    return Chain(tuple(found), hole=error.as_value())
                found[node] = None
                node = after
        except KeyboardInterrupt:
            return Chain(tuple(found), stopped=walks.interrupt())
        return Chain(tuple(found))

    def unknown(self, role: Role, sock: int, error: MissingDebugInfo) -> Walked:
        """A queue of a `struct sock *` of which the types do not say where or what it is."""
        return Walked(Queue(role.value, 0, 0, (), sock=sock, stopped=str(error), role=role), self._nothing())

    def _nothing(self) -> Figures:
        _, lengths, data_lengths, _, _, truesizes = self._skb.columns(b"")
        return Figures(lengths, data_lengths, truesizes)

    def _add(self, figures: Figures, skb: int) -> None:
        _, *record = self._skb.unpack_from(*self._memory.block(skb, self._skb.span))
        figures.add(skb, *self._figures_of(*record))

    def _figures_of(self, length: int, data_len: int, end: int, start: int, truesize: int) -> tuple[int, int, int, int]:
        return length, data_len, truesize, start + end if self._end_is_offset else end

    def _is_object(self, skb: int) -> bool:
        """Whether that is an allocated object of an skb cache."""
        place = self._session.once(Allocations).of(skb)
        return place.kind == "slab" and place.state == "allocated" and self._is_skb(skb, place)

    def _looks_right(self, skb: int) -> bool:
        """Whether that could be an sk_buff at all, for the walk of a tree whose pointers contradict each other."""
        try:
            _, length, data_len, _, start, truesize = self._skb.unpack_from(*self._memory.block(skb, self._skb.span))
        except Unreadable:
            return False
        return bool(start >= LOWEST_KERNEL_ADDRESS and data_len <= length and 0 < truesize < 1 << 31)

    def _sequence_number(self) -> int | None:
        """The offset of TCP_SKB_CB(skb)->seq in an sk_buff; include/net/tcp.h: TCP_SKB_CB."""
        layout = self._layout
        if layout.find_struct("tcp_skb_cb") is None:
            return None
        return int(layout.offset("sk_buff.cb") + layout.offset("tcp_skb_cb.seq"))


def _walked(
    figures: Figures, name: str, head: int, qlen: int, nodes: tuple[int, ...] | None = None, **more: object
) -> Walked:
    queue = Queue(
        name, head, qlen, tuple(figures.nodes) if nodes is None else nodes,
        bytes=sum(figures.len), truesize=sum(figures.truesize), **more  # type: ignore[arg-type]
    )  # fmt: skip
    return Walked(queue, figures)


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


def is_plausible(node: int) -> bool:
    """Whether an sk_buff (address) can stand there at all."""
    return node >= LOWEST_KERNEL_ADDRESS and not node & _MISALIGNED


def _are_plausible(nodes: list[int]) -> bool:
    return not nodes or (min(nodes) >= LOWEST_KERNEL_ADDRESS and not reduce(or_, nodes) & _MISALIGNED)


def _blame(bad: BadLink, back: dict[int, int], head: int) -> BadLink:
    """Which of two pointers that contradict each other is wrong: `prev` of the node, or `next` of the one before it.

    The walk from the tail knows: where it comes to the node before from another node, that one is the right next.
    """
    before = bad.expected
    if bad.node == head or before not in back:
        return bad
    right = back[before]
    return BadLink(before, right, bad.node, "next") if right != bad.node else bad
