"""Invariants of struct sk_buff itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.records.skb import DATAREF_SHIFT, GSO_BY_FRAGS, Held, SharedInfo, Skb
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.rules.references import udp_truesize
from gdb_kdump.text import hex16, is_kernel_address

_FCLONE_UNAVAILABLE, _FCLONE_ORIG = 0, 1  # include/linux/skbuff.h; the clone is the one behind ORIG
_SATURATED = 0x3FFFFFFF
_MANY_USERS = 100_000
_PURE_ACK = 2  # include/net/tcp.h: skb_set_tcp_pure_ack
_LARGEST_PURE_ACK = 512  # bytes: without data, and hardly more than its headers
_LARGEST_OFFSET = 0xFFFF  # bytes, of a fragment in an IP packet
_LOWERED = 1024  # bytes that a buffer's headroom can lose when it is copied
_MAX_FRAGMENTED = 1 << 20  # bytes: an IP packet's 64 KiB, in pages of which little is used
_LARGEST_TRUESIZE = 4 << 20  # 17 fragments of 64 KiB and their heads, several times over


def order(skb: Skb) -> Iterator[Finding]:
    """head <= data <= tail <= end.

    Mirrors include/linux/skbuff.h: skb_headroom, skb_tailroom, and the checks of net/core/skbuff.c: skb_put, skb_push
    (skb_over_panic, skb_under_panic).  Trap: a wild head puts every other pointer out of order: head.buffer says so.
    """
    members = skb.members
    if members.head <= members.data <= skb.tail <= skb.end or not is_kernel_address(members.head):
        return
    pointers = (("head", members.head), ("data", members.data), ("tail", skb.tail), ("end", skb.end))
    found = ", ".join(f"{name} {hex16(value)}" for name, value in pointers)
    for (low, low_value), (high, high_value) in zip(pointers, pointers[1:]):
        if low_value > high_value:
            message = f"{low} stands behind {high} by {low_value - high_value} bytes"
            yield Finding("skb.order", skb.addr, high, CORRUPT, "head <= data <= tail <= end", found, message)


def length(skb: Skb) -> Iterator[Finding]:
    """len = (tail - data) + data_len, and data_len = the sum of the fragments.

    Mirrors include/linux/skbuff.h: skb_headlen, skb_tail_pointer, and net/core/skbuff.c: skb_copy_bits, which walks
    exactly this sum.  Traps: the fragments count only when nr_frags and the frag_list are sound themselves, else one
    damage would be told twice.  SCTP takes chunk after chunk off the sk_buffs that GSO joined (net/sctp/inqueue.c:
    sctp_inq_pop).  One that is half made has fragments that are not counted yet: net/core/sock.c: sock_alloc_send_pskb
    leaves len and data_len to its caller.
    """
    members = skb.members
    if members.data_len > members.len:
        message = f"data_len exceeds len by {members.data_len - members.len} bytes"
        yield Finding(
            "skb.len",
            skb.addr,
            "data_len",
            CORRUPT,
            f"at most len ({members.len})",
            str(members.data_len),
            message,
        )
        return
    linear = skb.tail - members.data
    if linear >= 0 and members.len - members.data_len != linear:
        message = f"len - data_len is {members.len - members.data_len} bytes, but tail - data is {linear}"
        yield Finding(
            "skb.len",
            skb.addr,
            "len",
            CORRUPT,
            str(linear + members.data_len),
            str(members.len),
            message,
        )
    shinfo = skb.shinfo
    if isinstance(shinfo, Unreadable) or shinfo.nr_frags > skb.facts.max_frags or not shinfo.chain.is_whole:
        return
    fragments = sum(frag.size for frag in shinfo.frags) + shinfo.chain.len
    if shinfo.gso_size == GSO_BY_FRAGS and fragments < members.data_len:
        return
    if fragments != members.data_len and (members.data_len or skb.held() is not Held.NOWHERE):
        message = f"data_len is {members.data_len} bytes, but frags and frag_list hold {fragments}"
        yield Finding("skb.len", skb.addr, "data_len", CORRUPT, str(fragments), str(members.data_len), message)


def address(skb: Skb) -> Iterator[Finding]:
    """An sk_buff is an object of one of the skb caches, or the second one of an fclone pair.

    Mirrors net/core/skbuff.c: __alloc_skb, kfree_skbmem, which goes by `fclone`.  Trap: what holds it is known only
    where the slab pages are in the dump.
    """
    place = skb.memory.skb
    found = message = ""
    if skb.addr % 8 or not is_kernel_address(skb.addr):
        found, message = hex16(skb.addr), "this is no kernel pointer"
    elif place.kind == "free":
        found, message = "a free page", "the page that it stands in belongs to nobody"
    elif place.kind == "slab" and not place.is_skb:
        found, message = f"an object of {place.cache}", "this memory belongs to something else"
    elif place.kind == "slab" and skb.addr - place.start not in (0, skb.facts.size):
        found, message = hex16(place.start), f"it points {skb.addr - place.start} bytes into an object"
    if message:
        yield Finding("skb.address", skb.addr, "", CORRUPT, "an object of an skb cache", found, message)
    elif place.kind == "slab" and place.state != "free":
        yield from _fclone(skb)


def _fclone(skb: Skb) -> Iterator[Finding]:
    """Whether fclone leads kfree_skbmem to the cache that the sk_buff came from."""
    place, fclone = skb.memory.skb, skb.references.fclone
    right = _FCLONE_UNAVAILABLE if place.size < 2 * skb.facts.size else _FCLONE_ORIG + (skb.addr != place.start)
    if fclone is not None and fclone != right:
        message = f"who frees it would not give it back to {place.cache}"
        yield Finding("skb.address", skb.addr, "fclone", CORRUPT, str(right), str(fclone), message)


def freed(skb: Skb) -> Iterator[Finding]:
    """An sk_buff that something still holds is not on its cache's free list; net/core/skbuff.c: kfree_skbmem."""
    if skb.memory.skb.kind == "slab" and skb.memory.skb.state == "free":
        message = f"the object is on the free list of {skb.memory.skb.cache}: it was freed while in use"
        yield Finding("skb.freed", skb.addr, "", CORRUPT, "an allocated object", "a free object", message)


