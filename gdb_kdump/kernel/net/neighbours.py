"""Packets that wait for a neighbour's link-layer address; net/core/neighbour.c: __neigh_event_send."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lib.hash_tables import chained
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.records.queue import Queue
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

_TABLES = {"arp_tbl": "IPv4", "nd_tbl": "IPv6"}
_MAX_SHIFT = 27  # net/core/neighbour.c: neigh_hash_alloc grows by doubling; no table comes near


class Neighbours:
    """Walks the queues of one session's neighbours."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._queues = session.once(SkbLists)

    def queues(self, gaps: Gaps) -> Iterator[Queue]:
        """The queue of each neighbour and those of the proxies; what is broken goes to `gaps`.

        Raises MissingDebugInfo.
        """
        queue = self._layout.offset("neighbour.arp_queue")
        for symbol, family in _TABLES.items():
            table = self._session.debuginfo.find_address(symbol)
            if table is None:
                continue  # ndisc can be a module
            try:
                proxy_queue = table + self._layout.offset("neigh_table.proxy_queue")
                yield self._queues.linked(f"proxy_queue of {symbol}", proxy_queue).queue
                for neighbour in self._of(table, gaps):
                    name = f"arp_queue of the {family} neighbour {hex16(neighbour)}"
                    yield self._queues.linked(name, neighbour + queue).queue
            except (Unreadable, Corrupt) as error:
                gaps.note(f"the {family} neighbours: {error}")

    def all(self, gaps: Gaps) -> Iterator[tuple[int, int]]:
        """Each `struct neighbour *`, and before it its `struct neigh_table *`; what is broken goes to `gaps`."""
        for symbol, family in _TABLES.items():
            table = self._session.debuginfo.find_address(symbol)
            if table is None:
                continue
            try:
                for neighbour in self._of(table, gaps):
                    yield table, neighbour
            except (Unreadable, Corrupt) as error:
                gaps.note(f"the {family} neighbours: {error}")

    def _of(self, table: int, gaps: Gaps) -> Iterator[int]:
        """Each `struct neighbour *`: f7f52738637f (v6.13) neighbour: create netdev->neighbour association put
        hlist_nodes into the chains.
        """
        layout = self._layout
        hashed = self._session.pointer(table, "neigh_table.nht")
        shift = self._session.number(hashed, "neigh_hash_table.hash_shift")
        if shift > _MAX_SHIFT:
            raise Corrupt(hashed, f"no struct neigh_hash_table: hash_shift {shift}")
        buckets = self._session.pointer(hashed, "neigh_hash_table.buckets")
        node = layout.offset("neighbour.node")
        with gaps.about("the table of neighbours") as broken:
            for link in chained(self._session, buckets, 1 << shift, 8, 0, broken):
                yield link - node
