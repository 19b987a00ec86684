"""Invariants of what an sk_buff refers to besides its buffer: device, route, connection and extensions."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.records.allocation import Allocation
from gdb_kdump.records.skb import Held, References, Skb
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.text import hex16, is_kernel_address

_DST_FLAGS, _NFCT_FLAGS = 3, 7  # include/linux/skbuff.h: SKB_DST_NOREF, BPF's of _sk_redir; NFCT_INFOMASK
_NOREF = 1
_LARGEST_OFFSET = 0xFFFF  # bytes, of a fragment in an IP packet, in sk's place
_BLACK = 1  # include/linux/rbtree_augmented.h
_SCRATCH_FLAGS = (0, 1, 0x100, 0x101)  # net/ipv4/udp.c: struct udp_dev_scratch: is_linear and csum_unnecessary


def references(skb: Skb) -> Iterator[Finding]:
    """What it points to is there, as whoever frees or handles it will follow it.

    Mirrors net/core/skbuff.c: skb_release_head_state, include/linux/skbuff.h: skb_dst, skb_nfct, skb_ext_put.  Traps:
    flags stand in the pointers' lowest bits; extensions mean nothing while no active_extensions are set; on a queue,
    UDP keeps notes in the device's place (dev_scratch), trees a part of their node, which may be a colour alone, and
    TCP a list in the route's (tcp_tsorted_anchor); a device, and a route without a reference, may be gone.  What wrote
    over the socket behind the device, too, is told by
    skb.sk, and what wrote over a tree's node by the queue's rules.
    """
    held, memory = skb.references, skb.memory
    if not (held.dev <= _BLACK or is_kernel_address(held.dev)) and not _has_notes(skb):
        yield _wild(skb, "dev", "NULL or a struct net_device *", held.dev)
    dst, nfct = held.dst & ~_DST_FLAGS, held.nfct & ~_NFCT_FLAGS
    if dst and (not is_kernel_address(dst) or dst % 8):
        yield _wild(skb, "_skb_refdst", "NULL or a struct dst_entry *", held.dst)
    elif _is_freed(memory.dst) and not held.dst & _NOREF:
        yield _freed(skb, "_skb_refdst", held.dst, memory.dst)
    if nfct and not is_kernel_address(nfct):
        yield _wild(skb, "_nfct", "NULL or a struct nf_conn *", held.nfct)
    elif _is_freed(memory.nfct):
        yield _freed(skb, "_nfct", held.nfct, memory.nfct)
    if held.active_extensions:
        yield from _extensions(skb, held)


def _has_notes(skb: Skb) -> bool:
    """Whether something else may stand in the device's place, or what wrote over it is told by another rule."""
    if skb.facts.has_scratch and _is_scratch(skb, skb.references.dev):
        return True
    sk = skb.members.sk
    return (sk > _LARGEST_OFFSET and not is_kernel_address(sk)) or skb.held() is Held.TREE


def _extensions(skb: Skb, held: References) -> Iterator[Finding]:
    unknown = held.active_extensions & ~skb.facts.known_extensions if skb.facts.known_extensions else 0
    if unknown:
        message, found = f"bits {unknown:#x} mean nothing to this kernel", f"{held.active_extensions:#x}"
        yield Finding("skb.refs", skb.addr, "active_extensions", CORRUPT, "known SKB_EXT_* bits", found, message)
    elif held.active_extensions and not is_kernel_address(held.extensions):
        yield _wild(skb, "extensions", "a struct skb_ext *, as there are active_extensions", held.extensions)
    elif held.active_extensions and _is_freed(skb.memory.extensions):
        yield _freed(skb, "extensions", held.extensions, skb.memory.extensions)
    elif held.active_extensions and skb.memory.extensions.kind == "slab" and (
        held.extensions != skb.memory.extensions.start
    ):  # fmt: skip
        yield _wild(skb, "extensions", hex16(skb.memory.extensions.start), held.extensions)


def _is_scratch(skb: Skb, value: int) -> bool:
    """net/ipv4/udp.c: udp_set_dev_scratch; v4.10 noted the truesize alone."""
    truesize, length, flags = value & 0x7FFFFFFF, value >> 32 & 0xFFFF, value >> 48
    return flags in _SCRATCH_FLAGS and (truesize == skb.members.truesize or length == skb.members.len & 0xFFFF)


def udp_truesize(skb: Skb) -> int | None:
    """The truesize (bytes) in UDP's notes; None where there are none for certain, which have the sk_buff's len, too."""
    value = skb.references.dev
    is_noted = (
        skb.facts.has_scratch and value >> 48 in _SCRATCH_FLAGS and value >> 32 & 0xFFFF == skb.members.len & 0xFFFF
    )
    return value & 0x7FFFFFFF if is_noted and value >> 32 else None


def _is_freed(place: Allocation) -> bool:
    return place.kind == "free" or (place.kind == "slab" and place.state == "free")


def _wild(skb: Skb, member: str, expected: str, found: int) -> Finding:
    return Finding("skb.refs", skb.addr, member, CORRUPT, expected, hex16(found), f"{member} leads nowhere")


def _freed(skb: Skb, member: str, found: int, place: Allocation) -> Finding:
    where = f"a free object of {place.cache}" if place.cache else "a page that belongs to nobody"
    return Finding(
        "skb.refs", skb.addr, member, CORRUPT, "what is allocated", hex16(found), f"{member} leads to {where}"
    )


RULES = (references,)
