"""Sockets and their queues of sk_buffs; include/net/sock.h."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.rules.records import BadLink, Hole, Queue
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address

MAX_ELEMENTS = 10_000_000

# The queues that every socket has as a struct sk_buff_head: our name and the member of struct sock.
QUEUES = {"write": "sk_write_queue", "receive": "sk_receive_queue", "error": "sk_error_queue"}


@dataclass(frozen=True)
class Sock:
    """A struct sock: `family` is AF_*, `type` SOCK_*, `protocol` IPPROTO_*, `state` TCP_* whatever the family."""

    sock: int
    family: int
    type: int
    protocol: int
    state: int
    refcnt: int


class Socks:
    """Reads the sockets of one session and walks their queues."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._layout = layout = session.layout
        self._sock = layout.unpacker("sock", ("family", "sk_type", "sk_protocol", "state", "refcnt"))
        self._head = layout.unpacker("sk_buff_head", ("next", "prev", "qlen"))
        self._links = layout.unpacker("sk_buff", ("next", "prev"))

    def read(self, sock: int) -> Sock:
        """The socket at a `struct sock *`; raises Unreadable."""
        family, type_, protocol, state, refcnt = self._sock.unpack_from(*self._memory.block(sock, self._sock.span))
        return Sock(sock, family, type_, protocol, state, refcnt)

    def queue(self, sock: int, name: str) -> Queue:
        """The queue of that name (a key of QUEUES) of a `struct sock *`, walked whole; raises Unreadable."""
        return self.walk(name, sock + self._layout.offset(f"sock.{QUEUES[name]}"))

    def walk(self, name: str, head: int) -> Queue:
        """Any `struct sk_buff_head *` walked whole, both ways where the first is cut short; skb_queue_walk."""
        first, last, qlen = self._head.unpack_from(*self._memory.block(head, self._head.span))
        if not first and not last and not qlen:
            return Queue(name, head, 0, ())  # never initialised, as the error queue of a request socket
        nodes, bad_links, cycle, hole = self._follow(head, first)
        if cycle is None and hole is None and last != (nodes[-1] if nodes else head):
            bad_links.append(BadLink(head, nodes[-1] if nodes else head, last))
        from_tail = self._follow_back(head, last, nodes) if cycle is not None or hole is not None else ()
        return Queue(name, head, qlen, tuple(nodes), tuple(bad_links), cycle, hole, from_tail)

    def _follow(self, head: int, first: int) -> tuple[list[int], list[BadLink], int | None, Hole | None]:
        unpack, block, size = self._links.unpack_from, self._memory.block, self._links.size
        nodes: list[int] = []
        seen: set[int] = set()
        bad_links: list[BadLink] = []
        before, node = head, first
        while node != head and len(nodes) < MAX_ELEMENTS:
            if node in seen:
                return nodes, bad_links, node, None
            if not is_kernel_address(node):
                return nodes, bad_links, None, Hole(node, Why.UNMAPPED)
            try:
                following, prev = unpack(*block(node, size))
            except Unreadable as error:
                return nodes, bad_links, None, Hole(error.addr, error.why)
            if prev != before:
                bad_links.append(BadLink(node, before, prev))
            seen.add(node)
            nodes.append(node)
            before, node = node, following
        return nodes, bad_links, None, None

    def _follow_back(self, head: int, last: int, known: list[int]) -> tuple[int, ...]:
        seen = set(known) | {head}
        nodes: list[int] = []
        node = last
        while node not in seen and is_kernel_address(node) and len(nodes) < MAX_ELEMENTS:
            try:
                _, prev = self._links.unpack_from(*self._memory.block(node, self._links.span))
            except Unreadable:
                break  # the hole that stopped the walk along next is the one that is told
            seen.add(node)
            nodes.append(node)
            node = prev
        return tuple(nodes)
