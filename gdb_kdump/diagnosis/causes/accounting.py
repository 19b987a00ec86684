"""accounting: TCP's own counters do not agree with its queues; net/ipv4/tcp_timer.c, tcp_output.c, tcp_input.c."""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.text import hex16

_TCP = "net/ipv4/tcp"
# net/ipv4/tcp.c: tcp_recvmsg_locked; the numbers are those of tcp_sock.copied_seq and of the sk_buff's first byte.
_RECVMSG = re.compile(r"TCP recvmsg seq # bug(?: 2)?: copied ([0-9A-F]+), seq ([0-9A-F]+), rcvnxt ([0-9A-F]+)")
# What they assert to be 0: net/ipv4/af_inet.c: inet_sock_destruct, net/core/stream.c: sk_stream_kill_queues.
_DESTRUCT = ("net/ipv4/af_inet.c", "net/core/stream.c")
_COUNTERS = ("rmem_alloc", "wmem_alloc", "sk_wmem_queued", "sk_forward_alloc")


def accounting(case: Case) -> Cause | None:
    """A check of TCP has failed, and packets are counted as sent that are on no queue."""
    trip, sock = case.trip, case.sock
    if not trip.is_asserted or sock is None:
        return None
    if trip.place.startswith(_DESTRUCT):
        return _of_destroyed(case, sock.addr)
    if not trip.place.startswith(_TCP) or not sock.is_tcp:
        return None
    received = _RECVMSG.search(trip.text)
    if received is not None:
        return _of_receive_queue(case, sock.addr, *(int(number, 16) for number in received.groups()))
    queue = next((queue for queue in case.queues if queue.name == "rtx"), None)
    try:
        packets_out = case.session.number(sock.addr, "tcp_sock.packets_out")
    except (Unreadable, MissingDebugInfo):
        return None
    if queue is None or queue.nodes or not packets_out:
        return None
    return Cause(
        "accounting",
        f"sock {hex16(sock.addr)} counts {packets_out} packets in flight, but its rtx queue is empty",
        CERTAIN,
        (
            Evidence(f"packets_out is {packets_out}", f"kstruct tcp_sock.packets_out {hex16(sock.addr)}"),
            Evidence("the queue is empty", f"skbwalk {hex16(sock.addr)} --queue rtx"),
            Evidence(f"the kernel checks it at {trip.place}", "klog"),
        ),
        sock.addr,
        "packets_out",
    )


def _of_receive_queue(case: Case, sock: int, copied: int, seq: int, rcv_nxt: int) -> Cause:
    """The reader has got to a byte that no sk_buff of the receive queue has."""
    missing = (seq - copied) % (1 << 32)
    if 0 < missing < 1 << 31:
        what = f"{missing} bytes are missing from the receive queue of sock {hex16(sock)}: it goes on at {seq:#x}"
    else:
        what = (
            f"no sk_buff of the receive queue of sock {hex16(sock)} has the next byte: the last one begins at {seq:#x}"
        )
    message = f"{what}, but its reader has got to {copied:#x} (rcv_nxt {rcv_nxt:#x})"
    evidence = (
        Evidence("the kernel's numbers: copied, seq, rcvnxt", "klog"),
        Evidence("copied_seq and rcv_nxt", f"kstruct tcp_sock.copied_seq,rcv_nxt {hex16(sock)}"),
        Evidence("the queue", f"skbwalk {hex16(sock)} --queue receive"),
    )
    return Cause("accounting", message, CERTAIN, evidence, sock, "copied_seq")


def _of_destroyed(case: Case, sock: int) -> Cause | None:
    """Counters of memory that are not 0 when the socket goes, though nothing is queued any more."""
    functions = ("inet_sock_destruct", "sk_stream_kill_queues")
    if not case.trip.passes(*functions):
        return None
    wrong = []
    for name in _COUNTERS:
        try:
            count = case.session.number(sock, f"sock.{name}")
        except (Unreadable, MissingDebugInfo):
            continue
        if count:
            wrong.append((name if name.startswith("sk_") else f"sk_{name}", count))
    if not wrong:
        return None
    what = ", ".join(f"{name} is {count}" for name, count in wrong)
    message = (
        f"sock {hex16(sock)} goes, and still counts memory of sk_buffs ({what}): something was charged or freed "
        "wrongly, by whom is not known"
    )
    members = "sk_backlog,sk_wmem_alloc,sk_wmem_queued,sk_forward_alloc"
    evidence = (
        Evidence(f"{what} (sk_rmem_alloc stands in sk_backlog)", f"kstruct sock.{members} {hex16(sock)}"),
        Evidence(f"the kernel checks it at {case.trip.place}", "klog"),
    )
    return Cause("accounting", message, CERTAIN, evidence, sock, wrong[0][0])
