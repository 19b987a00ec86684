"""What a socket has accounted for, and what its queues hold: the record that rules/sock.py judges."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.sock import AF_NETLINK, AF_PACKET, AF_UNIX, Sock, Socks
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.records.sock import Callback, InFlight, Owner, Segment, SockAccounts
from gdb_kdump.session import Session

_ACCOUNTS = ("sk_wmem_queued", "wmem_alloc", "rmem_alloc", "sk_forward_alloc")
_WITH_DESTRUCTOR = {"destructor": 1}  # what is assumed where the types do not say
_KINDS = {AF_UNIX: "unix", AF_NETLINK: "netlink", AF_PACKET: "packet"}
_NUMBERS, _COUNTED = ("seq", "end_seq", "tcp_flags"), ("sacked", "tcp_gso_segs")
_READERS = ("tcp", "netlink", "packet")  # those that are charged by sk_buffs that have a destructor
_TCP_CLOSE = 7  # include/net/tcp_states.h
_IN_FLIGHT = ("packets_out", "retrans_out", "sacked_out", "lost_out", "rx_opt.sack_ok")
# include/net/sock.h: what a protocol, or who uses the socket, may put there.
_CALLBACKS = ("sk_state_change", "sk_data_ready", "sk_write_space", "sk_error_report", "sk_backlog_rcv", "sk_destruct")
_SEGMENTS = (Role.WRITE, Role.RTX, Role.RECEIVE, Role.OFO)


class AccountsReader:
    """Reads the accounts of sockets of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._socks = session.once(Socks)
        self._sk = session.layout.unpacker("sk_buff", ("sk", "destructor"), _WITH_DESTRUCTOR)
        self._len = session.layout.unpacker("sk_buff", ("len", "users"))
        self._numbers = _tcp_numbers(session)
        self._has_in_flight = _has(session, "tcp_sock", _IN_FLIGHT) and _has(session, "tcp_skb_cb", _COUNTED)
        members = [(name, session.layout.find_member(f"sock.{name}")) for name in _CALLBACKS]
        self._callbacks = [(name, member.offset) for name, member in members if member is not None]
        self._is_code: dict[int, bool] = {}
        self._charge = session.layout.unpacker("sk_buff", ("truesize", "destructor"), _WITH_DESTRUCTOR)
        # An sk_buff with this destructor is charged to sk_omem_alloc: net/core/skbuff.c: msg_zerocopy_alloc.
        self._omem = session.debuginfo.find_address("sock_ofree")
        self._accounts = session.layout.unpacker("sock", _ACCOUNTS)

    def read(self, sock: Sock, queues: list[Queue]) -> SockAccounts:
        """The accounts of a full socket with its own `queues`; raises Unreadable, MissingDebugInfo."""
        accounts = self._accounts.unpack_from(*self._memory.block(sock.addr, self._accounts.span))
        wmem_queued, wmem_alloc, rmem_alloc, forward_alloc = accounts
        kind = _kind(sock)
        sums = {queue.role: self._charged(queue) for queue in queues if queue.complete}
        return SockAccounts(
            addr=sock.addr,
            kind=kind,
            is_locked=self._socks.is_locked(sock.addr),
            wmem_queued=wmem_queued,
            wmem_alloc=wmem_alloc,
            rmem_alloc=rmem_alloc,
            forward_alloc=forward_alloc,
            truesize=sums,
            owners=tuple(owner for queue in queues for owner in self._owners(queue)),
            written=self._written(sock, kind, wmem_alloc, sums),
            received=self._received(sock, kind, rmem_alloc, sums),
            deficit=self._member(sock, "udp_sock.forward_deficit") if kind == "udp" else 0,
            cork=self._cork(sock, queues),
            is_layered=kind == "tcp" and self._is_layered(sock),
            refcnt=sock.refcnt,
            segments=tuple(segment for queue in queues for segment in self._segments(queue)) if kind == "tcp" else (),
            in_flight=self._in_flight(sock) if kind == "tcp" else None,
            callbacks=self._called(sock.addr),
        )

    def _in_flight(self, sock: Sock) -> InFlight | None:
        """What TCP counts of what it has sent; of a closed socket some is left (tcp_write_queue_purge)."""
        if not self._has_in_flight or sock.state == _TCP_CLOSE:
            return None
        *counters, sack_ok = [self._session.number(sock.addr, f"tcp_sock.{name}") for name in _IN_FLIGHT]
        packets_out, retrans_out, sacked_out, lost_out = counters
        return InFlight(packets_out, retrans_out, sacked_out, lost_out, bool(sack_ok))

    def _called(self, sock: int) -> tuple[Callback, ...]:
        """The callbacks of a socket; sockets have few different ones."""
        found = []
        for name, offset in self._callbacks:
            addr = self._memory.u64(sock + offset)
            if addr and addr not in self._is_code:
                self._is_code[addr] = self._session.once(Source).is_text(addr)
            if addr:
                found.append(Callback(name, addr, self._is_code[addr]))
        return tuple(found)

    def _written(self, sock: Sock, kind: str, wmem_alloc: int, sums: dict[Role, int]) -> tuple[int, int] | None:
        """What counts as written by a socket: of the whole system where it has written more than its queue holds."""
        held = sums.get(Role.WRITE, 0) if kind == "udp" else 0
        if wmem_alloc == held + 1 or kind == "other":
            return None
        written = self._session.once(SkbObjects).written_by(sock.addr)
        # UDP makes a datagram on a list of its own, and is charged at the end (net/ipv4/ip_output.c: ip_make_skb).
        return (written.linked if kind != "udp" else 0, written.all) if written is not None else None

    def _received(self, sock: Sock, kind: str, rmem_alloc: int, sums: dict[Role, int]) -> int | None:
        """What a socket has to read, on no queue of its own too, in a BPF program's hands: asked only where it must."""
        read = sum(sums.get(role, 0) for role in (Role.RECEIVE, Role.OFO, Role.ERROR))
        if kind not in _READERS or rmem_alloc <= read:
            return None
        received = self._session.once(SkbObjects).received_by(sock.addr)
        return received.all if received is not None else None

    def _charged(self, queue: Queue) -> int:
        """The truesize of a queue's sk_buffs, without that of zerocopy's notifications on the error queue."""
        if queue.role is not Role.ERROR or not queue.nodes or self._omem is None:
            return queue.truesize
        charges = (self._charge.unpack_from(*self._memory.block(node, self._charge.span)) for node in queue.nodes)
        return sum(truesize for truesize, destructor in charges if destructor != self._omem)

    def _is_layered(self, sock: Sock) -> bool:
        """Whether something works above a TCP socket: kTLS and MPTCP are ULPs, others are known by sk_user_data."""
        members = map(self._session.layout.find_member, ("sock.sk_user_data", "inet_connection_sock.icsk_ulp_ops"))
        return any(member and self._memory.ptr(sock.addr + member.offset) for member in members)

    def _cork(self, sock: Sock, queues: list[Queue]) -> tuple[int, int, int] | None:
        """The length of a corked UDP datagram, and how many sk_buffs with how many bytes hold it."""
        if not sock.is_udp or not self._member(sock, "udp_sock.pending"):
            return None
        length = self._member(sock, "inet_sock.cork_length")
        write = next((queue for queue in queues if queue.role is Role.WRITE and queue.complete), None)
        return (length, len(write.nodes), write.bytes) if write is not None and write.nodes else None

    def _member(self, sock: Sock, name: str) -> int:
        """An int member of a socket; 0 where this kernel has none."""
        exists = self._session.layout.find_member(name) is not None
        return self._session.number(sock.addr, name) if exists else 0

    def _owners(self, queue: Queue) -> list[Owner]:
        owners = []
        for skb in queue.skbs:
            try:
                sk, destructor = self._sk.unpack_from(*self._memory.block(skb, self._sk.span))
            except Unreadable:
                continue
            if sk not in (0, queue.sock) or (sk and not destructor):
                owners.append(Owner(skb, queue.role, sk, bool(destructor)))
        return owners

    def _segments(self, queue: Queue) -> Iterator[Segment]:
        """The sk_buffs of a TCP socket's queue with their sequence numbers, where the kernel's types tell."""
        if self._numbers is None or queue.role not in _SEGMENTS:
            return
        cb = self._session.layout.offset("sk_buff.cb")
        for skb in queue.skbs:
            try:
                numbers = self._numbers.unpack_from(*self._memory.block(skb + cb, self._numbers.span))
                length, users = self._len.unpack_from(*self._memory.block(skb, self._len.span))
            except Unreadable:
                continue
            seq, end_seq, flags, *more = numbers
            yield Segment(skb, queue.role, length, seq, end_seq, flags, users, *more)


def _kind(sock: Sock) -> str:
    if sock.is_listener:
        return "other"
    return "tcp" if sock.is_tcp else "udp" if sock.is_udp else _KINDS.get(sock.family, "other")


def _tcp_numbers(session: Session) -> Unpacker | None:
    """What struct tcp_skb_cb says of a segment: seq, end_seq and the flags; None where the types do not have it all.

    Then, where it has them, sacked and tcp_gso_segs, a member since v3.18.
    """
    if not _has(session, "tcp_skb_cb", _NUMBERS):
        return None
    more = _COUNTED if _has(session, "tcp_skb_cb", _COUNTED) else ()
    return session.layout.unpacker("tcp_skb_cb", (*_NUMBERS, *more))


def _has(session: Session, tag: str, members: tuple[str, ...]) -> bool:
    layout = session.layout
    return layout.find_struct(tag) is not None and all(layout.find_member(f"{tag}.{name}") for name in members)