def users(skb: Skb) -> Iterator[Finding]:
    """There is a user, and not a saturated count of them.

    Mirrors include/linux/refcount.h: REFCOUNT_SATURATED, and net/core/skbuff.c: kfree_skb, which frees at 0.
    Traps: an sk_buff on its way through kfree_skb has none; it is on no queue any more.  Nobody uses what waits to be
    freed (net/core/dev.c: dev_kfree_skb_irq_reason).  Those on lists may be peeked at, or tapped by several.
    """
    members = skb.members
    if members.users == 0 and skb.held() is Held.TO_BE_FREED:
        return
    if members.users == 0:
        yield Finding("skb.users", skb.addr, "users", CORRUPT, "at least 1", "0", "nobody holds it, yet it is here")
    elif members.users < 0 or members.users > _SATURATED:
        found = f"{members.users} ({members.users & 0xFFFFFFFF:#x})"
        yield Finding("skb.users", skb.addr, "users", CORRUPT, "at least 1", found, "the reference count overflowed")
    elif members.users > 1 and (function := skb.alone()):
        message = f"{function}() had it, which asserts that nobody else uses it (BUG_ON(skb_shared(skb)))"
        yield Finding("skb.users", skb.addr, "users", CORRUPT, "1", str(members.users), message)
    elif members.users > 1 and skb.held() is Held.TREE:
        message = f"{members.users} use what TCP keeps in a tree, and asserts to be alone with (pskb_expand_head)"
        yield Finding("skb.users", skb.addr, "users", CORRUPT, "1", str(members.users), message)
    elif members.users > _MANY_USERS:
        message = "more references than any code takes"
        yield Finding("skb.users", skb.addr, "users", SUSPECT, f"at most {_MANY_USERS}", str(members.users), message)


