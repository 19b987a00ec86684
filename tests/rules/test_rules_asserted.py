"""What the kernel asserts when it hands packets on: a record that comes close yields nothing, a wrong one that rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_rules_skb import FACTS, HEALTHY, NODES, QUEUE, SHINFO, SKB, changed, with_shinfo

from gdb_kdump.records.allocation import Allocation
from gdb_kdump.records.queue import LostQueue
from gdb_kdump.records.skb import Frag, FragList, Held, Skb
from gdb_kdump.rules import judge_skb
from gdb_kdump.rules.findings import CORRUPT, SUSPECT
from gdb_kdump.rules.queue import lost

LINEAR = 164  # bytes from head to tail
IP, IPV6 = 0x0800, 0x86DD
TCPV4, TCPV6, TUNNEL, WHOLE = 1 << 0, 1 << 4, 1 << 10, 1 << 18
KNOWN = replace(
    FACTS,
    gso_protocols=TCPV4 | TCPV6,
    gso_of_families=((IP, TCPV6), (IPV6, TCPV4)),
    gso_tunnels=TUNNEL,
    gso_whole=WHOLE,
)
PAIR = FragList((NODES[0],), 1000, longest_linear=700)
INNER = (("inner_network_header", 114),)


def cut(gso_type: int, gso_size: int = 700, **more: object) -> Skb:
    """An sk_buff that is to be cut into segments."""
    return changed(replace(with_shinfo(gso_type=gso_type, gso_size=gso_size), facts=KNOWN), **more)


def with_list(gso_type: int, gso_size: int) -> Skb:
    """The same with an sk_buff in its frag_list, of 700 linear bytes."""
    shinfo = replace(SHINFO, gso_type=gso_type, gso_size=gso_size, frag_list=NODES[0], chain=PAIR)
    return replace(changed(HEALTHY, len=2500, data_len=2400, shinfo=shinfo), facts=KNOWN)


HEALTHY_SKBS = {
    "a checksum at the end of what is linear": changed(HEALTHY, checksum_at=LINEAR),
    "TCP over IPv4": cut(TCPV4, protocol=IP),
    "TCP over IPv6": cut(TCPV6, protocol=IPV6),
    "neither, as TCP's own queues have it": cut(TCPV6, protocol=0),
    "IPv6 within IPv4": cut(TUNNEL | TCPV6, protocol=IP, is_encapsulated=True, inner_headers=INNER),
    "without a bit of the tunnel, but with inner headers": cut(TCPV6, protocol=IP, inner_headers=INNER),
    "a tunnel that has no inner headers yet": cut(TUNNEL | TCPV4, protocol=IP),
    "a segment in frag_list": with_list(TCPV4, 700),
    "a whole packet in frag_list": with_list(TCPV4 | WHOLE, 600),
    "segments as long as they are": with_list(TCPV4, 0xFFFF),
    "peeked at": changed(HEALTHY, users=3),
    "alone with it": changed(HEALTHY, users=1, alone=lambda: "pskb_expand_head"),
}
# The record, the rule, the member, and how bad that is.
WRONG = {
    "a checksum behind it": (changed(HEALTHY, checksum_at=LINEAR + 1), "skb.headers", "csum_start", CORRUPT),
    "IPv6 for IPv4": (cut(TCPV6, protocol=IP, is_encapsulated=False), "shinfo.gso", "gso_type", CORRUPT),
    "IPv4 for IPv6": (cut(TCPV4, protocol=IPV6, inner_headers=()), "shinfo.gso", "gso_type", CORRUPT),
    "no tunnel": (cut(TUNNEL | TCPV4, is_encapsulated=False), "shinfo.gso", "encapsulation", CORRUPT),
    "nothing within the tunnel": (
        cut(TUNNEL | TCPV4, inner_headers=(("inner_network_header", 64),)),
        "shinfo.gso",
        "inner_network_header",
        SUSPECT,
    ),
    "more than a segment in frag_list": (with_list(TCPV4, 680), "shinfo.gso", "gso_size", SUSPECT),
    "shared, and in a tree": (changed(HEALTHY, users=2, held=lambda: Held.TREE), "skb.users", "users", CORRUPT),
    "shared, and about to be changed": (
        changed(HEALTHY, users=2, alone=lambda: "pskb_expand_head"),
        "skb.users",
        "users",
        CORRUPT,
    ),
}


@pytest.mark.parametrize("name", HEALTHY_SKBS)
def test_what_comes_close(name: str) -> None:
    assert judge_skb(HEALTHY_SKBS[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_the_kernel_would_assert(name: str) -> None:
    record, *expected = WRONG[name]
    assert [[f.rule, f.member, f.severity] for f in judge_skb(record)] == [expected]


def test_of_what_is_no_gso_type_only_that_is_told() -> None:
    garbage = cut(TUNNEL | 1 << 25, is_encapsulated=False)
    assert [(f.rule, f.member) for f in judge_skb(garbage)] == [("shinfo.gso", "gso_type")]


FREED = changed(HEALTHY, place=Allocation("slab", SKB, 232, "free", "skbuff_head_cache", True), len=0x4141)


def test_the_free_pointer_is_no_damage() -> None:
    """What the allocator has written into a freed sk_buff is a consequence; the rest of its members is not."""
    assert [f.rule for f in judge_skb(FREED)] == ["skb.freed", "skb.len"]
    assert [f.rule for f in judge_skb(replace(FREED, overwritten=frozenset({"data_len", "mac_len"})))] == ["skb.freed"]
    assert [f.rule for f in judge_skb(replace(FREED, overwritten=frozenset({"sk"})))] == ["skb.freed", "skb.len"]


def test_fragments_that_were_just_released_are_not_guilty() -> None:
    pieces = (Frag(NODES[0], 0, 700, room=4096, is_free=True), Frag(0, 0, 700, room=0))
    skb = changed(HEALTHY, shinfo=replace(SHINFO, nr_frags=2, frags=pieces))
    assert [f.member for f in judge_skb(skb)] == ["frags[0]", "frags[1]"]
    assert [f.member for f in judge_skb(replace(skb, released=lambda: 1))] == ["frags[1]"]


def test_a_queue_in_nobodys_memory() -> None:
    found = LostQueue(QUEUE, NODES, "a free object of UDP", is_free=True, leads_back=True)
    (free,), (reused,) = lost(found), lost(replace(found, is_free=False, leads_back=False, place="a file"))
    assert (free.rule, free.object, free.member, free.severity) == ("queue.head", NODES[0], "prev", CORRUPT)
    assert "a free object of UDP" in free.message and "a file" in reused.message
    assert list(lost(replace(found, is_free=False))) == []
