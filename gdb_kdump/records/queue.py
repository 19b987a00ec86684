"""Queues of sk_buffs, as a walk found them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.records.skb import Held


class Role(Enum):
    """What a queue is for; those of a socket have the values that we call them by."""

    WRITE = "write"
    RECEIVE = "receive"
    ERROR = "error"
    BACKLOG = "backlog"
    RTX = "rtx"
    OFO = "ofo"
    READER = "reader"
    ACCEPT = "accept"
    GRO = "GRO"  # packets that wait for the next ones of their flow
    TO_BE_FREED = "to be freed"  # sk_buffs that nobody uses any more
    OTHER = "other"


_HELD = {Role.GRO: Held.GRO, Role.TO_BE_FREED: Held.TO_BE_FREED}


@dataclass(frozen=True)
class BadLink:
    """A pointer of `node` that is not what the rest of the queue says: `member` is its C name."""

    node: int
    expected: int
    found: int
    member: str = "prev"


@dataclass(frozen=True)
class LostQueue:
    """A circle of `skbs` (addresses) through something else at `head`, which no walk of queues has met.

    `place` is what the memory at `head` is, in words; `is_free` that nobody has it; `leads_back` that next and prev
    stand there which lead to the last and the first of them, as in a struct sk_buff_head or list_head.
    """

    head: int
    skbs: tuple[int, ...]
    place: str
    is_free: bool
    leads_back: bool


@dataclass(frozen=True)
class TreeNode:
    """One sk_buff of a red-black tree: its struct rb_node, and `above`, the node whose child pointer led to it.

    `seq` is TCP's sequence number of its first byte, None where sk_buffs have none.
    """

    addr: int
    above: int
    parent: int
    is_black: bool
    left: int
    right: int
    seq: int | None = None


@dataclass(frozen=True)
class DeadEnd:
    """A child pointer of a tree, at `node` (0: the root's), that leads to no node; `why` None: to one already met."""

    node: int
    member: str
    found: int
    why: Why | None


@dataclass(frozen=True)
class Queue:
    """A queue of sk_buffs at `head` as the walk found it; `nodes` are its members in order.

    `kind` says what links them, and what `qlen` counts:
    list     a struct sk_buff_head; qlen is its member.  A walk that did not end at the head ended at `cycle` (a node
             that comes again), at `hole`, or at `astray` (something that next leads to and that is no member);
             `from_tail` are those that only the walk along prev reaches, last first
    backlog  sock.sk_backlog, linked by next alone; qlen is its len: bytes of truesize.  It, too, may end `astray`
    chain    linked by next alone until NULL, or pointed to by an array; qlen is what the kernel counts, `elsewhere`
             of them on other queues, or what was walked where it counts nothing.  It, too, may end `astray`
    accept   the struct request_socks (not sk_buffs) of a listening socket; qlen is sock.sk_ack_backlog
    rbtree   a struct rb_root; the kernel keeps no count, so qlen is what was walked; `tree` has what the nodes say

    `tail` is the member that names the last node where there is one, and what it says; `sock` owns the queue.
    `is_busy` says that its lock was held, or its socket's, and that its holder may have been in the middle of
    changing it; a backlog's, only that its socket's was.
    `bytes` and `truesize` are sums over the nodes that could be read; `stopped` says why the walk was given up though
    the queue goes on: the limit, Ctrl-C, or types that lack something; `head` is 0 where it is not even known.
    """

    name: str
    head: int
    qlen: int
    nodes: tuple[int, ...]
    bad_links: tuple[BadLink, ...] = ()
    cycle: int | None = None
    hole: Unreadable | None = None
    from_tail: tuple[int, ...] = ()
    astray: int | None = None
    kind: str = "list"
    tree: tuple[TreeNode, ...] = ()
    dead_ends: tuple[DeadEnd, ...] = ()
    tail: tuple[str, int] | None = None
    bytes: int = 0
    truesize: int = 0
    sock: int = 0
    elsewhere: int = 0
    is_busy: bool = False
    stopped: str = ""
    role: Role = Role.OTHER

    @property
    def complete(self) -> bool:
        """Whether the walk came to the end that the kernel would come to."""
        if self.stopped or self.dead_ends:
            return False
        return self.cycle is None and self.hole is None and self.astray is None

    @property
    def held(self) -> Held:
        """Where its sk_buffs are held."""
        return Held.TREE if self.kind == "rbtree" else _HELD.get(self.role, Held.QUEUE)

    @property
    def skbs(self) -> tuple[int, ...]:
        """Every sk_buff that was found, from either end."""
        return () if self.kind == "accept" else self.nodes + self.from_tail
