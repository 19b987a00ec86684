"""What the kernel asserts, and no guest breaks: written into a healthy dump, each told by its rule and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, dump_names

CHECKSUM_PARTIAL = 3
SATURATED = 0xC0000000

# Of each: the socket, its queue and the index of an sk_buff there, or None for the socket itself; the C member and its
# size; what is written, or added; the rule and the member that must tell it.
SKB, INFO, TCP, SOCK = (
    "((struct sk_buff *){})->",
    "$skb_shinfo({})->",
    "((struct tcp_sock *){})->",
    "((struct sock *){})->",
)
PLANTED = (
    ("tcp1.client", "rtx", 3, SKB + "users.refs.counter", 4, 2, 0, "skb.users", "users"),
    ("tcp1.client", "write", 2, SKB + "users.refs.counter", 4, 2, 0, "skb.users", "users"),
    ("udp0.rx", "receive", 0, INFO + "gso_type", 4, "SKB_GSO_TCPV6", 0, "shinfo.gso", "gso_type"),
    ("udp0.rx", "receive", 1, INFO + "gso_type", 4, "SKB_GSO_UDP_TUNNEL", 0, "shinfo.gso", "encapsulation"),
    ("tcp0.client", None, 0, TCP + "packets_out", 4, 0, 1, "sock.accounting", "packets_out"),
    ("tcp2.client", None, 0, TCP + "retrans_out", 4, 0, 1, "sock.accounting", "retrans_out"),
    ("tcp3.client", None, 0, TCP + "sacked_out", 4, 0, 1, "sock.accounting", "sacked_out"),
    ("tcp4.client", None, 0, TCP + "lost_out", 4, 0, 1, "sock.accounting", "lost_out"),
    ("unix0.rx", None, 0, SOCK + "sk_data_ready", 8, "&jiffies", 0, "sock.callback", "sk_data_ready"),
    ("unix1.rx", None, 0, SOCK + "sk_destruct", 8, 0, 1 << 30, "sock.callback", "sk_destruct"),
    ("udp1.tx", None, 0, SOCK + "sk_wmem_alloc.refs.counter", 4, SATURATED, 0, "sock.accounting", "sk_wmem_alloc"),
)  # fmt: skip


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def sock_of(dump: LabDump, label: str) -> dict[str, Any]:
    return next(sock for sock in dump.truth["socks"] if sock["label"] == label)


def skbs_of(dump: LabDump, label: str, name: str) -> list[str]:
    return list(next(queue for queue in sock_of(dump, label)["queues"] if queue["queue"] == name)["skbs"])


def sharing(dump: LabDump, skb: str) -> list[str]:
    """The sk_buffs that have the same buffer."""
    skbs = dump.skbs()
    return [addr for addr, other in skbs.items() if other["head"] == skbs[skb]["head"]]


def socks_at_work(dump: LabDump) -> set[str]:
    """The sockets that somebody owned, and may have been in the middle of changing."""
    return {sock["sock"] for sock in dump.truth["socks"] if sock["owned"]}


def printed(gdb: Gdb, dump: LabDump, *expressions: str) -> list[int]:
    """What GDB says these are."""
    words = [f"print/x (unsigned long)({expression})" for expression in expressions]
    found = re.findall(r"^\$\d+ = (0x[0-9a-f]+)", gdb(*words, vmcore=dump.vmcore).succeeded().stdout, re.MULTILINE)
    assert len(found) == len(expressions)
    return [int(value, 16) for value in found]


def test_each_is_told_by_its_rule_and_nothing_else_is_accused(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    objects, asked = [], []
    for label, queue, index, place, _, value, _, _, _ in PLANTED:
        addr = sock_of(dump, label)["sock"] if queue is None else skbs_of(dump, label, queue)[index]
        objects.append(addr)
        asked += [f"&{place.format(addr)}", str(value)]
    # A checksum to be filled in, of a segment whose bytes are all in fragments.
    segment = skbs_of(dump, "tcp3.client", "rtx")[2]
    asked += [f"&((struct sk_buff *){segment})->{name}" for name in ("csum_start", "csum_offset")]
    asked += [f"((struct sk_buff *){segment})->{name}" for name in ("end", "ip_summed")]
    *pairs, start, offset, end, ip_summed = printed(gdb_run, dump, *asked)
    wanted = set()
    for addr, at, written, row in zip(objects, pairs[::2], pairs[1::2], PLANTED, strict=True):
        _, _, _, _, size, _, added, rule, member = row
        number = int.from_bytes(patched.read(at, size), "little") + added if added else written
        patched.write(at, number.to_bytes(size, "little"))
        # Clones have the same shared info.
        sharers = sharing(dump, addr) if rule == "shinfo.gso" else [addr]
        wanted |= {(rule, sharer, member) for sharer in sharers}
    assert ip_summed == CHECKSUM_PARTIAL
    patched.write(start, (end - 8).to_bytes(2, "little"))
    patched.write(offset, (6).to_bytes(2, "little"))
    wanted.add(("skb.headers", segment, "csum_start"))
    checked = gdb_run("skbcheck --all --json", vmcore=patched.path).succeeded().json()
    assert {(f["rule"], f["object"], f["member"]) for f in checked["findings"]} == wanted
    # Of a clone that is on no queue nothing is certain.
    doubted = {f["object"] for f in checked["findings"] if f["severity"] != "corrupt"}
    assert doubted <= {addr for _, addr, _ in wanted if addr not in objects} | socks_at_work(dump)
    alone = gdb_run(f"skbcheck --json {segment} {objects[0]} {objects[2]}", vmcore=patched.path).succeeded().json()
    assert {f["rule"] for f in alone["findings"]} == {"skb.headers", "skb.users", "shinfo.gso"}


def test_a_queue_whose_head_nobody_has(gdb_run: Gdb, in_gdb: Callable[..., Any], dump: LabDump, tmp_path: Path) -> None:
    def body() -> list[int]:
        from gdb_kdump.kernel.mm.slub import SlubAllocator
        from gdb_kdump.session import current
        from gdb_kdump.walks import Gaps

        slub = current().once(SlubAllocator)
        cache = next(cache for cache in slub.caches(Gaps()) if cache.name == "kmalloc-512")
        return [next(slub.for_each_object(cache, Gaps(), ["free"]))]

    (free,) = in_gdb(body, vmcore=dump.vmcore)
    init = next(task["task"] for task in dump.truth["tasks"] if task["pid"] == 1)
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    heads = {"udp0.rx": free, "unix0.rx": int(init, 16)}
    empty = printed(
        gdb_run, dump, *(f"&{SOCK.format(sock_of(dump, label)['sock'])}sk_receive_queue" for label in heads)
    )
    firsts = []
    for (label, head), own in zip(heads.items(), empty):
        skbs = [int(skb, 16) for skb in skbs_of(dump, label, "receive")]
        patched.write_words(own, own, own)
        patched.write(own + 16, bytes(4))
        patched.write_words(skbs[0] + 8, head)
        patched.write_words(skbs[-1], head)
        firsts.append(f"{skbs[0]:#018x}")
    checked = gdb_run("skbcheck --all --json", vmcore=patched.path).succeeded().json()
    found = {f["object"]: f for f in checked["findings"] if f["rule"] == "queue.head"}
    assert set(found) == set(firsts)
    assert "which is free" in found[firsts[0]]["message"] and "kmalloc-512" in found[firsts[0]]["message"]
    assert "PID 1 (" in found[firsts[1]]["message"] and found[firsts[1]]["found"] == init
    # What the sockets were charged for them is missed, and that is all.
    assert {f["rule"] for f in checked["findings"]} <= {"queue.head", "sock.accounting"}


def test_a_freelist_that_leads_into_another_cache(
    gdb_run: Gdb, in_gdb: Callable[..., Any], dump: LabDump, tmp_path: Path
) -> None:
    def body() -> list[int]:
        from gdb_kdump.kernel.mm.slub import SlubAllocator
        from gdb_kdump.kernel.mm.slub_caches import SlabCaches
        from gdb_kdump.session import current
        from gdb_kdump.walks import Gaps

        slub, caches = current().once(SlubAllocator), current().once(SlabCaches)
        large, small = (next(c for c in slub.caches(Gaps()) if c.name == f"kmalloc-{n}") for n in (512, 128))
        row = next(row for row in caches.cpu_slabs(large) if row.slab)
        return [row.freelist_at, slub.slab(row.slab).start, next(slub.for_each_object(small, Gaps(), ["free"]))]

    head, slab, other = in_gdb(body, vmcore=dump.vmcore)
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    patched.write_words(head, other)
    (shown,) = [gdb_run(f"kslab {slab:#x}", vmcore=patched.path).succeeded().stdout]
    assert f"whose head is at {head:#018x}, begins with {other:#018x}" in shown, shown
    assert "not in this slab but in one of kmalloc-128" in shown


@pytest.mark.parametrize("name", dump_names("frag-null"))
def test_only_the_fragment_that_was_not_there_is_told(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str
) -> None:
    """skb_release_data had given back the pages before it."""
    dump = lab_dump(name)
    (skb,) = {suspect["skb"] for suspect in gdb_run("ktriage --json", vmcore=dump.vmcore).json()["skbs"]}
    findings = gdb_run(f"skbcheck --json {skb}", vmcore=dump.vmcore).succeeded().json()["findings"]
    assert [(finding["rule"], finding["member"]) for finding in findings] == [("shinfo.frag", "frags[2]")]


@pytest.mark.parametrize("name", dump_names("xmit-shared"))
def test_what_pskb_expand_head_had_is_to_be_its_own(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str
) -> None:
    dump = lab_dump(name)
    skb = gdb_run("ktriage --json", vmcore=dump.vmcore).succeeded().json()["skb"]
    findings = gdb_run(f"skbcheck --json {skb}", vmcore=dump.vmcore).succeeded().json()["findings"]
    (finding,) = [finding for finding in findings if finding["rule"] == "skb.users"]
    assert finding["severity"] == "corrupt" and "pskb_expand_head() had it" in finding["message"]
