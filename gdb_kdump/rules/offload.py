"""What checksumming and segmentation assert of an sk_buff that is handed on; net/core/dev.c, gso.c, skbuff.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.records.skb import GSO_BY_FRAGS, SharedInfo, Skb
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding


def checksum(skb: Skb) -> Iterator[Finding]:
    """The checksum that a device is to fill in lies in the linear part.

    Mirrors net/core/dev.c: skb_checksum_help, include/linux/skbuff.h: skb_partial_csum_set, pskb_trim_rcsum.  Traps:
    what was received over a loopback device has been pulled past it; rules/skb.py: headers tells what is behind end.
    """
    at, room, linear = skb.references.checksum_at, skb.end - skb.members.head, skb.tail - skb.members.head
    if at is not None and linear < at <= room:
        message = (
            f"the checksum that a device is to fill in ends {at - linear} bytes behind the linear part, where "
            "skb_checksum_help asserts that it lies within"
        )
        yield Finding("skb.headers", skb.addr, "csum_start", CORRUPT, f"at most {linear}", str(at), message)


def segments(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """No sk_buff of frag_list has more linear bytes than a segment.

    Mirrors the BUG_ONs of net/core/skbuff.c: skb_segment.  Traps: with GSO_BY_FRAGS and SKB_GSO_FRAGLIST each sk_buff
    of frag_list is a segment, be it as long as it is; without gso_type nothing will be cut.
    """
    longest = shinfo.chain.longest_linear
    if shinfo.gso_size in (0, GSO_BY_FRAGS) or longest <= shinfo.gso_size:
        return
    if not shinfo.gso_type & skb.facts.gso_whole:
        message = (
            f"an sk_buff of frag_list has {longest} linear bytes; skb_segment asserts that none has more than gso_size"
        )
        yield Finding("shinfo.gso", skb.addr, "gso_size", SUSPECT, f"at least {longest}", str(shinfo.gso_size), message)


def family(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """Segments of TCP over IPv4 are those of an IPv4 packet, and those over IPv6 of an IPv6 one.

    Mirrors net/ipv4/tcp_offload.c: tcp4_gso_segment, net/ipv6/tcpv6_offload.c: tcp6_gso_segment, to which protocol
    leads (net/core/gso.c: skb_mac_gso_segment).  Trap: in a tunnel it is the inner packet that is cut.
    """
    if shinfo.gso_type & skb.facts.gso_tunnels:
        return
    for protocol, other in skb.facts.gso_of_families:
        if skb.references.protocol == protocol and shinfo.gso_type & other and not _is_in_tunnel(skb):
            message = "the packet is of one family, and is to be cut as one of the other"
            found, expected = f"gso_type {shinfo.gso_type:#x}", f"no {other:#x}, as protocol is {protocol:#06x}"
            yield Finding("shinfo.gso", skb.addr, "gso_type", CORRUPT, expected, found, message)


def _is_in_tunnel(skb: Skb) -> bool:
    return skb.references.is_encapsulated and bool(skb.references.inner_headers)


def tunnel(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """What is to be cut within a tunnel says so, and has inner headers that are not the outer ones.

    Mirrors net/ipv4/ip_tunnel_core.c: iptunnel_handle_offloads, iptunnel_pull_offloads, net/ipv4/udp_offload.c:
    __skb_udp_tunnel_segment, which goes by the distance between them.  Trap: a tunnel's device has set the inner
    headers before it pushes the outer ones; on a queue of sk_buffs both are done.
    """
    if not shinfo.gso_type & skb.facts.gso_tunnels:
        return
    if not skb.references.is_encapsulated:
        message = f"gso_type {shinfo.gso_type:#x} is that of a packet in a tunnel, but nothing is encapsulated"
        yield Finding("shinfo.gso", skb.addr, "encapsulation", CORRUPT, "1", "0", message)
        return
    outer, inner = dict(skb.headers).get("network_header"), dict(skb.references.inner_headers)
    if outer is not None and inner.get("inner_network_header") == outer:
        message = "the inner network header is the outer one: there is nothing to be cut within it"
        yield Finding(
            "shinfo.gso", skb.addr, "inner_network_header", SUSPECT, f"more than {outer}", str(outer), message
        )


def segmentation(skb: Skb, shinfo: SharedInfo) -> Iterator[Finding]:
    """What is asserted of packets that are to be cut: see segments, family and tunnel; most are not.

    Trap: what is no gso_type at all says nothing of the packet; rules/shinfo.py: gso tells that.
    """
    kind, facts = shinfo.gso_type, skb.facts
    protocols = kind & facts.gso_protocols
    if kind and not (protocols & (protocols - 1) or (facts.known_gso_types and kind & ~facts.known_gso_types)):
        yield from segments(skb, shinfo)
        yield from family(skb, shinfo)
        yield from tunnel(skb, shinfo)


RULES = (checksum,)
OF_SHINFO = (segmentation,)
