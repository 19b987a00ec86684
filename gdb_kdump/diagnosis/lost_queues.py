"""Lists of sk_buffs whose head stands in nobody's memory: whatever had the queue is gone, and they are left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gdb_kdump import walks
from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.queue_walk import is_plausible
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.kernel.what.naming import Naming
from gdb_kdump.records.queue import LostQueue
from gdb_kdump.rules.findings import Finding
from gdb_kdump.rules.queue import lost
from gdb_kdump.session import Session


def judge_lost_queues(session: Session, skbs: Iterable[int]) -> list[Finding]:
    """What is wrong with the lists that some sk_buffs (addresses) are on, which no walk of queues has met."""
    return [finding for queue in _Lists(session).find(skbs) for finding in lost(queue)]


class _Lists:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._figures = session.once(SkbLists).figures
        self._met: set[int] = set()

    def find(self, skbs: Iterable[int]) -> Iterator[LostQueue]:
        """The lists, each once."""
        for skb in skbs:
            queue = self._list_of(skb) if skb not in self._met else None
            if queue is not None:
                yield queue

    def _list_of(self, skb: int) -> LostQueue | None:
        """The list that an sk_buff is on, where both ways lead to the same thing that is no sk_buff; else None."""
        following, before = self._links(skb)
        if not (is_plausible(following) and is_plausible(before)):
            return None
        ahead, head = self._walk(skb, 0)
        behind, other = self._walk(skb, 1)
        self._met.update(ahead, behind)
        if head != other or not is_plausible(head):
            return None
        nodes = (*reversed(behind), *ahead[1:])
        memory = self._session.once(Allocations).of(head)
        if memory.kind not in ("free", "slab"):
            return None  # a stack, a module's or a CPU's variable: they are not freed, or nothing tells
        is_free = memory.kind == "free" or memory.state == "free"
        leads_back = self._links(head) == (nodes[0], nodes[-1])
        place = self._session.once(Naming).name(head) if is_free or not leads_back else ""
        return LostQueue(head, nodes, place, is_free, leads_back)

    def _walk(self, skb: int, way: int) -> tuple[list[int], int]:
        """The sk_buffs from one on, by next (`way` 0) or prev (1), and what comes after them; 0 where that ends."""
        nodes = [skb]
        while len(nodes) < walks.max_elements():
            node = self._links(nodes[-1])[way]
            if not self._figures.is_object(node):
                return nodes, node
            if node in nodes[:1] or self._links(node)[1 - way] != nodes[-1]:
                break
            nodes.append(node)
        return nodes, 0

    def _links(self, addr: int) -> tuple[int, int]:
        """next and prev, of a head or of an sk_buff, which begins with them; 0 where they cannot be read."""
        links = self._figures.links
        try:
            following, before = links.unpack_from(*self._memory.block(addr, links.span))
            return following, before
        except Unreadable:
            return 0, 0
