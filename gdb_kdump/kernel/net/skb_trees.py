"""Red-black trees of sk_buffs, walked with distrust; include/linux/skbuff.h: rb_to_skb."""

from __future__ import annotations

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.lib.rbtree import RbTrees
from gdb_kdump.kernel.net.queue_walk import QueueWalk, SkbFigures, queue_walk
from gdb_kdump.records.queue import Role
from gdb_kdump.session import Session
from gdb_kdump.text import LOWEST_KERNEL_ADDRESS

_LARGEST_TRUESIZE = 1 << 31


class SkbTrees:
    """Walks the trees of one session."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._layout = session.layout
        self._figures = session.once(SkbFigures)

    def walk(
        self,
        name: str,
        root: int,
        sock: int = 0,
        role: Role = Role.OTHER,
        last: tuple[str, int] | None = None,
    ) -> QueueWalk:
        """A `struct rb_root *` of sk_buffs, in order; include/linux/skbuff.h: skb_rbtree_walk.

        `last` is the member that names the last sk_buff, and what it says.  Raises Unreadable for the root only.
        """
        offset, seq = self._layout.offset("sk_buff.rb_node"), self._sequence_number()
        found = RbTrees(self._memory, self._layout).walk(root, offset, self._looks_right, seq, self._figures.is_object)
        figures = self._figures.empty()
        for node in found.nodes:
            self._figures.add(figures, node.addr)
        hole = next((Unreadable(dead.found, dead.why) for dead in found.dead_ends if dead.why is not None), None)
        return queue_walk(
            figures, name, root, len(figures), hole=hole, kind="rbtree", tree=found.nodes,
            dead_ends=found.dead_ends, tail=last, sock=sock, role=role, stopped=found.stopped,
        )  # fmt: skip

    def _looks_right(self, skb: int) -> bool:
        """Whether that could be an sk_buff at all, for the walk of a tree whose pointers contradict each other."""
        try:
            _, length, data_len, _, start, truesize = self._figures.skb.unpack_from(
                *self._memory.block(skb, self._figures.skb.span)
            )
        except Unreadable:
            return False
        return bool(start >= LOWEST_KERNEL_ADDRESS and data_len <= length and 0 < truesize < _LARGEST_TRUESIZE)

    def _sequence_number(self) -> int | None:
        """The offset of TCP_SKB_CB(skb)->seq in an sk_buff; include/net/tcp.h: TCP_SKB_CB."""
        layout = self._layout
        if layout.find_struct("tcp_skb_cb") is None:
            return None
        return int(layout.offset("sk_buff.cb") + layout.offset("tcp_skb_cb.seq"))
