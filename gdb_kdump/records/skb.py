"""What rules judge: plain records of ints, as kernel/ read them.  Addresses are ints, pointers that are NULL are 0."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from gdb_kdump.errors import Unreadable
from gdb_kdump.records.allocation import Allocation
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
    not known; `is_free` says that nobody has a reference to the page, `is_slab` that it belongs to the slab allocator.
    """

    page: int
    offset: int
    size: int
    room: int | None = None
    is_free: bool = False
    is_slab: bool = False


@record
class FragList:
    """The chain behind skb_shared_info.frag_list: `skbs` in order and the sum of their `len` (bytes).

    `hole` is what cannot be read, `cycle` the first skb that comes again, `foreign` the first that is no allocated
    sk_buff and what it is instead; all None when the chain is as it should be.
    """

    skbs: tuple[int, ...]
    len: int
    hole: Unreadable | None = None
    cycle: int | None = None
    foreign: tuple[int, str] | None = None

    @property
    def is_whole(self) -> bool:
        return self.hole is None and self.cycle is None and self.foreign is None


@record
class SharedInfo:
    """A struct skb_shared_info; `frags` has its first `nr_frags` fragments, but never more than `max_frags`.

    `known_gso_types` are the bits of gso_type that this kernel defines, 0 when its debug information does not say, and
    `known_flags` those of flags, which older kernels do not have; `gso_protocols` those of which only one can be set;
    `is_zerocopy` that destructor_arg is a struct ubuf_info *; `written` how many bytes from its start are
    sure to have been written since it was allocated: behind them any may be left from before (net/core/skbuff.c:
    __alloc_skb); None where that is not known.
    """

    addr: int
    nr_frags: int
    dataref: int
    frag_list: int
    gso_size: int
    gso_segs: int
    gso_type: int
    tx_flags: int
    destructor_arg: int
    is_zerocopy: bool
    max_frags: int
    known_gso_types: int
    frags: tuple[Frag, ...]
    chain: FragList
    flags: int = 0
    known_flags: int = 0
    gso_protocols: int = 0
    written: int | None = None


@record
class References:
    """What an sk_buff refers to besides its buffer and socket, as its members say; 0 where this kernel has none.

    `fclone` and `head_frag` say how it and its buffer are to be freed, None where this kernel has no such member;
    `is_destroyed_by_function` that the destructor is a function, as far as that is its place; `sk_may_be_offset` that a
    fragment of an IP packet may have its offset for sk; `checksum_at` is the offset behind the checksum that a device
    is to fill in, None where there is none; `inner_headers` are like Skb.headers, those that are 0 left out.
    `dev` is a struct net_device * or, where the kernel can (`has_scratch`), UDP's notes; `dst` and `nfct` are pointers
    with flags in their lowest bits; `extensions` is a struct skb_ext *, which `active_extensions` give a meaning, of
    which `known_extensions` (bits) exist.  The places are those of what `dst`, `nfct` and `extensions` point to.
    """

    dev: int = 0
    dst: int = 0
    nfct: int = 0
    extensions: int = 0
    active_extensions: int = 0
    known_extensions: int = 0
    has_scratch: bool = False
    dst_place: Allocation = Allocation("unknown")
    nfct_place: Allocation = Allocation("unknown")
    extensions_place: Allocation = Allocation("unknown")
    fclone: int | None = None
    head_frag: int | None = None
    is_destroyed_by_function: bool = True
    sk_may_be_offset: bool = True
    checksum_at: int | None = None
    inner_headers: tuple[tuple[str, int], ...] = ()


def on_a_queue() -> Held:
    """What is assumed where nobody has looked."""
    return Held.QUEUE


@record
class Skb:
    """A struct sk_buff; `tail` and `end` are addresses, whatever the kernel stores.

    `shinfo` is None where it cannot be read: `hole` says why.  The headers are offsets from `head` in bytes, None when
    not set.  `size` is sizeof(struct sk_buff), `shinfo_size` that of its shared info.  `place` and `head_place` are
    the memory that the sk_buff and its buffer stand in; `buffer` reads the bytes from head on through the shared info,
    as far as they can be read, and `held` tells where the sk_buff is held: both are costly, and seldom asked for.
    `sk_place` is the memory of its socket, where it has one and a destructor.
    `references` are read only with the places.
    `unset_header` is the offset that says not set; `is_tcp` says that it is a TCP segment, which is only looked for
    where there are gso_size or gso_segs; `is_fragment` that it is a fragment of an IP packet, which is only looked for
    where truesize is strange.
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
    headers: tuple[tuple[str, int | None], ...]
    size: int
    shinfo_size: int
    shinfo: SharedInfo | None
    hole: Unreadable | None
    place: Allocation = Allocation("unknown")
    head_place: Allocation = Allocation("unknown")
    buffer: Callable[[], bytes] = bytes
    held: Callable[[], Held] = on_a_queue
    destructor: int = 0
    sk_place: Allocation = Allocation("unknown")
    unset_header: int = 0xFFFF
    is_tcp: bool = False
    is_fragment: bool = False
    references: References = References()

    def payload_and_shinfo(self) -> tuple[bytes, bytes]:
        """The bytes of the buffer up to end, and those of the shared info, as far as they could be read."""
        buffer, size = self.buffer(), self.end - self.head
        return (buffer[:size], buffer[size:]) if 0 <= size <= len(buffer) else (buffer, b"")
