"""Invariants of struct sk_buff itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from gdb_kdump.errors import Why
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.rules.records import Skb
from gdb_kdump.text import hex16


def order(skb: Skb) -> Iterator[Finding]:
    """head <= data <= tail <= end, in a buffer that exists.

    Mirrors include/linux/skbuff.h: skb_headroom, skb_tailroom, and the checks of net/core/skbuff.c: skb_put, skb_push
    (skb_over_panic, skb_under_panic).  Trap: a buffer that makedumpfile left out is no wild one.
    """
    pointers = (("head", skb.head), ("data", skb.data), ("tail", skb.tail), ("end", skb.end))
    found = ", ".join(f"{name} {hex16(value)}" for name, value in pointers)
    for (low, low_value), (high, high_value) in pairwise(pointers):
        if low_value > high_value:
            message = f"{low} stands behind {high} by {low_value - high_value} bytes"
            yield Finding("skb.order", skb.addr, high, CORRUPT, "head <= data <= tail <= end", found, message)
    if skb.hole is not None and skb.hole.why is Why.UNMAPPED:
        message = f"the buffer's end at {hex16(skb.hole.addr)} is no memory of this kernel"
        yield Finding("skb.order", skb.addr, "head", CORRUPT, "a mapped buffer", found, message)


def length(skb: Skb) -> Iterator[Finding]:
    """len = (tail - data) + data_len, and data_len = the sum of the fragments.

    Mirrors include/linux/skbuff.h: skb_headlen, skb_tail_pointer, and net/core/skbuff.c: skb_copy_bits, which walks
    exactly this sum.  Traps: the fragments count only when nr_frags and the frag_list are sound themselves, else one
    damage would be told twice.
    """
    if skb.data_len > skb.len:
        message = f"data_len exceeds len by {skb.data_len - skb.len} bytes"
        yield Finding("skb.len", skb.addr, "data_len", CORRUPT, f"at most len ({skb.len})", str(skb.data_len), message)
        return
    linear = skb.tail - skb.data
    if linear >= 0 and skb.len - skb.data_len != linear:
        message = f"len - data_len is {skb.len - skb.data_len} bytes, but tail - data is {linear}"
        yield Finding("skb.len", skb.addr, "len", CORRUPT, str(linear + skb.data_len), str(skb.len), message)
    shinfo = skb.shinfo
    if shinfo is None or shinfo.nr_frags > shinfo.max_frags or not shinfo.chain.is_whole:
        return
    fragments = sum(frag.size for frag in shinfo.frags) + shinfo.chain.len
    if fragments != skb.data_len:
        message = f"data_len is {skb.data_len} bytes, but frags and frag_list hold {fragments}"
        yield Finding("skb.len", skb.addr, "data_len", CORRUPT, str(fragments), str(skb.data_len), message)


RULES = (order, length)
