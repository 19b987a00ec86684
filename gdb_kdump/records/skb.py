"""What rules judge: plain records of ints, as kernel/ read them.  Addresses are ints, pointers that are NULL are 0."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from gdb_kdump.errors import Unreadable
from gdb_kdump.records.allocation import UNKNOWN, Allocation
from gdb_kdump.records.record import record

DATAREF_SHIFT = 16  # include/linux/skbuff.h: SKB_DATAREF_SHIFT
GSO_BY_FRAGS = 0xFFFF  # include/linux/skbuff.h: the gso_size of an sk_buff whose segments are those of frag_list


class Held(Enum):
    """Where an sk_buff is held: what is right in one place is not in another."""

    QUEUE = "queue"  # a list of a socket, a CPU, a device, a qdisc, ...
    TREE = "tree"  # a red-black tree, whose node takes the place of next, prev and dev
    GRO = "GRO"
    TO_BE_FREED = "to be freed"
    NOWHERE = "nowhere"  # on no queue: in somebody's hands, or half made


@record
class Frag:
    """One skb_frag_t: `page` (struct page *, or a tagged netmem), `offset` and `size` in bytes.

    `room` is what the (compound) page has from there on in bytes, 0 when `page` is no struct page, None when that is
    not known; `is_free` says that nobody has a reference to the page, `is_slab` that it belongs to the slab allocator,
    `cache` to which of its caches; `wrong` is what it is that no packet can be in, after "its page is".
    """

    page: int
    offset: int
    size: int
    room: int | None = None
    is_free: bool = False
    is_slab: bool = False
    cache: str = ""
    wrong: str = ""


@record
class FragList:
    """The chain that skb_shared_info.frag_list begins: `skbs` in order and the sum of their `len` (bytes).

    `hole` is what cannot be read, `cycle` the first skb that comes again, `foreign` the first that is no allocated
    sk_buff and what it is instead; all None when the chain is as it should be.
    """

    skbs: tuple[int, ...]
    len: int
    hole: Unreadable | None = None
    cycle: int | None = None
    foreign: tuple[int, str] | None = None
    longest_linear: int = 0  # the most bytes that one of them has outside of fragments

    @property
    def is_whole(self) -> bool:
        return self.hole is None and self.cycle is None and self.foreign is None


@record
class SharedInfo:
    """A struct skb_shared_info, by the names of its members."""

    addr: int
    nr_frags: int
    dataref: int
    frag_list: int
    gso_size: int
    gso_segs: int
    gso_type: int
    tx_flags: int
    destructor_arg: int
    flags: int  # 0 in kernels without
    is_zerocopy: bool  # destructor_arg is a struct ubuf_info *
    frags: tuple[Frag, ...]  # the first nr_frags fragments, but never more than there is room for
    chain: FragList
    written: int | None = None
    """How many bytes from its start are sure to have been written since it was allocated: after them any may be left
    from before (net/core/skbuff.c: __alloc_skb); None where that is not known."""


@record
class References:
    """What an sk_buff refers to besides its buffer and socket, as its members say; 0 where this kernel has none."""

    dev: int = 0  # a struct net_device * or, where the kernel can, UDP's notes
    dst: int = 0  # a pointer with flags in its lowest bits
    nfct: int = 0  # the same
    extensions: int = 0  # a struct skb_ext *, to which active_extensions give a meaning
    active_extensions: int = 0
    fclone: int | None = None  # how it is to be freed, None where this kernel has no such member
    head_frag: int | None = None  # the same of its buffer
    is_destroyed_by_function: bool = True  # the destructor is a function, as far as that is its place
    checksum_at: int | None = None  # the offset after the checksum that a device is to fill in
    inner_headers: tuple[tuple[str, int], ...] = ()  # like Skb.headers, those that are 0 left out
    protocol: int = 0  # ETH_P_*
    is_encapsulated: bool = True  # encapsulation: the inner headers mean something


@record
class SkbFacts:
    """What all sk_buffs of a kernel have in common; 0 where its debug information does not say."""

    size: int  # of struct sk_buff
    shinfo_size: int
    unset_header: int  # the offset that says not set
    max_frags: int
    known_gso_types: int = 0  # the bits of gso_type that this kernel defines
    gso_protocols: int = 0  # those of which only one can be set
    gso_of_families: tuple[tuple[int, int], ...] = ()  # ETH_P_IP and ETH_P_IPV6, and the bit that is the other's alone
    gso_tunnels: int = 0  # those that cut the packet within a tunnel
    gso_whole: int = 0  # those that leave the segments to frag_list
    known_flags: int = 0  # the bits of skb_shared_info.flags
    known_extensions: int = 0  # the bits of active_extensions
    has_scratch: bool = False  # UDP may keep notes in dev's place
    sk_may_be_offset: bool = True  # a fragment of an IP packet may have its offset in sk's place


@record
class SkbMembers:
    """The members of a struct sk_buff, by their names, as they stand in memory: see Skb for tail, end and headers."""

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
    destructor: int
    mac_header: int
    network_header: int
    transport_header: int


@record
class SkbMemory:
    """The memory that an sk_buff stands in, and that its members point to."""

    skb: Allocation = UNKNOWN
    head: Allocation = UNKNOWN
    sk: Allocation = UNKNOWN  # of a socket, where there is one and a destructor
    dst: Allocation = UNKNOWN
    nfct: Allocation = UNKNOWN
    extensions: Allocation = UNKNOWN


_NOT_ASKED_FOR = SkbMemory()
_NO_REFERENCES = References()


def on_a_queue() -> Held:
    """What is assumed where nobody has looked."""
    return Held.QUEUE


@record
class Skb:
    """A struct sk_buff."""

    addr: int
    members: SkbMembers
    facts: SkbFacts
    tail: int  # an address, whatever the kernel stores
    end: int  # the same
    headers: tuple[tuple[str, int | None], ...]  # offsets from `head` in bytes, None when not set
    shinfo: SharedInfo | Unreadable
    memory: SkbMemory = _NOT_ASKED_FOR
    references: References = _NO_REFERENCES  # read only with the memory
    overwritten: frozenset[str] = frozenset()
    """Of one that was freed, the members that its cache has overwritten with the pointer to the next free object."""
    is_tcp: bool = False  # a TCP segment: only looked for where there are gso_size or gso_segs
    is_fragment: bool = False  # a fragment of an IP packet: only looked for where truesize is strange
    buffer: Callable[[], bytes] = bytes
    """Reads the bytes from head on through the shared info, as far as they can be read."""
    held: Callable[[], Held] = on_a_queue
    """Finds out where it is held."""
    released: Callable[[], int] = int
    """Finds out how many of its fragments a task had already given back, that was at the next one."""
    alone: Callable[[], str] = str
    """Finds out which function, that asserts to be alone with it, a task or CPU was in; "" where there is none."""

    @property
    def hole(self) -> Unreadable | None:
        """Why its shared info cannot be read."""
        return self.shinfo if isinstance(self.shinfo, Unreadable) else None

    def payload_and_shinfo(self) -> tuple[bytes, bytes]:
        """The bytes of the buffer up to end, and those of the shared info, as far as they could be read."""
        buffer, size = self.buffer(), self.end - self.members.head
        return (buffer[:size], buffer[size:]) if 0 <= size <= len(buffer) else (buffer, b"")
