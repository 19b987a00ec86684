"""What a socket has accounted for, and what its queues hold."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.records.queue import Role


@dataclass(frozen=True)
class Owner:
    """An sk_buff on a queue of a socket, its `sk` (struct sock *), and whether it has a destructor."""

    skb: int
    queue: Role
    sk: int
    is_destroyed: bool = True


@dataclass(frozen=True)
class Segment:
    """An sk_buff on a queue of a TCP socket: `len` (bytes) and the numbers and `flags` of its struct tcp_skb_cb."""

    skb: int
    queue: Role
    len: int
    seq: int
    end_seq: int
    flags: int


@dataclass(frozen=True)
class SockAccounts:
    """A struct sock with what it has accounted and what its queues hold, in bytes of truesize.

    `kind` is "tcp", "udp", "unix", "netlink", "packet" or "other"; `is_locked` says that somebody was at work on it: a
    task that owns it, or a CPU that held its spinlock.
    `owners` may leave out those sk_buffs whose sk is NULL, or this socket and with a destructor; `segments` are those
    of TCP's queues, empty where the kernel's types do not tell.
    `truesize` has the sum of each queue that could be walked whole, of what is charged to the socket's memory.
    `written` is the truesize of all sk_buffs of the system that count as written by it, of those that are on a list
    first, None where not all can be found, or need not be; `received` that of those that it has yet to read.
    `deficit` is what UDP has yet to give back; `cork` is the length of a corked datagram, with the number of
    its sk_buffs and the sum of their len, or None.  `is_layered` says that something works above the protocol: kTLS,
    MPTCP, a BPF program, the kernel's own user of a socket.
    """

    addr: int
    kind: str
    is_locked: bool
    wmem_queued: int
    wmem_alloc: int
    rmem_alloc: int
    forward_alloc: int
    truesize: dict[Role, int]
    owners: tuple[Owner, ...]
    written: tuple[int, int] | None = None
    received: int | None = None
    deficit: int = 0
    cork: tuple[int, int, int] | None = None
    is_layered: bool = False
    refcnt: int = 1
    segments: tuple[Segment, ...] = ()
