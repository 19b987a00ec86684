"""What GRO holds in the NAPI contexts of CPUs and network devices; net/core/gro.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdb_kdump.kernel.net.skb_chains import SkbChains
from gdb_kdump.layout.members import array_length
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.session import Session


class Gro:
    """Reads the NAPI contexts of one session; raises MissingDebugInfo."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chains = session.once(SkbChains)
        layout = session.layout
        self._scheduled = layout.enumerators("napi_state").get("NAPI_STATE_SCHED", 0)
        self._form = _Buckets(session) if _Buckets.is_in(session) else _OneChain(session)
        self._rx_list = layout.find_member("napi_struct.rx_list")

    def queues(self, napi: int, owner: str) -> Iterator[Queue]:
        """The lists of a `struct napi_struct *`: packets that wait for the next one of their flow, and rx_list.

        The latter are on their way to the stack.  Raises Unreadable, MissingDebugInfo.
        """
        # No lock guards these: only the CPU that has scheduled the context works on them.
        is_busy = bool(self._session.number(napi, "napi_struct.state") >> self._scheduled & 1)
        for queue in self._form.queues(napi, owner, is_busy):
            yield replace(queue, role=Role.GRO)
        if self._rx_list is not None:
            yield self._chains.list(f"rx_list of {owner}", napi + self._rx_list.offset, None, is_busy)


class _Buckets:
    """Packets in a list for each bucket of a hash: 6312fe77751f (v4.19) net: limit each hash list length to
    MAX_GRO_SKBS.
    """

    @staticmethod
    def is_in(session: Session) -> bool:
        """Whether the kernel has them."""
        layout = session.layout
        return layout.find_member("napi_struct.gro_hash") is not None and layout.find_struct("gro_list") is not None

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._chains = session.once(SkbChains)
        layout = session.layout
        self._buckets = layout.member("napi_struct.gro_hash")
        self._size, self._count = layout.size("gro_list"), layout.offset("gro_list.count")

    def queues(self, napi: int, owner: str, is_busy: bool) -> Iterator[Queue]:
        for number in range(array_length(self._buckets)):
            head = napi + self._buckets.offset + number * self._size
            name = f"GRO of {owner}, bucket {number}"
            yield self._chains.list(name, head, self._memory.s32(head + self._count), is_busy)


class _OneChain:
    """Packets in one chain, before the buckets; none where the types have neither."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chains = session.once(SkbChains)
        self._first = session.layout.find_member("napi_struct.gro_list")

    def queues(self, napi: int, owner: str, is_busy: bool) -> Iterator[Queue]:
        if self._first is not None and self._first.size == 8:
            head, count = napi + self._first.offset, self._session.number(napi, "napi_struct.gro_count")
            yield self._chains.chain(f"GRO of {owner}", head, self._session.memory.ptr(head), count=(count, 0))
