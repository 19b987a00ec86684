"""sk_buffs that are linked in other ways than a socket's: chains that end in NULL, arrays of pointers, GRO's lists.

As in skb_lists.py, a walk says what it met and judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.kernel.net.queue_walk import QueueWalk, SkbFigures, follow_chain, is_plausible, queue_walk
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.kernel.net.skb_trees import SkbTrees
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.session import Session


class SkbChains:
    """Walks the chains of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        self._reader = session.once(SkbFigures)
        self._next = layout.offset("sk_buff.next")
        self._figures = layout.unpacker("sk_buff", ("len", "truesize"))

    def chain(
        self,
        name: str,
        head: int,
        first: int,
        last: tuple[str, int] | None = None,
        count: tuple[int, int] | None = None,
        next_at: int | None = None,
    ) -> Queue:
        """The sk_buffs from `first` on, until NULL, of the queue whose head stands at `head`.

        `last` is the member that names the last one and what it says; `count` is what the kernel counts, and how many
        of those are elsewhere, None where it counts nothing; `next_at` the offset of the pointer to the next one, where
        that is not sk_buff.next.
        """
        at = self._next if next_at is None else next_at
        chain = follow_chain(
            first,
            lambda skb: self._memory.ptr(skb + at),
            lambda skb, among: self._reader.leads_astray(skb, among, is_linked=at == self._next),
        )
        queue = self._queue(name, head, chain.nodes, chain.cycle, chain.hole)
        queue = replace(queue, stopped=chain.stopped, astray=chain.astray)
        qlen, elsewhere = (len(chain.nodes), 0) if count is None else count
        # An empty chain's last one is whatever it was before.
        return replace(queue, qlen=qlen, elsewhere=elsewhere, tail=last if chain.nodes else None)

    def backlog(self, sock: int) -> QueueWalk:
        """The sk_backlog of a `struct sock *`; include/net/sock.h: __sk_add_backlog.  Raises Unreadable."""
        first, last = (self._session.number(sock, f"sock.backlog_{part}") for part in ("head", "tail"))
        figures = self._reader.empty()

        def following(skb: int) -> int:
            self._reader.add(figures, skb)
            return self._memory.ptr(skb + self._next)

        chain = follow_chain(first, following, self._reader.leads_astray)
        # 8eae939f1400 (v2.6.34) net: add limit for socket backlog counts the bytes; before, nobody does.
        is_counted = self._layout.find_member("sock.backlog_len") is not None
        counted = self._session.number(sock, "sock.backlog_len") if is_counted else sum(figures.truesize)
        head = sock + self._layout.offset("sock.sk_backlog")
        return queue_walk(
            figures,
            Role.BACKLOG.value,
            head,
            counted,
            cycle=chain.cycle,
            hole=chain.hole,
            astray=chain.astray,
            kind="backlog",
            tail=("tail", last),
            sock=sock,
            role=Role.BACKLOG,
            stopped=chain.stopped,
        )

    def pointers(self, name: str, head: int, skbs: Iterable[int]) -> Queue:
        """The sk_buffs that an array points to."""
        nodes: dict[int, None] = {}
        cycle, hole = None, None
        for skb in skbs:
            if skb in nodes:
                cycle = skb
            elif not is_plausible(skb):
                hole = Unreadable(skb, Why.UNMAPPED)
            else:
                nodes[skb] = None
        return self._queue(name, head, tuple(nodes), cycle, hole)

    def list(self, name: str, head: int, count: int | None, is_busy: bool) -> Queue:
        """A `struct list_head *` of sk_buffs, which are linked as in a struct sk_buff_head; raises Unreadable.

        `count` is the kernel's own, None where it keeps none; `is_busy` says that a CPU was at work on it.
        """
        queue = self._session.once(SkbLists).linked(name, head).queue
        return replace(queue, qlen=len(queue.nodes) if count is None else count, is_busy=is_busy)

    def tree(self, name: str, root: int) -> Queue:
        """A `struct rb_root *` of sk_buffs that are not TCP's, which have no sequence numbers; raises Unreadable."""
        queue = self._session.once(SkbTrees).walk(name, root).queue
        return replace(queue, tree=tuple(replace(node, seq=None) for node in queue.tree))

    def recounted(self, queue: Queue, count: tuple[int, int] | None) -> Queue:
        """A struct sk_buff_head whose count is that of more than its own sk_buffs; `count` as in chain()."""
        qlen, elsewhere = (len(queue.nodes), 0) if count is None else count
        return replace(queue, qlen=qlen, elsewhere=elsewhere)

    def _queue(self, name: str, head: int, nodes: tuple[int, ...], cycle: int | None, hole: Unreadable | None) -> Queue:
        length = truesize = 0
        for node in nodes:
            try:
                figures = self._figures.unpack_from(*self._memory.block(node, self._figures.span))
            except Unreadable as error:
                hole = hole or error.as_value()
                continue
            length, truesize = length + figures[0], truesize + figures[1]
        return Queue(
            name, head, len(nodes), nodes, cycle=cycle, hole=hole, kind="chain", bytes=length, truesize=truesize
        )
