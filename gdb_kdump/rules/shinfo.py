"""Invariants of struct skb_shared_info."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Why
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.rules.records import Skb
from gdb_kdump.text import hex16, is_kernel_address

_DATAREF_SHIFT = 16  # include/linux/skbuff.h: SKB_DATAREF_SHIFT


def nr_frags(skb: Skb) -> Iterator[Finding]:
    """nr_frags <= MAX_SKB_FRAGS.

    Mirrors the loops of net/core/skbuff.c: skb_release_data over frags[].  Trap: MAX_SKB_FRAGS is a build option, so
    it is the length of frags[] in the types.
    """
    shinfo = skb.shinfo
    if shinfo is not None and shinfo.nr_frags > shinfo.max_frags:
        expected = f"at most {shinfo.max_frags} (MAX_SKB_FRAGS)"
        message = f"{shinfo.nr_frags} fragments do not fit in frags[{shinfo.max_frags}]"
        yield Finding("shinfo.nr_frags", skb.addr, "nr_frags", CORRUPT, expected, str(shinfo.nr_frags), message)


def frag_list(skb: Skb) -> Iterator[Finding]:
    """frag_list is NULL or the first of a chain of sk_buffs that ends in NULL.

    Mirrors include/linux/skbuff.h: skb_walk_frags.  Trap: an skb that makedumpfile left out is no wild one.
    """
    shinfo = skb.shinfo
    if shinfo is None or not shinfo.frag_list:
        return
    found, expected = hex16(shinfo.frag_list), "NULL or a struct sk_buff *"
    message = ""
    if not is_kernel_address(shinfo.frag_list) or shinfo.frag_list % 8:
        message = "frag_list is no kernel pointer"
    elif shinfo.chain.cycle is not None:
        message = f"the chain comes back to {hex16(shinfo.chain.cycle)} after {len(shinfo.chain.skbs)} sk_buffs"
    elif shinfo.chain.hole is not None and shinfo.chain.hole.why is Why.UNMAPPED:
        message = f"the chain leads to {hex16(shinfo.chain.hole.addr)}, which is no memory of this kernel"
    if message:
        yield Finding("shinfo.frag_list", skb.addr, "frag_list", CORRUPT, expected, found, message)


def dataref(skb: Skb) -> Iterator[Finding]:
    """The low half of dataref counts users of the buffer, the high half those of the payload only.

    Mirrors include/linux/skbuff.h: skb_cloned, skb_header_cloned, __skb_header_release: there is at least one user,
    there are no more payload users than users, and a buffer that was never cloned has one.  Trap: `cloned` stays set
    when the last clone has gone.
    """
    shinfo = skb.shinfo
    if shinfo is None:
        return
    users = shinfo.dataref & (1 << _DATAREF_SHIFT) - 1
    payload_users = shinfo.dataref >> _DATAREF_SHIFT & (1 << _DATAREF_SHIFT) - 1
    found = f"{users} users, {payload_users} of the payload only ({shinfo.dataref & 0xFFFFFFFF:#x})"
    message, expected = "", "at least 1 user, at most as many of the payload"
    if users == 0:
        message = "the buffer has no user, yet this sk_buff holds it"
    elif payload_users > users:
        message = "more users of the payload than users at all"
    elif not skb.cloned and users != 1:
        message, expected = "the buffer is shared, but the sk_buff was never cloned", "1 user (cloned is 0)"
    if message:
        yield Finding("shinfo.dataref", skb.addr, "dataref", CORRUPT, expected, found, message)


RULES = (nr_frags, frag_list, dataref)
