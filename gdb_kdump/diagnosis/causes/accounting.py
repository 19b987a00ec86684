"""accounting: TCP's own counters do not agree with its queues; net/ipv4/tcp_timer.c, tcp_output.c, tcp_input.c."""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.text import hex16

_TCP = "net/ipv4/tcp"


def accounting(case: Case) -> Cause | None:
    """A check of TCP has failed, and packets are counted as sent that are on no queue."""
    trip, sock = case.trip, case.sock
    if not trip.is_asserted or not trip.place.startswith(_TCP) or sock is None or not sock.is_tcp:
        return None
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
