"""Which queue an sk_buff is on, of all queues of the system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.all_socks import AllSocks
from gdb_kdump.kernel.net.net_queues import net_queues
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Held
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk


class Holders:
    """Tells where the sk_buffs of one session are held; the queues are walked when that is first asked."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._held: dict[int, Held] | None = None

    def of(self, skb: int) -> Held:
        """Where the sk_buff at an address is held, as far as all queues can be walked."""
        if self._held is None:
            self._held = held_on(self._queues())
        return self._held.get(skb, Held.NOWHERE)

    def _queues(self) -> Iterator[Queue]:
        """Every queue of every socket, then the others: what is on two counts as on the latter."""
        socks = self._session.once(Socks)
        with walk("the sockets", where=lambda info: info.sock.addr) as steps:
            for info in steps(self._session.once(AllSocks).all(Gaps())):
                try:
                    yield from socks.queues(info.sock.addr)
                except (Unreadable, MissingDebugInfo):
                    continue
        with walk("the other queues") as steps:
            yield from steps(net_queues(self._session, Gaps()))


def held_on(queues: Iterable[Queue]) -> dict[int, Held]:
    """Where the sk_buffs (addresses) on some queues are held; what is on several, on the last."""
    held: dict[int, Held] = {}
    for queue in queues:
        held.update(dict.fromkeys(queue.skbs, queue.held))
    return held
