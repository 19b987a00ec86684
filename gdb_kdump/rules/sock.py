"""Invariants between a socket and the sk_buffs on its queues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.text import hex16, is_kernel_address


@dataclass(frozen=True)
class Owner:
    """An sk_buff on a queue of a socket, and its `sk` (struct sock *)."""

    skb: int
    queue: str
    sk: int


@dataclass(frozen=True)
class SockRecord:
    """A struct sock with what it has accounted and what its queues hold, in bytes of truesize.

    `kind` is "tcp", "udp", "unix", "netlink", "packet" or "other"; `is_locked` says that somebody was at work on it;
    `truesize` has the sum of each queue that could be walked whole.
    """

    sock: int
    kind: str
    is_locked: bool
    wmem_queued: int
    wmem_alloc: int
    rmem_alloc: int
    truesize: dict[str, int]
    owners: tuple[Owner, ...]


def accounting(sock: SockRecord) -> Iterator[Finding]:
    """What a socket has accounted for is what its queues hold.

    Mirrors include/net/sock.h: sk_wmem_queued_add, sk_rmem_alloc_get, net/core/sock.c: sk_alloc, which starts
    sk_wmem_alloc at 1.  Traps: somebody who holds the lock may be between the two steps; UDP gives memory back late;
    sent clones and packets on their way count, too, so only TCP's own queues must match exactly.
    """
    severity = SUSPECT if sock.is_locked else CORRUPT
    if sock.wmem_alloc <= 0:
        message = "no writer's reference is left, yet the socket is alive"
        yield _finding(sock, "sk_wmem_alloc", CORRUPT, "at least 1", sock.wmem_alloc, message)
    if sock.rmem_alloc < 0:
        yield _finding(sock, "sk_rmem_alloc", CORRUPT, "at least 0", sock.rmem_alloc, "more was given back than taken")
    if sock.kind == "tcp" and {"write", "rtx"} <= sock.truesize.keys():
        held = sock.truesize["write"] + sock.truesize["rtx"]
        if sock.wmem_queued != held:
            message = f"the write and rtx queues hold {held} bytes"
            yield _finding(sock, "sk_wmem_queued", severity, str(held), sock.wmem_queued, message)
    received = [sock.truesize[name] for name in ("receive", "ofo", "reader") if name in sock.truesize]
    if sock.kind in ("tcp", "udp", "netlink", "packet") and 0 <= sock.rmem_alloc < sum(received):
        message = f"the receive queues hold {sum(received)} bytes"
        yield _finding(sock, "sk_rmem_alloc", severity, f"at least {sum(received)}", sock.rmem_alloc, message)
    elif sock.kind == "tcp" and sock.rmem_alloc > sum(received) and {"receive", "ofo"} <= sock.truesize.keys():
        message = f"the receive queues hold {sum(received)} bytes, and nothing else of TCP is accounted there"
        yield _finding(sock, "sk_rmem_alloc", SUSPECT, str(sum(received)), sock.rmem_alloc, message)


def _finding(sock: SockRecord, member: str, severity: str, expected: str, found: int, message: str) -> Finding:
    return Finding("sock.accounting", sock.sock, member, severity, expected, str(found), message)


def owner(sock: SockRecord) -> Iterator[Finding]:
    """An sk_buff on a socket's queue belongs to that socket or to none.

    Mirrors include/net/sock.h: skb_set_owner_r, skb_set_owner_w.  Traps: what a UNIX socket has received belongs to
    the sender; TCP's own write queue has no owner before it is sent; other families are left alone.
    """
    if sock.kind not in ("tcp", "udp", "netlink", "packet", "unix"):
        return
    for item in sock.owners:
        if sock.kind == "unix" and (not item.sk or is_kernel_address(item.sk)):
            continue
        if item.sk not in (0, sock.sock):
            message = f"it is on the {item.queue} queue of {hex16(sock.sock)}, but says that it belongs to another socket"
            yield Finding("skb.sk", item.skb, "sk", CORRUPT, f"{hex16(sock.sock)} or NULL", hex16(item.sk), message)


RULES = (accounting, owner)
