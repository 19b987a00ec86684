"""What rules judge: plain records of ints, as kernel/ read them.  Addresses are ints, pointers that are NULL are 0."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.errors import Why


@dataclass(frozen=True)
class Hole:
    """Something that the dump cannot give: the address, and why."""

    addr: int
    why: Why


@dataclass(frozen=True)
class Frag:
    """One skb_frag_t: `page` (struct page *, or a tagged netmem), `offset` and `size` in bytes."""

    page: int
    offset: int
    size: int


@dataclass(frozen=True)
class FragList:
    """The chain behind skb_shared_info.frag_list: `skbs` in order and the sum of their `len` (bytes).

    `hole` is what cannot be read, `cycle` the first skb that comes again; both None when the chain ends as it should.
    """

    skbs: tuple[int, ...]
    len: int
    hole: Hole | None = None
    cycle: int | None = None

    @property
    def is_whole(self) -> bool:
        return self.hole is None and self.cycle is None


@dataclass(frozen=True)
class SharedInfo:
    """A struct skb_shared_info; `frags` has its first `nr_frags` fragments, but never more than `max_frags`."""

    addr: int
    nr_frags: int
    dataref: int
    frag_list: int
    max_frags: int
    frags: tuple[Frag, ...]
    chain: FragList


@dataclass(frozen=True)
class Skb:
    """A struct sk_buff; `tail` and `end` are addresses, whatever the kernel stores.

    `shinfo` is None where it cannot be read: `hole` says why.
    """

    addr: int
    next: int
    prev: int
    sk: int
    len: int
    data_len: int
    head: int
    data: int
    tail: int
    end: int
    truesize: int
    users: int
    cloned: int
    nohdr: int
    shinfo: SharedInfo | None
    hole: Hole | None


@dataclass(frozen=True)
class BadLink:
    """A node whose `prev` is not the node before it."""

    node: int
    expected: int
    found: int


@dataclass(frozen=True)
class Queue:
    """A struct sk_buff_head at `head` as the walk along `next` found it.

    `nodes` are the sk_buffs in order.  The walk ended at the head, or at `cycle` (a node that comes again), or at
    `hole`; `from_tail` are then those that only the walk along `prev` reaches, last one first.
    """

    name: str
    head: int
    qlen: int
    nodes: tuple[int, ...]
    bad_links: tuple[BadLink, ...] = ()
    cycle: int | None = None
    hole: Hole | None = None
    from_tail: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the walk came back to the head."""
        return self.cycle is None and self.hole is None
