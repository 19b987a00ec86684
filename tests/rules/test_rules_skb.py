"""Each rule alone: a healthy record yields nothing, a damaged one yields that rule, object and member, and no other."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.records.allocation import Allocation
from gdb_kdump.records.queue import BadLink, Queue
from gdb_kdump.records.skb import Frag, FragList, Held, References, SharedInfo, Skb, SkbFacts, SkbMembers
from gdb_kdump.rules import judge_queue, judge_skb
from gdb_kdump.rules.findings import CLEAN, CORRUPT, SUSPECT, Finding, verdict
from gdb_kdump.rules.skb import sharing

SKB = 0xFFFF888003A41200
HEAD = 0xFFFF888003B00000
END = HEAD + 0x6C0
QUEUE = 0xFFFF888003C00168
NODES = (0xFFFF888003A40000, 0xFFFF888003A40100, 0xFFFF888003A40200)
WILD = 0x4002030400585A08  # the reference case's pointer: no canonical address

DEVICE = 0xFFFF888003D00001  # a tagged pointer: no struct page
EMPTY = FragList((), 0)

# 100 linear bytes and one fragment of 1400, once cloned: what a UDP socket's queue is full of.
SHINFO = SharedInfo(
    addr=END,
    nr_frags=1,
    dataref=1,
    frag_list=0,
    gso_size=0,
    gso_segs=0,
    gso_type=0,
    tx_flags=0,
    destructor_arg=0,
    flags=0,
    is_zerocopy=False,
    frags=(Frag(0xFFFFEA0000001000, 64, 1400),),
    chain=EMPTY,
)
FACTS = SkbFacts(
    size=232,
    shinfo_size=320,
    unset_header=0xFFFF,
    max_frags=17,
    known_gso_types=0x7FFFF,
    known_extensions=0xF,
    has_scratch=True,
)
HEALTHY = Skb(
    addr=SKB,
    members=SkbMembers(
        next=NODES[0],
        prev=NODES[1],
        sk=0xFFFF888003C00000,
        len=1500,
        data_len=1400,
        head=HEAD,
        data=HEAD + 64,
        tail=164,
        end=0x6C0,
        truesize=4352,
        users=1,
        cloned=0,
        nohdr=0,
        destructor=0,
        mac_header=0xFFFF,
        network_header=64,
        transport_header=84,
    ),
    facts=FACTS,
    tail=HEAD + 164,
    end=END,
    headers=(("mac_header", None), ("network_header", 64), ("transport_header", 84)),
    shinfo=SHINFO,
)
LINKED = Queue("write", QUEUE, 3, NODES)


IN_USE = Allocation("slab", NODES[0], 320, "allocated", "somebody's")
FREE = Allocation("slab", NODES[0], 320, "free", "somebody's")


def names(record: type) -> set[str]:
    return {field.name for field in fields(record)}


def changed(skb: Skb, **changes: object) -> Skb:
    """The same sk_buff with other members, facts or memory, by their names; `place` is the memory of the sk_buff."""
    memory = {"place": "skb", "head_place": "head", "sk_place": "sk"}
    memory |= {f"{name}_place": name for name in ("dst", "nfct", "extensions")}
    parts: dict[str, dict[str, object]] = {"members": {}, "facts": {}, "memory": {}, "references": {}, "": {}}
    for name, value in changes.items():
        if name in memory:
            parts["memory"][memory[name]] = value
        elif name in names(Skb):
            parts[""][name] = value
        else:
            owners = {"members": SkbMembers, "facts": SkbFacts, "references": References}
            parts[next(part for part, record in owners.items() if name in names(record))][name] = value
    own = parts.pop("")
    return replace(skb, **{part: replace(getattr(skb, part), **values) for part, values in parts.items()}, **own)  # type: ignore[arg-type]


def with_shinfo(**changes: object) -> Skb:
    """The healthy one with another shared info, or with other facts of the kernel about it."""
    facts = {name: changes.pop(name) for name in set(changes) & names(SkbFacts)}
    return changed(HEALTHY, shinfo=replace(SHINFO, **changes), **facts)  # type: ignore[arg-type]


def with_frag(**changes: object) -> Skb:
    return with_shinfo(frags=(replace(SHINFO.frags[0], **changes),))  # type: ignore[arg-type]


def referring(**changes: object) -> Skb:
    return changed(HEALTHY, **changes)


HEALTHY_SKBS = {
    "a device, a route without a reference, a connection": referring(
        dev=NODES[0], dst=NODES[1] | 1, dst_place=FREE, nfct=NODES[2] | 2, nfct_place=IN_USE
    ),
    "UDP's notes in the device's place": referring(dev=4352 | 1 << 31 | 1500 << 32 | 1 << 48),
    "extensions": referring(active_extensions=2, extensions=NODES[0], extensions_place=IN_USE),
    "a page fragment for a buffer": changed(
        referring(head_frag=1), head=HEAD + 64, data=HEAD + 64, head_place=Allocation("page", HEAD)
    ),
    "a large kmalloc'd buffer": changed(referring(head_frag=0), head_place=Allocation("page", HEAD)),
    "a checksum to fill in": referring(checksum_at=164),
    "an inner header that was never set, and moved": referring(inner_headers=(("inner_mac_header", 0xFFE0),)),
    "the second of a pair": changed(
        referring(fclone=2), place=Allocation("slab", SKB - 232, 472, "allocated", "skbuff_fclone_cache", True)
    ),
    "a fragment that fills its page": with_frag(room=1464),
    "a fragment of a device's memory": with_frag(page=0xFFFF888003D00001, room=0),
    "in its cache, its buffer in another": changed(
        HEALTHY,
        place=Allocation("slab", SKB, 232, "allocated", "skbuff_head_cache", True),
        head_place=Allocation("slab", HEAD, 2048, "allocated", "kmalloc-2k"),
    ),
    "the second of an fclone pair": changed(
        HEALTHY, place=Allocation("slab", SKB - 232, 472, "allocated", "skbuff_fclone_cache", True)
    ),
    "its buffer a page fragment": changed(HEALTHY, head_place=Allocation("page", HEAD - 0x1000)),
    "a TCP segment to be cut": with_shinfo(gso_size=700, gso_segs=3, gso_type=1),
    "a TCP segment of which part was acknowledged": changed(
        with_shinfo(gso_size=1448, gso_segs=44, gso_type=1), is_tcp=True
    ),
    "pure ACKs that TCP put together": changed(with_shinfo(gso_segs=3), is_tcp=True),
    "what TCP's backlog put together": changed(with_shinfo(gso_size=1448, gso_segs=3), is_tcp=True),
    "segments that are those of the frag_list": with_shinfo(gso_size=0xFFFF, gso_segs=3, gso_type=1 << 14),
    "a pure ACK, which is not to be paced": changed(HEALTHY, truesize=2),
    "the first fragment of what IPsec copied": changed(HEALTHY, truesize=29, is_fragment=True),
    "the same, and less than nothing": changed(HEALTHY, truesize=(1 << 32) - 1797, is_fragment=True),
    "what SCTP has begun to read": changed(
        with_shinfo(gso_size=0xFFFF, gso_segs=2, gso_type=1 << 14, frags=(Frag(DEVICE, 0, 1368),)), data_len=1400
    ),
    "a fragment of an IP packet, with its offset for sk": changed(HEALTHY, sk=1480),
    "its socket": changed(
        HEALTHY, sk=NODES[0], destructor=1, sk_place=Allocation("slab", NODES[0], 1152, "allocated", "UDP")
    ),
    "known flags": with_shinfo(flags=3, known_flags=0x1F),
    "a guest left the counting to us": with_shinfo(gso_size=700, gso_type=1),
    "a timestamp in progress": with_shinfo(tx_flags=5),
    "half made, its fragments not counted yet": changed(HEALTHY, data_len=0, len=100, held=lambda: Held.NOWHERE),
    "nobody's, and to be freed": changed(HEALTHY, users=0, held=lambda: Held.TO_BE_FREED),
    "what GRO has not put together yet": changed(with_shinfo(gso_size=1400), held=lambda: Held.GRO),
    "a child in a tree, in the device's place": changed(HEALTHY, dev=WILD, held=lambda: Held.TREE),
    "zerocopy": with_shinfo(is_zerocopy=True, destructor_arg=0xFFFF888003E00000),
    "zerocopy without a ubuf_info": with_shinfo(is_zerocopy=True, destructor_arg=1),
    "with a fragment": HEALTHY,
    "linear": changed(HEALTHY, len=100, data_len=0, shinfo=replace(SHINFO, nr_frags=0, frags=())),
    "empty": changed(HEALTHY, len=0, data_len=0, tail=HEAD + 64, shinfo=replace(SHINFO, nr_frags=0, frags=())),
    "all fragments in use": changed(
        HEALTHY, len=1700, data_len=1600, shinfo=replace(SHINFO, nr_frags=16, frags=(Frag(DEVICE, 0, 100),) * 16)
    ),
    "with a frag_list": changed(
        HEALTHY,
        len=2500,
        data_len=2400,
        shinfo=replace(SHINFO, frag_list=NODES[0], chain=FragList((NODES[0],), 1000)),
    ),
    "clone of a live buffer": changed(HEALTHY, cloned=1, shinfo=replace(SHINFO, dataref=2)),
    "cloned once, and the clone has gone": changed(HEALTHY, cloned=1),
    "payload only": changed(HEALTHY, cloned=1, nohdr=1, shinfo=replace(SHINFO, dataref=0x10002)),
    "TCP's, that holds no reference to the header": changed(HEALTHY, nohdr=1, shinfo=replace(SHINFO, dataref=0x10001)),
    "buffer left out by makedumpfile": changed(HEALTHY, shinfo=Unreadable(END, Why.FILTERED)),
    "buffer lost with the end of the dump": changed(HEALTHY, shinfo=Unreadable(END, Why.TRUNCATED)),
    "frag_list left out by makedumpfile": with_shinfo(
        frag_list=NODES[0], chain=FragList((), 0, hole=Unreadable(NODES[0], Why.FILTERED))
    ),
}

DAMAGED_SKBS: dict[str, tuple[Skb, str, str]] = {
    "a wild device": (referring(dev=WILD), "skb.refs", "dev"),
    "the notes of another sk_buff": (referring(dev=999 | 999 << 32), "skb.refs", "dev"),
    "a wild route": (referring(dst=WILD), "skb.refs", "_skb_refdst"),
    "a route beside itself": (referring(dst=NODES[0] | 4), "skb.refs", "_skb_refdst"),
    "a freed route": (referring(dst=NODES[0], dst_place=FREE), "skb.refs", "_skb_refdst"),
    "a wild connection": (referring(nfct=WILD), "skb.refs", "_nfct"),
    "a freed connection": (referring(nfct=NODES[0], nfct_place=FREE), "skb.refs", "_nfct"),
    "extensions that are not there": (referring(active_extensions=1), "skb.refs", "extensions"),
    "freed extensions": (
        referring(active_extensions=1, extensions=NODES[0], extensions_place=FREE),
        "skb.refs",
        "extensions",
    ),
    "extensions beside themselves": (
        referring(active_extensions=1, extensions=NODES[0] + 8, extensions_place=IN_USE),
        "skb.refs",
        "extensions",
    ),
    "unknown extensions": (
        referring(active_extensions=0x6B, extensions=NODES[0], extensions_place=IN_USE),
        "skb.refs",
        "active_extensions",
    ),
    "another truesize than UDP's notes have": (
        referring(dev=4353 | 1500 << 32, has_scratch=True),
        "skb.truesize",
        "truesize",
    ),
    "an sk_buff for a socket": (
        changed(
            HEALTHY, sk=NODES[0], sk_place=Allocation("slab", NODES[0], 232, "allocated", "skbuff_head_cache", True)
        ),
        "skb.sk",
        "sk",
    ),
    "a socket's middle": (
        changed(HEALTHY, sk=NODES[0] + 64, sk_place=Allocation("slab", NODES[0], 1152, "allocated", "UDP")),
        "skb.sk",
        "sk",
    ),
    "a destructor that is no function": (referring(is_destroyed_by_function=False), "skb.sk", "destructor"),
    "a small number for sk": (changed(referring(sk_may_be_offset=False), sk=64), "skb.sk", "sk"),
    "the wrong of a pair": (
        changed(referring(fclone=2), place=Allocation("slab", SKB, 472, "allocated", "skbuff_fclone_cache", True)),
        "skb.address",
        "fclone",
    ),
    "one of a pair, and alone": (
        changed(referring(fclone=1), place=Allocation("slab", SKB, 232, "allocated", "skbuff_head_cache", True)),
        "skb.address",
        "fclone",
    ),
    "a kmalloc'd buffer freed as a page": (
        changed(referring(head_frag=1), head_place=Allocation("slab", HEAD, 2048, "allocated", "kmalloc-2k")),
        "head.buffer",
        "head_frag",
    ),
    "a page fragment freed as one of kmalloc()": (
        changed(referring(head_frag=0), head=HEAD + 64, head_place=Allocation("page", HEAD, offset_in_page=64)),
        "head.buffer",
        "head_frag",
    ),
    "a checksum behind the buffer": (referring(checksum_at=0x6C1), "skb.headers", "csum_start"),
    "an inner header behind it": (
        referring(inner_headers=(("inner_mac_header", 0x6C1),)),
        "skb.headers",
        "inner_mac_header",
    ),
    "a part of a page that is none": (with_frag(room=0), "shinfo.frag", "frags[0]"),
    "no device's memory": (with_frag(page=WILD | 1), "shinfo.frag", "frags[0]"),
    "segments of two protocols": (
        with_shinfo(gso_size=700, gso_segs=2, gso_type=0x11, gso_protocols=0x13),
        "shinfo.gso",
        "gso_type",
    ),
    "too many users of the payload": (
        changed(HEALTHY, cloned=1, shinfo=replace(SHINFO, dataref=0x6B6B6B6B)),
        "shinfo.dataref",
        "dataref",
    ),
    "data before head": (changed(HEALTHY, head=HEAD + 128), "skb.order", "data"),
    "tail behind end": (changed(HEALTHY, end=HEAD + 128), "skb.order", "end"),
    "buffer nowhere": (changed(HEALTHY, shinfo=Unreadable(END, Why.UNMAPPED)), "head.buffer", "head"),
    "head is no pointer": (
        changed(HEALTHY, head=WILD, shinfo=Unreadable(WILD, Why.UNMAPPED)),
        "head.buffer",
        "head",
    ),
    "head freed": (
        changed(HEALTHY, head_place=Allocation("slab", HEAD, 2048, "free", "kmalloc-2k")),
        "head.buffer",
        "head",
    ),
    "head's page freed": (changed(HEALTHY, head_place=Allocation("free")), "head.buffer", "head"),
    "head inside an object": (
        changed(HEALTHY, head_place=Allocation("slab", HEAD - 64, 4096, "allocated", "kmalloc-4k")),
        "head.buffer",
        "head",
    ),
    "the object too small for the shared info": (
        changed(HEALTHY, head_place=Allocation("slab", HEAD, 0x6C0, "allocated", "kmalloc-2k")),
        "head.buffer",
        "head",
    ),
    "freed itself": (
        changed(HEALTHY, place=Allocation("slab", SKB, 232, "free", "skbuff_head_cache", True)),
        "skb.freed",
        "",
    ),
    "an object of another cache": (
        changed(HEALTHY, place=Allocation("slab", SKB, 1024, "allocated", "UDP")),
        "skb.address",
        "",
    ),
    "inside an object": (
        changed(HEALTHY, place=Allocation("slab", SKB - 8, 232, "allocated", "skbuff_head_cache", True)),
        "skb.address",
        "",
    ),
    "on a free page": (changed(HEALTHY, place=Allocation("free")), "skb.address", ""),
    "sk leads nowhere": (changed(HEALTHY, sk=WILD), "skb.sk", "sk"),
    "its socket was freed": (
        changed(HEALTHY, sk=NODES[0], destructor=1, sk_place=Allocation("slab", NODES[0], 1152, "free", "UDP")),
        "skb.sk",
        "sk",
    ),
    "flags without a meaning": (with_shinfo(flags=0x88, known_flags=0x1F), "shinfo.tx_flags", "flags"),
    "nobody holds it": (changed(HEALTHY, users=0), "skb.users", "users"),
    "users saturated": (changed(HEALTHY, users=-0x40000000), "skb.users", "users"),
    "users beyond belief": (changed(HEALTHY, users=1_000_000), "skb.users", "users"),
    "truesize too small": (changed(HEALTHY, truesize=231), "skb.truesize", "truesize"),
    "truesize beyond belief": (changed(HEALTHY, truesize=1 << 30), "skb.truesize", "truesize"),
    "a header behind the buffer": (changed(HEALTHY, headers=(("mac_header", 0x6C1),)), "skb.headers", "mac_header"),
    "a fragment's page is none": (with_frag(room=0), "shinfo.frag", "frags[0]"),
    "a fragment's page is free": (with_frag(room=4096, is_free=True), "shinfo.frag", "frags[0]"),
    "a fragment's page is a page table": (with_frag(room=4096, wrong="a page table"), "shinfo.frag", "frags[0]"),
    "a fragment beyond its page": (with_frag(room=1463), "shinfo.frag", "frags[0]"),
    "unknown gso_type": (with_shinfo(gso_size=100, gso_type=0x80000), "shinfo.gso", "gso_type"),
    "more segments than bytes": (with_shinfo(gso_size=1000, gso_segs=3, gso_type=1), "shinfo.gso", "gso_segs"),
    "segments of no size": (with_shinfo(gso_segs=2, gso_type=1), "shinfo.gso", "gso_size"),
    "gso_size without a type": (with_shinfo(gso_size=1501), "shinfo.gso", "gso_size"),
    "a timestamp nobody asked for": (with_shinfo(tx_flags=4), "shinfo.tx_flags", "tx_flags"),
    "zerocopy without a ubuf_info": (with_shinfo(is_zerocopy=True), "shinfo.tx_flags", "destructor_arg"),
    "frag_list leads to something else": (
        with_shinfo(frag_list=NODES[0], chain=FragList((NODES[0],), 1, foreign=(NODES[0], "an object of UDP"))),
        "shinfo.frag_list",
        "frag_list",
    ),
    "len too large": (changed(HEALTHY, len=1501), "skb.len", "len"),
    "len too small": (changed(HEALTHY, len=1499), "skb.len", "len"),
    "data_len beyond len": (changed(HEALTHY, data_len=1501), "skb.len", "data_len"),
    "data_len is not the fragments": (changed(HEALTHY, len=1501, data_len=1401), "skb.len", "data_len"),
    "a fragment more than MAX_SKB_FRAGS": (with_shinfo(nr_frags=18), "shinfo.nr_frags", "nr_frags"),
    "frag_list is no pointer": (with_shinfo(frag_list=WILD, chain=FragList((), 0)), "shinfo.frag_list", "frag_list"),
    "frag_list is not aligned": (
        with_shinfo(frag_list=NODES[0] + 1, chain=FragList((), 0)),
        "shinfo.frag_list",
        "frag_list",
    ),
    "frag_list leads nowhere": (
        with_shinfo(frag_list=NODES[0], chain=FragList((NODES[0],), 1, hole=Unreadable(WILD, Why.UNMAPPED))),
        "shinfo.frag_list",
        "frag_list",
    ),
    "frag_list in a circle": (
        with_shinfo(frag_list=NODES[0], chain=FragList((NODES[0],), 1, cycle=NODES[0])),
        "shinfo.frag_list",
        "frag_list",
    ),
    "no user": (with_shinfo(dataref=0), "shinfo.dataref", "dataref"),
    "more payload users than users": (
        changed(HEALTHY, cloned=1, shinfo=replace(SHINFO, dataref=0x30002)),
        "shinfo.dataref",
        "dataref",
    ),
    "shared, never cloned": (with_shinfo(dataref=2), "shinfo.dataref", "dataref"),
}

HEALTHY_QUEUES = {
    "linked": LINKED,
    "empty": Queue("receive", QUEUE, 0, ()),
    "cut short by makedumpfile": replace(LINKED, qlen=9, hole=Unreadable(NODES[2] + 0x1000, Why.FILTERED)),
}

DAMAGED_QUEUES: dict[str, tuple[Queue, str, int, str]] = {
    "prev leads elsewhere": (
        replace(LINKED, bad_links=(BadLink(NODES[1], NODES[0], WILD),)),
        "queue.link",
        NODES[1],
        "prev",
    ),
    "next leads out of memory": (
        replace(LINKED, hole=Unreadable(WILD, Why.UNMAPPED)),
        "queue.link",
        NODES[2],
        "next",
    ),
    "the head's next leads out of memory": (
        Queue("write", QUEUE, 3, (), hole=Unreadable(WILD, Why.UNMAPPED)),
        "queue.link",
        QUEUE,
        "next",
    ),
    "a circle without the head": (replace(LINKED, cycle=NODES[1]), "queue.cycle", NODES[2], "next"),
    "qlen too large": (replace(LINKED, qlen=4), "queue.qlen", QUEUE, "qlen"),
    "qlen too small": (replace(LINKED, qlen=0), "queue.qlen", QUEUE, "qlen"),
}


def is_told(finding: Finding) -> bool:
    return all((finding.expected, finding.found, finding.message)) and finding.severity in (CORRUPT, SUSPECT)


@pytest.mark.parametrize("name", HEALTHY_SKBS)
def test_healthy_skb(name: str) -> None:
    assert judge_skb(HEALTHY_SKBS[name]) == []


@pytest.mark.parametrize("name", DAMAGED_SKBS)
def test_damaged_skb(name: str) -> None:
    record, rule, member = DAMAGED_SKBS[name]
    findings = judge_skb(record)
    assert [(finding.rule, finding.object, finding.member) for finding in findings] == [(rule, SKB, member)]
    assert all(map(is_told, findings))


@pytest.mark.parametrize("name", HEALTHY_QUEUES)
def test_healthy_queue(name: str) -> None:
    assert judge_queue(HEALTHY_QUEUES[name]) == []


@pytest.mark.parametrize("name", DAMAGED_QUEUES)
def test_damaged_queue(name: str) -> None:
    record, *expected = DAMAGED_QUEUES[name]
    findings = judge_queue(record)
    assert [[finding.rule, finding.object, finding.member] for finding in findings] == [expected]
    assert all(map(is_told, findings))


def test_the_message_says_what_was_found() -> None:
    (finding,) = judge_skb(with_shinfo(nr_frags=164))
    assert "164" in finding.found and "17" in finding.expected


def test_verdict_is_the_worst_severity() -> None:
    suspect = Finding("skb.truesize", SKB, "truesize", SUSPECT, "a", "b", "c")
    corrupt = Finding("skb.len", SKB, "len", CORRUPT, "a", "b", "c")
    assert verdict([]) == CLEAN
    assert verdict([suspect]) == SUSPECT
    assert verdict([suspect, corrupt]) == verdict([corrupt, suspect]) == CORRUPT


@pytest.mark.parametrize(
    ("skb", "rule"),
    [
        pytest.param(with_frag(room=4096, is_slab=True), "shinfo.frag", id="a page of a slab"),
        pytest.param(changed(HEALTHY, headers=(("transport_header", 0xFFFF - 64),)), "skb.headers", id="never set"),
        pytest.param(
            changed(HEALTHY, len=100, data_len=0, truesize=66, shinfo=replace(SHINFO, nr_frags=0, frags=())),
            "skb.truesize",
            id="a pure ACK with more headroom",
        ),
        pytest.param(
            changed(with_shinfo(gso_size=1448, gso_segs=0xFFF0, gso_type=1), is_tcp=True), "shinfo.gso", id="TCP"
        ),
    ],
)
def test_what_the_kernel_rarely_does_is_only_suspect(skb: Skb, rule: str) -> None:
    (finding,) = judge_skb(skb)
    assert (finding.rule, finding.severity) == (rule, SUSPECT)


def test_a_buffer_that_was_given_away_twice() -> None:
    """Clones count; where the count is too small, everybody who has the buffer is told of."""
    clone = changed(HEALTHY, addr=NODES[0], cloned=1, shinfo=replace(SHINFO, dataref=0x10002))
    assert list(sharing([clone, clone])) == []
    found = list(sharing([HEALTHY, changed(HEALTHY, addr=NODES[0])]))
    assert [(f.rule, f.object, f.severity) for f in found] == [("head.buffer", at, CORRUPT) for at in (SKB, NODES[0])]
