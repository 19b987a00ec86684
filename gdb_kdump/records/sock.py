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
    """An sk_buff on a queue of a TCP socket: `len` (bytes), `users`, and what its struct tcp_skb_cb has.

    `sacked` are bits, `packets` its tcp_gso_segs: how many of these count where sk_buffs are counted; both are 0 where
    the types do not tell.
    """

    skb: int
    queue: Role
    len: int
    seq: int
    end_seq: int
    flags: int
    users: int = 1
    sacked: int = 0
    packets: int = 0


@dataclass(frozen=True)
class InFlight:
    """What a TCP socket counts of what it has sent, in packets; `is_sack` says that its peer tells what has arrived."""

    packets_out: int
    retrans_out: int
    sacked_out: int
    lost_out: int
    is_sack: bool


@dataclass(frozen=True)
class Callback:
    """A member of a socket that is to be called, and where it leads to; `is_code` says that code is there."""

    member: str
    addr: int
    is_code: bool


@dataclass(frozen=True)
class SockAccounts:
    """A struct sock with what it has accounted and what its queues hold, in bytes of truesize.

    `kind` is "tcp", "udp", "unix", "netlink", "packet" or "other"; `is_locked` says that somebody was at work on it: a
    task that owns it, or a CPU that held its spinlock.
    `in_flight` is None where there is nothing to compare: of other protocols, of closed sockets, without the types.
    `callbacks` are those that are not NULL.
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
    in_flight: InFlight | None = None
    callbacks: tuple[Callback, ...] = ()
