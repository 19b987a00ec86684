"""Invariants between a TCP socket's counters and the segments on its queues."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.records.queue import Role
from gdb_kdump.records.sock import InFlight, Segment, SockAccounts
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding

_FIN, _SYN = 1, 2  # include/net/tcp.h: TCPHDR_*
_SACKED, _RETRANS, _LOST = 1, 2, 4  # include/net/tcp.h: TCPCB_SACKED_ACKED, TCPCB_SACKED_RETRANS, TCPCB_LOST


def segments(sock: SockAccounts) -> Iterator[Finding]:
    """A TCP segment's sequence numbers span its bytes, and one each for SYN and FIN.

    Mirrors net/ipv4/tcp_ipv4.c: tcp_v4_fill_cb, net/ipv4/tcp.c: tcp_sendmsg_locked, tcp_output.c: tcp_fragment.
    Traps: what is in the backlog still has its header, and may not have numbers yet; who holds the lock may be between
    the bytes and the number.
    """
    for item in sock.segments:
        spanned = (item.end_seq - item.seq - bool(item.flags & _FIN) - bool(item.flags & _SYN)) & 0xFFFFFFFF
        if spanned != item.len:
            message = f"on the {item.queue.value} queue, its sequence numbers span {spanned} bytes"
            severity = SUSPECT if sock.is_locked else CORRUPT
            yield Finding("skb.len", item.skb, "cb", severity, f"{item.len} (len)", str(spanned), message)


def exclusive(sock: SockAccounts) -> Iterator[Finding]:
    """TCP alone uses what it is to send: a device gets a clone.

    Mirrors net/ipv4/tcp_output.c: __tcp_transmit_skb, and the BUG_ON(skb_shared) of net/core/skbuff.c:
    pskb_expand_head, to which tcp_fragment, tcp_collapse_retrans and skb_unclone lead.  Trap: what was received may
    have more users, which peek (MSG_PEEK).
    """
    for item in sock.segments:
        if item.users > 1 and item.queue is Role.WRITE:  # of trees skb.users tells
            message = f"on the write queue, {item.users} use it; TCP asserts to be alone with it (pskb_expand_head)"
            yield Finding("skb.users", item.skb, "users", CORRUPT, "1", str(item.users), message)


def in_flight(sock: SockAccounts) -> Iterator[Finding]:
    """packets_out, retrans_out, sacked_out and lost_out are the sums over what has been sent and not acknowledged.

    Mirrors include/net/tcp.h: tcp_left_out, tcp_packets_in_flight, tcp_verify_left_out, net/ipv4/tcp_output.c:
    tcp_event_new_data_sent, tcp_adjust_pcount, and the WARN_ON(tp->packets_out) of net/ipv4/tcp_timer.c:
    tcp_retransmit_timer.  Traps: without SACK, sacked_out counts duplicate ACKs, of which no segment knows; who holds
    the lock may be between a segment and the counter.
    """
    counted = sock.in_flight
    if counted is None or Role.RTX not in sock.truesize:
        return
    sent = [item for item in sock.segments if item.queue is Role.RTX]
    severity = SUSPECT if sock.is_locked else CORRUPT
    for name, found, expected in _counters(counted, sent):
        if found != expected:
            message = f"the {len(sent)} sk_buffs on its rtx queue amount to {expected}{_in_the_middle(sock)}"
            yield Finding("sock.accounting", sock.addr, name, severity, str(expected), str(found), message)
    left = counted.sacked_out + counted.lost_out
    if not counted.is_sack and left > counted.packets_out:
        message = "more packets have left the network than were sent"
        most = f"at most {counted.packets_out - counted.lost_out}"
        yield Finding("sock.accounting", sock.addr, "sacked_out", severity, most, str(counted.sacked_out), message)


def _in_the_middle(sock: SockAccounts) -> str:
    return "; somebody was at work on the socket, and may have been in the middle" if sock.is_locked else ""


def _counters(counted: InFlight, sent: list[Segment]) -> Iterator[tuple[str, int, int]]:
    """Each counter by its name, what it says, and what the segments amount to."""
    yield "packets_out", counted.packets_out, sum(item.packets for item in sent)
    yield "retrans_out", counted.retrans_out, sum(item.packets for item in sent if item.sacked & _RETRANS)
    yield "lost_out", counted.lost_out, sum(item.packets for item in sent if item.sacked & _LOST)
    if counted.is_sack:
        yield "sacked_out", counted.sacked_out, sum(item.packets for item in sent if item.sacked & _SACKED)


RULES = (segments, exclusive, in_flight)
