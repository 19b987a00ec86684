"""The accept queue of a listening socket: struct request_sock, not sk_buffs.

net/ipv4/inet_connection_sock.c: inet_csk_reqsk_queue_add, reqsk_queue_remove.
"""

from __future__ import annotations

from gdb_kdump.kernel.net.queue_walk import QueueWalk, SkbFigures, follow_chain
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.session import Session


class AcceptQueues:
    """Walks the accept queues of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._figures = session.once(SkbFigures)

    def walk(self, sock: int) -> QueueWalk:
        """The accept queue of a listening `struct sock *`; raises Unreadable."""
        first, last = (self._session.number(sock, f"inet_connection_sock.accept_{part}") for part in ("head", "tail"))
        qlen, dl_next = (
            self._session.number(sock, "sock.sk_ack_backlog"),
            self._session.layout.offset("request_sock.dl_next"),
        )
        chain = follow_chain(first, lambda request: self._session.memory.ptr(request + dl_next))
        queue = Queue(
            Role.ACCEPT.value,
            sock + self._session.layout.offset("inet_connection_sock.icsk_accept_queue"),
            qlen,
            chain.nodes,
            cycle=chain.cycle,
            hole=chain.hole,
            kind="accept",
            tail=("rskq_accept_tail", last),
            sock=sock,
            role=Role.ACCEPT,
            stopped=chain.stopped,
        )
        return QueueWalk(queue, self._figures.empty())

    def child(self, request: int) -> int:
        """The `struct sock *` that waits to be accepted with a `struct request_sock *`; raises Unreadable."""
        return self._session.pointer(request, "request_sock.sk")
