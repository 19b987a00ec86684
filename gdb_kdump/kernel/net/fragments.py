"""Fragments of IP packets that wait for the others; net/ipv4/inet_fragment.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.hash_tables import rhashtable
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.kernel.net.skb_chains import SkbChains
from gdb_kdump.layout.net import fragment_tables
from gdb_kdump.records.queue import Queue
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps


class Fragments:
    """Walks the fragment queues of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._chains = session.once(SkbChains)

    def queues(self, gaps: Gaps) -> Iterator[Queue]:
        """The fragments of each incomplete packet of each network namespace; what is broken goes to `gaps`.

        Raises MissingDebugInfo.
        """
        tables = fragment_tables(self._layout)
        if not tables:
            raise MissingDebugInfo("member fqdir of a network namespace")
        node = self._layout.offset("inet_frag_queue.node")
        for net in self._session.once(Nets).all(gaps):
            for family, member, is_pointer, table in tables:
                with gaps.about(f"the {family} fragments") as broken:
                    try:
                        fqdir = self._memory.ptr(net + member) if is_pointer else net + member
                        for link in rhashtable(self._session, fqdir + table, broken) if fqdir else ():
                            yield from self._of(link - node, family)
                    except (Unreadable, Corrupt) as error:
                        broken.note(str(error))

    def _of(self, queue: int, family: str) -> Iterator[Queue]:
        """The sk_buffs of a `struct inet_frag_queue *`: a tree of runs without gaps, each chained through sk_buff.cb.

        353c9cb360874 (v4.20) ip: add helpers to process in-order fragments faster; before that, a plain chain.
        """
        name = f"{family} fragments of {hex16(queue)}"
        single = self._layout.find_member("inet_frag_queue.fragments")
        if single is not None:
            at = queue + single.offset
            yield self._chains.chain(name, at, self._memory.ptr(at))
        root = self._layout.find_member("inet_frag_queue.rb_fragments")
        if root is None:
            return
        tree = self._chains.tree(name, queue + root.offset)
        yield tree
        if self._layout.find_struct("ipfrag_skb_cb") is None:
            return
        next_at = self._layout.offset("sk_buff.cb") + self._layout.offset("ipfrag_skb_cb.next_frag")
        for number, first in enumerate(tree.nodes):
            try:
                second = self._memory.ptr(first + next_at)
            except Unreadable:
                continue  # the sk_buff itself is judged anyway, which tells
            if second:
                yield self._chains.chain(f"{name}, run {number}", first, second, next_at=next_at)
