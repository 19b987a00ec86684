"""Invariants of struct skb_shared_info, of an sk_buff of which it can be read."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Why
from gdb_kdump.records.skb import DATAREF_SHIFT, GSO_BY_FRAGS, Held, SharedInfo, Skb
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.text import hex16, is_kernel_address

_MANY_ACKS = 1000  # that TCP's backlog put together
_LARGEST_TCP = 4 << 20  # bytes; GSO_MAX_SIZE is 512 KiB
_SKBTX_HW_TSTAMP, _SKBTX_IN_PROGRESS = 1, 4  # include/linux/skbuff.h, the same bits since v2.6.30


def nr_frags(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """nr_frags <= MAX_SKB_FRAGS.

    Mirrors the loops of net/core/skbuff.c: skb_release_data over frags[].  Trap: MAX_SKB_FRAGS is a build option, so
    it is the length of frags[] in the types.
    """
    if shinfo.nr_frags > skb.facts.max_frags:
        expected = f"at most {skb.facts.max_frags} (MAX_SKB_FRAGS)"
        message = f"{shinfo.nr_frags} fragments do not fit in frags[{skb.facts.max_frags}]"
        yield Finding("shinfo.nr_frags", skb.addr, "nr_frags", CORRUPT, expected, str(shinfo.nr_frags), message)


def frag_list(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """frag_list is NULL or the first of a chain of sk_buffs that ends in NULL.

    Mirrors include/linux/skbuff.h: skb_walk_frags.  Trap: an skb that makedumpfile left out is no wild one.
    """
    if not shinfo.frag_list:
        return
    found, expected = hex16(shinfo.frag_list), "NULL or a struct sk_buff *"
    message = ""
    if not is_kernel_address(shinfo.frag_list) or shinfo.frag_list % 8:
        message = "frag_list is no kernel pointer"
    elif shinfo.chain.cycle is not None:
        message = f"the chain comes back to {hex16(shinfo.chain.cycle)} after {len(shinfo.chain.skbs)} sk_buffs"
    elif shinfo.chain.foreign is not None:
        message = f"the chain leads to {hex16(shinfo.chain.foreign[0])}, {shinfo.chain.foreign[1]}"
    elif shinfo.chain.hole is not None and shinfo.chain.hole.why is Why.UNMAPPED:
        message = f"the chain leads to {hex16(shinfo.chain.hole.addr)}, which is no memory of this kernel"
    if message:
        yield Finding("shinfo.frag_list", skb.addr, "frag_list", CORRUPT, expected, found, message)


# More than any path makes: a sound buffer has one such user for each sk_buff that sends it (TCP, GRO).
_MANY_PAYLOAD_USERS, _MANY_USERS = 100, 10_000


def dataref(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """The low half of dataref counts users of the buffer, the high half those of the payload only.

    Mirrors include/linux/skbuff.h: skb_cloned, skb_header_cloned, __skb_header_release: there is at least one user,
    there are no more payload users than users, and a buffer that was never cloned has one.  Trap: `cloned` stays set
    when the last clone has gone.
    """
    users = shinfo.dataref & (1 << DATAREF_SHIFT) - 1
    payload_users = shinfo.dataref >> DATAREF_SHIFT & (1 << DATAREF_SHIFT) - 1
    message, expected, severity = "", "at least 1 user, at most as many of the payload", CORRUPT
    if users == 0:
        message = "the buffer has no user, yet this sk_buff holds it"
    elif payload_users > users:
        message = "more users of the payload than users at all"
    elif not skb.members.cloned and users != 1:
        message, expected = "the buffer is shared, but the sk_buff was never cloned", "1 user (cloned is 0)"
    elif payload_users > _MANY_PAYLOAD_USERS or users > _MANY_USERS:
        message, expected = "more than any code shares a buffer with", "a few users"
        severity = CORRUPT if payload_users > _MANY_PAYLOAD_USERS else SUSPECT
    if message:
        found = f"{users} users, {payload_users} of the payload only ({shinfo.dataref & 0xFFFFFFFF:#x})"
        yield Finding("shinfo.dataref", skb.addr, "dataref", severity, expected, found, message)


def frag(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """Every fragment lies within its page, and nobody else has that.

    Mirrors include/linux/skbuff.h: skb_frag_page, skb_frag_address.  Traps: the page may be compound, or no page at
    all but device memory (its pointer has bit 0 set); with a nonsensical nr_frags there are no fragments to speak of.
    Objects of slabs are not sent (include/linux/net.h: sendpage_ok), but some driver may yet receive into one.  Whoever
    frees an sk_buff (net/core/skbuff.c: skb_release_data) has given back the pages before the one that it is at.
    """
    if shinfo.nr_frags > skb.facts.max_frags:
        return
    for number, piece in enumerate(shinfo.frags):
        member, found = f"frags[{number}]", f"page {hex16(piece.page)}, offset {piece.offset}, size {piece.size}"
        message = ""
        if piece.page & 1:
            if is_kernel_address(piece.page & ~1) and piece.page % 8 == 1:
                continue
            message = "neither a struct page nor memory of a device"
        elif piece.room is None:
            continue
        elif piece.room == 0:
            message = "its page, or the one that it is a part of, is no struct page of this kernel"
        elif piece.is_free and number < skb.released():
            continue
        elif piece.is_free:
            message = "nobody has a reference to its page: it was freed"
        elif piece.wrong:
            message = f"its page is {piece.wrong}"
        elif piece.offset + piece.size > piece.room:
            message = f"it reaches {piece.offset + piece.size - piece.room} bytes behind its page of {piece.room}"
        if message:
            yield Finding("shinfo.frag", skb.addr, member, CORRUPT, "a part of a page", found, message)
        elif piece.is_slab:
            cache = f" ({piece.cache})" if piece.cache else ""
            message = f"its page belongs to the slab allocator{cache}, which does not count references"
            yield Finding("shinfo.frag", skb.addr, member, SUSPECT, "a part of a page", found, message)


def gso(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """gso_size, gso_segs and gso_type describe how this sk_buff is cut into segments.

    Mirrors include/linux/skbuff.h: skb_is_gso, enum SKB_GSO_*, and net/ipv4/tcp_offload.c: tcp_gso_segment.  Traps:
    gso_segs may be 0 where a guest or the device left the counting to us, and gso_size 0xffff where the segments are
    those of frag_list (GSO_BY_FRAGS).  TCP's are as they were when it was last sent, though part of it was acknowledged
    since (tcp_trim_head), or added up over what it coalesced, pure ACKs of no size included (tcp_add_backlog,
    tcp_ooo_try_coalesce, which counts segments where there is no size at all).  GRO has the size of segments, but their
    type only when it has put them together (net/core/gro.c: dev_gro_receive).
    """
    if not (shinfo.gso_size or shinfo.gso_segs or shinfo.gso_type):
        return
    found = f"gso_size {shinfo.gso_size}, gso_segs {shinfo.gso_segs}, gso_type {shinfo.gso_type:#x}"
    yield from _gso_type(skb, shinfo, found)
    has_kind = bool(shinfo.gso_type) or (skb.is_tcp and shinfo.gso_size <= skb.members.len)
    if shinfo.gso_size and not has_kind:
        yield from _gso_size(skb, shinfo, found)
    elif shinfo.gso_segs > 1 and shinfo.gso_size != GSO_BY_FRAGS:
        yield from _gso_segs_of_tcp(skb, shinfo, found) if skb.is_tcp else _gso_segs(skb, shinfo, found)


def _gso_type(skb: Skb, shinfo: SharedInfo, found: str) -> Iterator[Finding]:
    """It has known bits only, and those of one protocol."""
    unknown = shinfo.gso_type & 0xFFFFFFFF & ~skb.facts.known_gso_types if skb.facts.known_gso_types else 0
    if unknown:
        message = f"bits {unknown:#x} of gso_type mean nothing to this kernel"
        yield Finding("shinfo.gso", skb.addr, "gso_type", CORRUPT, "known SKB_GSO_* bits", found, message)
    protocols = shinfo.gso_type & skb.facts.gso_protocols
    if protocols & (protocols - 1):
        message = "segments of several protocols at once"
        yield Finding("shinfo.gso", skb.addr, "gso_type", CORRUPT, "one protocol's SKB_GSO_*", found, message)


def _gso_size(skb: Skb, shinfo: SharedInfo, found: str) -> Iterator[Finding]:
    """A size goes with a kind of segmentation, but for what GRO is still putting together."""
    severity = CORRUPT if shinfo.gso_size > skb.members.len else SUSPECT
    if severity == CORRUPT or skb.held() is not Held.GRO:
        message = "a size of segments, but no kind of segmentation"
        yield Finding("shinfo.gso", skb.addr, "gso_size", severity, "0, or an SKB_GSO_* bit", found, message)


def _gso_segs(skb: Skb, shinfo: SharedInfo, found: str) -> Iterator[Finding]:
    """That many segments of that size come from the bytes that there are."""
    if (shinfo.gso_segs - 1) * shinfo.gso_size > skb.members.len:
        message = f"{shinfo.gso_segs} segments of {shinfo.gso_size} bytes do not come from {skb.members.len} bytes"
        yield Finding("shinfo.gso", skb.addr, "gso_segs", CORRUPT, "segments of len bytes", found, message)
    elif not shinfo.gso_size:
        yield Finding("shinfo.gso", skb.addr, "gso_size", CORRUPT, "more than 0", found, "segments of no size")


def _gso_segs_of_tcp(skb: Skb, shinfo: SharedInfo, found: str) -> Iterator[Finding]:
    """There are no more of them than TCP ever has."""
    if shinfo.gso_segs * shinfo.gso_size > _LARGEST_TCP:
        message, expected = "more bytes than TCP sends or coalesces at once", f"at most {_LARGEST_TCP} bytes"
        yield Finding("shinfo.gso", skb.addr, "gso_segs", SUSPECT, expected, found, message)
    elif shinfo.gso_segs > skb.members.len + _MANY_ACKS:
        message, expected = "more segments than there are bytes", f"at most {skb.members.len} or so"
        yield Finding("shinfo.gso", skb.addr, "gso_segs", SUSPECT, expected, found, message)


def tx_flags(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """flags has known bits only, tx_flags ask for timestamps, and with zerocopy destructor_arg is a struct ubuf_info *.

    Mirrors include/linux/skbuff.h: SKBTX_*, skb_zcopy; bit 0 of a pointer without a ubuf_info is set.  Trap: all
    eight bits have had a meaning in some kernel, so only what no sender asks for together is suspicious: a
    timestamp in progress that nobody requested, or everything at once.
    """
    if shinfo.is_zerocopy and not shinfo.destructor_arg & 1 and not is_kernel_address(shinfo.destructor_arg):
        message, found = "a zerocopy sk_buff whose destructor_arg leads nowhere", hex16(shinfo.destructor_arg)
        yield Finding("shinfo.tx_flags", skb.addr, "destructor_arg", CORRUPT, "a struct ubuf_info *", found, message)
    unknown = shinfo.flags & ~skb.facts.known_flags if skb.facts.known_flags else 0
    if unknown:
        message = f"bits {unknown:#x} of flags mean nothing to this kernel"
        yield Finding(
            "shinfo.tx_flags", skb.addr, "flags", CORRUPT, "known SKBFL_* bits", f"{shinfo.flags:#x}", message
        )
    in_progress_unasked = shinfo.tx_flags & (_SKBTX_HW_TSTAMP | _SKBTX_IN_PROGRESS) == _SKBTX_IN_PROGRESS
    if in_progress_unasked or shinfo.tx_flags == 0xFF:
        message = "no sender asks for these together"
        found = f"{shinfo.tx_flags:#x}"
        yield Finding("shinfo.tx_flags", skb.addr, "tx_flags", SUSPECT, "SKBTX_* bits", found, message)


RULES = (nr_frags, frag_list, dataref, frag, gso, tx_flags)