def truesize(skb: Skb) -> Iterator[Finding]:
    """truesize accounts for the sk_buff itself, and not for more memory than an sk_buff can hold.

    Mirrors include/linux/skbuff.h: SKB_TRUESIZE.  Traps: pskb_expand_head does not add a larger head, a clone keeps
    its original's, and coalescing adds whole buffers; so only what no path can make is corrupt.  TCP gives its pure
    ACKs a truesize of 2 (include/net/tcp.h: skb_set_tcp_pure_ack, since v4.0), to which a larger headroom adds.  IPsec
    puts copies into a frag_list without a word to the first sk_buff (skb_cow_data), from whose truesize ip_do_fragment
    then takes more than it has: that of a first fragment may be anything around 0.  UDP keeps a note of it
    (net/ipv4/udp.c: udp_set_dev_scratch).
    """
    members = skb.members
    noted = udp_truesize(skb)
    if noted is not None and noted != members.truesize:
        message, expected = "UDP has noted another one when it queued it", str(noted)
        yield Finding("skb.truesize", skb.addr, "truesize", CORRUPT, expected, str(members.truesize), message)
        return
    limit = _LARGEST_TRUESIZE + 16 * members.len
    chain = skb.shinfo.chain if isinstance(skb.shinfo, SharedInfo) else None
    severity = CORRUPT
    if members.truesize == _PURE_ACK:
        return
    if skb.is_fragment and (members.truesize + _MAX_FRAGMENTED) % (1 << 32) < 2 * _MAX_FRAGMENTED:
        return
    if members.truesize < skb.facts.size:
        if members.truesize % 8 == _PURE_ACK and not members.data_len and members.len <= _LARGEST_PURE_ACK:
            severity = SUSPECT
        message = f"less than the {skb.facts.size} bytes of the sk_buff alone"
        expected = f"at least {skb.facts.size}"
    elif members.truesize > limit and not (chain and chain.skbs):
        message, expected = "more memory than an sk_buff can hold", f"at most about {limit}"
    else:
        return
    yield Finding("skb.truesize", skb.addr, "truesize", severity, expected, str(members.truesize), message)


def headers(skb: Skb) -> Iterator[Finding]:
    """The header offsets that are set point into the buffer.

    Mirrors include/linux/skbuff.h: skb_mac_header_was_set, skb_network_header, skb_transport_header.  Traps: the
    order of the three is no invariant: a tunnel's are reused.  A header that was never set moves with the others when
    the headroom changes (net/core/skbuff.c: skb_headers_offset_update), so it can stand a little below all ones, and
    an inner one, which is 0 then, below 0.  csum_start means this only while a device is to fill the checksum in.
    """
    room = skb.end - skb.members.head
    if room < 0:
        return  # skb.order has said so
    lowered = skb.facts.unset_header - _LOWERED
    for name, offset in skb.headers:
        if offset is not None and offset > room:
            yield _outside(skb, name, offset, room, SUSPECT if offset >= lowered else CORRUPT)
    for name, offset in skb.references.inner_headers:
        if room < offset < lowered:
            yield _outside(skb, name, offset, room, CORRUPT)
    checksum_at = skb.references.checksum_at
    if checksum_at is not None and checksum_at > room:
        message = f"the checksum that a device is to fill in lies {checksum_at - room} bytes behind the buffer"
        yield Finding("skb.headers", skb.addr, "csum_start", CORRUPT, f"at most {room}", str(checksum_at), message)


def _outside(skb: Skb, name: str, offset: int, room: int, severity: str) -> Finding:
    message = f"{name} points {offset - room} bytes behind the buffer"
    return Finding("skb.headers", skb.addr, name, severity, f"at most {room}", str(offset), message)


def buffer(skb: Skb) -> Iterator[Finding]:
    """head is memory that somebody has allocated, and the shared info fits in it.

    Mirrors net/core/skbuff.c: kmalloc_reserve, skb_free_head.  Traps: a buffer that makedumpfile left out is no wild
    one; a head of a page fragment is no slab object, and head_frag says so, but large ones of kmalloc() are none
    either; KFENCE objects do not start where their slab would have them.
    """
    members = skb.members
    place = skb.memory.head
    needed = skb.end - members.head + skb.facts.shinfo_size
    message = ""
    if not is_kernel_address(members.head):
        message = "head is no kernel pointer"
    elif isinstance(skb.shinfo, Unreadable) and skb.shinfo.why is Why.UNMAPPED:
        message = f"the shared info at {hex16(skb.shinfo.addr)} is no memory of this kernel"
    elif place.kind == "free":
        message = "the page of the buffer belongs to nobody: it was freed"
    elif place.kind == "slab" and place.state == "free":
        message = f"the buffer is on the free list of {place.cache}: it was freed"
    elif place.kind == "slab" and place.start != members.head:
        message = f"head points {members.head - place.start} bytes into an object of {place.cache}"
    elif place.kind == "slab" and needed > place.size:
        message = f"the buffer and its shared info take {needed} bytes, the object of {place.cache} has {place.size}"
    if message:
        yield Finding("head.buffer", skb.addr, "head", CORRUPT, "an allocated buffer", hex16(members.head), message)
    elif skb.references.head_frag and place.kind == "slab":
        message = f"the buffer is an object of {place.cache}, but would be freed as a page's fragment"
        yield Finding("head.buffer", skb.addr, "head_frag", CORRUPT, "0", str(skb.references.head_frag), message)
    elif skb.references.head_frag == 0 and place.kind == "page" and place.offset_in_page:
        message = "the buffer is a fragment of a page, but would be freed as one of kmalloc()"
        yield Finding("head.buffer", skb.addr, "head_frag", CORRUPT, "1", "0", message)


