"""Rules between a socket and its sk_buffs: sound books yield nothing, cooked ones that rule and member."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_kdump.records.queue import Role
from gdb_kdump.records.sock import Callback, InFlight, Owner, Segment, SockAccounts
from gdb_kdump.rules import judge_sock
from gdb_kdump.rules.findings import CORRUPT, SUSPECT

SOCK = 0xFFFF888003C00000
OTHER = 0xFFFF888003C80000
SKB = 0xFFFF888003A41200

TCP = SockAccounts(
    addr=SOCK,
    kind="tcp",
    is_locked=False,
    wmem_queued=3000,
    wmem_alloc=1281,
    rmem_alloc=5000,
    forward_alloc=1384,
    truesize={Role.WRITE: 1000, Role.RTX: 2000, Role.RECEIVE: 4000, Role.OFO: 700, Role.ERROR: 300, Role.BACKLOG: 900},
    owners=(Owner(SKB, Role.WRITE, 0), Owner(SKB, Role.RECEIVE, SOCK)),
    written=(1280, 1280),
)
UDP = SockAccounts(
    addr=SOCK,
    kind="udp",
    is_locked=False,
    wmem_queued=0,
    wmem_alloc=2305,
    rmem_alloc=1300,
    forward_alloc=0,
    truesize={Role.WRITE: 2304, Role.RECEIVE: 700, Role.READER: 0, Role.ERROR: 0},
    owners=(),
    written=(2304, 2304),
    deficit=600,
    cork=(1460, 1, 1480),
)

# Two sk_buffs in flight: one of 3 packets that was sent again, one of 2 that has arrived and one of 1 that is lost.
SENT = replace(
    TCP,
    segments=(
        Segment(SKB, Role.RTX, 100, 0, 100, 16, sacked=0x82, packets=3),
        Segment(SKB + 512, Role.RTX, 100, 100, 200, 16, sacked=1, packets=2),
        Segment(SKB + 1024, Role.RTX, 100, 200, 300, 16, sacked=4, packets=1),
        Segment(SKB + 1536, Role.WRITE, 100, 300, 400, 16, packets=9),
    ),
    in_flight=InFlight(packets_out=6, retrans_out=3, sacked_out=2, lost_out=1, is_sack=True),
)


def counting(**changes: object) -> SockAccounts:
    assert SENT.in_flight is not None
    return replace(SENT, in_flight=replace(SENT.in_flight, **changes))  # type: ignore[arg-type]


HEALTHY = {
    "TCP": TCP,
    "in flight": SENT,
    "duplicate ACKs, of which no segment knows": counting(sacked_out=5, is_sack=False),
    "the rtx queue cut short": replace(counting(packets_out=9), truesize={Role.WRITE: 1000}),
    "callbacks": replace(TCP, callbacks=(Callback("sk_data_ready", 0xFFFFFFFF81000000, True),)),
    "received, and peeked at": replace(TCP, segments=(Segment(SKB, Role.RECEIVE, 1, 0, 1, 16, users=2),)),
    "UDP, with something to give back": UDP,
    "corked over two sk_buffs": replace(UDP, cork=(2920, 2, 2960)),
    "corked over IPv6": replace(UDP, cork=(2880, 2, 2960)),
    "somebody at work on the cork": replace(UDP, is_locked=True, cork=(9999, 1, 1480)),
    "not all sk_buffs in the dump": replace(TCP, wmem_alloc=99_999, written=None, rmem_alloc=99_999, received=None),
    "a write on its way to be charged, another given back": replace(TCP, written=(1000, 9000)),
    "one more is held while TCP is to send": replace(TCP, wmem_alloc=1282),
    "whole pages of user space are charged": replace(TCP, forward_alloc=-2900),
    "SCTP charges before it reserves": replace(TCP, kind="other", forward_alloc=-1, truesize={}),
    "segments": replace(
        TCP, segments=(Segment(SKB, Role.RTX, 100, 0xFFFFFFF0, 84, 16), Segment(SKB, Role.WRITE, 0, 7, 8, 1))
    ),
    "a destructor is not for what is to be sent": replace(TCP, owners=(Owner(SKB, Role.WRITE, SOCK, False),)),
    "kTLS above it": replace(TCP, forward_alloc=-9000, rmem_alloc=9000, is_layered=True),
    "received, and with a BPF program": replace(TCP, rmem_alloc=7000, received=7000),
    "truesizes that add up as an atomic_t does": replace(
        UDP,
        rmem_alloc=1300,
        truesize={Role.WRITE: 2304, Role.RECEIVE: (1 << 32) + 200, Role.READER: 0, Role.ERROR: 500},
    ),
    "a receive queue cut short": replace(TCP, truesize={Role.WRITE: 1000, Role.RTX: 2000, Role.RECEIVE: 100}),
    "what a UNIX socket received is the sender's": replace(
        TCP, kind="unix", wmem_queued=0, forward_alloc=0, truesize={}, owners=(Owner(SKB, Role.RECEIVE, OTHER),)
    ),
}
RULES = {
    "sk": "skb.sk",
    "destructor": "skb.sk",
    "cb": "skb.len",
    "users": "skb.users",
    "sk_data_ready": "sock.callback",
}
DAMAGED = {
    "packets_out": (counting(packets_out=7), SOCK, "packets_out", CORRUPT),
    "packets_out, locked": (replace(counting(packets_out=7), is_locked=True), SOCK, "packets_out", SUSPECT),
    "retrans_out": (counting(retrans_out=0), SOCK, "retrans_out", CORRUPT),
    "sacked_out": (counting(sacked_out=3), SOCK, "sacked_out", CORRUPT),
    "lost_out": (counting(lost_out=0), SOCK, "lost_out", CORRUPT),
    "more duplicate ACKs than packets": (counting(sacked_out=6, is_sack=False), SOCK, "sacked_out", CORRUPT),
    "an empty rtx queue": (
        replace(counting(retrans_out=0, sacked_out=0, lost_out=0), segments=()),
        SOCK,
        "packets_out",
        CORRUPT,
    ),
    "a callback of a module that has gone": (
        replace(TCP, callbacks=(Callback("sk_data_ready", 0xFFFFFFFFC02FA040, False),)),
        SOCK,
        "sk_data_ready",
        CORRUPT,
    ),
    "to be sent, and somebody else has it": (
        replace(TCP, segments=(Segment(SKB, Role.WRITE, 1, 0, 1, 16, users=2),)),
        SKB,
        "users",
        CORRUPT,
    ),
    "wmem_alloc saturated": (replace(TCP, wmem_alloc=-0x40000000), SOCK, "sk_wmem_alloc", CORRUPT),
    "wmem_queued": (replace(TCP, wmem_queued=2999), SOCK, "sk_wmem_queued", CORRUPT),
    "wmem_queued, locked": (replace(TCP, wmem_queued=2999, is_locked=True), SOCK, "sk_wmem_queued", SUSPECT),
    "wmem_alloc 0": (replace(TCP, wmem_alloc=0), SOCK, "sk_wmem_alloc", CORRUPT),
    "wmem_alloc": (replace(TCP, wmem_alloc=1283), SOCK, "sk_wmem_alloc", SUSPECT),
    "wmem_alloc below what is on lists": (replace(TCP, wmem_alloc=1280), SOCK, "sk_wmem_alloc", SUSPECT),
    "wmem_alloc below the write queue": (replace(UDP, wmem_alloc=2304, written=None), SOCK, "sk_wmem_alloc", CORRUPT),
    "rmem_alloc below": (replace(TCP, rmem_alloc=4999), SOCK, "sk_rmem_alloc", CORRUPT),
    "rmem_alloc above": (replace(TCP, rmem_alloc=5001, received=5000), SOCK, "sk_rmem_alloc", SUSPECT),
    "rmem_alloc above all that there is": (
        replace(TCP, rmem_alloc=7001, received=7000),
        SOCK,
        "sk_rmem_alloc",
        SUSPECT,
    ),
    "rmem_alloc below, kTLS above it": (replace(TCP, rmem_alloc=4999, is_layered=True), SOCK, "sk_rmem_alloc", CORRUPT),
    "rmem_alloc negative": (replace(TCP, rmem_alloc=-1), SOCK, "sk_rmem_alloc", CORRUPT),
    "forward_alloc negative": (replace(UDP, forward_alloc=-1), SOCK, "sk_forward_alloc", CORRUPT),
    "forward_alloc below what is queued": (replace(TCP, forward_alloc=-3001), SOCK, "sk_forward_alloc", CORRUPT),
    "forward_alloc below what can be charged": (
        replace(TCP, forward_alloc=-200_000, wmem_queued=500_000, truesize={}),
        SOCK,
        "sk_forward_alloc",
        CORRUPT,
    ),
    "forward_alloc of a UNIX socket": (
        replace(TCP, kind="unix", truesize={}, owners=(), forward_alloc=4096),
        SOCK,
        "sk_forward_alloc",
        CORRUPT,
    ),
    "UDP gave back too much": (replace(UDP, rmem_alloc=1299), SOCK, "sk_rmem_alloc", CORRUPT),
    "cork too long": (replace(UDP, cork=(2460, 1, 1480)), SOCK, "cork.base.length", CORRUPT),
    "cork too short": (replace(UDP, cork=(460, 1, 1480)), SOCK, "cork.base.length", CORRUPT),
    "cork that IPsec makes longer": (replace(UDP, cork=(2920, 2, 2985)), SOCK, "cork.base.length", SUSPECT),
    "nobody holds it": (replace(TCP, refcnt=0), SOCK, "__sk_common.skc_refcnt", CORRUPT),
    "overflowed": (replace(TCP, refcnt=-0x40000000), SOCK, "__sk_common.skc_refcnt", CORRUPT),
    "being freed": (replace(TCP, refcnt=0, wmem_alloc=0), SOCK, "__sk_common.skc_refcnt", SUSPECT),
    "charged, and never given back": (
        replace(TCP, owners=(Owner(SKB, Role.RECEIVE, SOCK, False),)),
        SKB,
        "destructor",
        CORRUPT,
    ),
    "numbers that do not span the bytes": (
        replace(TCP, segments=(Segment(SKB, Role.RTX, 100, 0, 101, 16),)),
        SKB,
        "cb",
        CORRUPT,
    ),
    "the same, and somebody at work": (
        replace(TCP, is_locked=True, segments=(Segment(SKB, Role.RTX, 100, 0, 99, 16),)),
        SKB,
        "cb",
        SUSPECT,
    ),
    "another socket's sk_buff": (replace(TCP, owners=(Owner(SKB, Role.WRITE, OTHER),)), SKB, "sk", CORRUPT),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_sound_books(name: str) -> None:
    assert judge_sock(HEALTHY[name]) == []


@pytest.mark.parametrize("name", DAMAGED)
def test_cooked_books(name: str) -> None:
    record, *expected = DAMAGED[name]
    findings = judge_sock(record)
    assert [[finding.object, finding.member, finding.severity] for finding in findings] == [expected]
    assert findings[0].rule == RULES.get(str(expected[1]), "sock.accounting")