def owner(skb: Skb) -> Iterator[Finding]:
    """sk is NULL or a socket, and one that is not freed before its sk_buff.

    Mirrors include/net/sock.h: skb_set_owner_w, skb_set_owner_r: the destructor gives back what the socket holds.
    Traps: fragments of IP packets may have their offset there (ip_defrag_offset), and without a destructor nothing
    keeps the socket.  Without a socket, the destructor's place may be another member's (tcp_tsorted_anchor).
    """
    sk, place, expected = skb.members.sk, skb.memory.sk, "NULL or a struct sock *"
    may_be_offset = skb.facts.sk_may_be_offset and sk <= _LARGEST_OFFSET
    if sk and not may_be_offset and (not is_kernel_address(sk) or sk % 8):
        yield Finding("skb.sk", skb.addr, "sk", CORRUPT, expected, hex16(sk), "sk is no kernel pointer")
    elif place.kind == "free" or place.state == "free":
        where = (
            f"on the free list of {place.cache}: it was freed" if place.cache else "on a page that belongs to nobody"
        )
        yield Finding("skb.sk", skb.addr, "sk", CORRUPT, expected, hex16(sk), f"sk is {where}")
    elif place.kind == "slab" and (place.is_skb or place.start != sk):
        found = f"{hex16(sk)}, {sk - place.start} bytes into an object of {place.cache}"
        yield Finding("skb.sk", skb.addr, "sk", CORRUPT, expected, found, "no socket begins there")
    elif not skb.references.is_destroyed_by_function:
        message, found = "what is to give its memory back to the socket is no function", hex16(skb.members.destructor)
        yield Finding("skb.sk", skb.addr, "destructor", CORRUPT, "NULL or a function", found, message)


def unmapped(addr: int) -> Finding:
    """What was asked for as an sk_buff is no memory of this kernel."""
    message = "there is no memory of this kernel"
    return Finding("skb.address", addr, "", CORRUPT, "a struct sk_buff *", "unmapped", message)


# The members that a rule compares, of which it names one.
_COMPARED = {"skb.len": ("len", "data_len"), "skb.order": ("head", "data", "tail", "end")}


def is_consequence(skb: Skb, finding: Finding) -> bool:
    """Whether a finding about a freed sk_buff is of what the allocator has written there since; mm/slub.c."""
    return not skb.overwritten.isdisjoint((finding.member, *_COMPARED.get(finding.rule, ())))


def doubted(finding: Finding) -> Finding:
    """The same of an sk_buff that stands on no queue, and that nobody has named.

    It is in somebody's hands, or was left half made: the kernel promises little of it.
    """
    return replace(finding, severity=SUSPECT, message=f"{finding.message} (it is on no queue)")


def sharing(skbs: Sequence[Skb]) -> Iterator[Finding]:
    """No more sk_buffs have a buffer than its dataref counts; `skbs` all have the same head, and stand on queues.

    Mirrors net/core/skbuff.c: __skb_clone, skb_release_data.  Traps: one that is being freed still has its head, though
    the reference is gone, and so it counts for nothing; it is on no queue any more.
    """
    counted = [skb.shinfo.dataref & (1 << DATAREF_SHIFT) - 1 for skb in skbs if isinstance(skb.shinfo, SharedInfo)]
    if not counted or len(skbs) <= counted[0]:
        return
    for skb in skbs:
        message = f"{len(skbs)} sk_buffs on queues have this buffer, which counts {counted[0]}: it was given away twice"
        yield Finding("head.buffer", skb.addr, "head", CORRUPT, "a buffer of its own", hex16(skb.members.head), message)


RULES = (address, freed, users, owner, order, length, truesize, headers, buffer)
