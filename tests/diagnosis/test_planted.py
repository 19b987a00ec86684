"""Damage that no guest has: members of sk_buffs and sockets overwritten in a healthy dump, each told by its rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

WILD = 0x4002030400585A08
FREED = 0x6B6B6B6B6B6B6B6B


@dataclass(frozen=True)
class Case:
    """A write of `size` bytes at `place` (a C member) of sk_buff `index` of a queue, and the rule that must tell it.

    `value` is what is written, or is added where it `adds`; None stands for the address of an sk_buff of another
    queue.  `member` is what the finding must name, the place where not given.
    """

    label: str
    queue: str
    index: int
    place: str
    size: int
    value: int | None
    rule: str
    member: str = ""
    adds: bool = False


CASES = (
    Case("udp0.rx", "receive", 0, "dev", 8, WILD, "skb.refs"),
    Case("udp0.rx", "receive", 1, "_skb_refdst", 8, FREED, "skb.refs"),
    Case("udp0.rx", "receive", 2, "_nfct", 8, WILD, "skb.refs"),
    Case("udp0.rx", "receive", 3, "active_extensions", 1, 0x80, "skb.refs"),
    Case("udp0.rx", "receive", 4, "inner_mac_header", 2, 0x5A5A, "skb.headers"),
    Case("udp1.rx", "receive", 0, "truesize", 4, 64, "skb.truesize", adds=True),
    Case("packet0", "receive", 1, "destructor", 8, WILD, "skb.sk"),
    Case("packet0", "receive", 3, "destructor", 8, 8, "skb.sk", adds=True),
    Case("packet0", "receive", 5, "destructor", 8, 0, "skb.sk"),
    Case("packet0", "receive", 7, "sk", 8, None, "skb.sk"),
    Case("packet0", "receive", 9, "prev", 8, 8, "queue.link", adds=True),
    Case("tcp0.client", "rtx", 1, "cb[4]", 4, 1, "skb.len", member="cb", adds=True),
    Case("tcp4.server", "backlog", 1, "next", 8, None, "queue.link"),
    Case("tcp4.client", "rtx", 2, "rbnode.__rb_parent_color", 8, FREED, "queue.link"),
)
# What else follows from these: sums that the wrong truesize is in, and the members that nobody gives back now.
CONSEQUENCES = {("sock.accounting", label) for label in ("udp1.rx", "packet0", "tcp4.server")}

# What TCP itself makes of an sk_buff that it copied without headers (tcp_collapse) and to which it then appended others
# (tcp_ooo_try_coalesce): two segments of no size.  Members, their sizes, and values.
COLLAPSED = (
    ("{}->mac_header", 2, 0xFFFF), ("{}->network_header", 2, 0), ("{}->transport_header", 2, 0xFFFF),
    ("$skb_shinfo({})->gso_size", 2, 0), ("$skb_shinfo({})->gso_segs", 2, 2), ("$skb_shinfo({})->gso_type", 4, 0),
)  # fmt: skip


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def sock_of(dump: LabDump, label: str) -> dict[str, Any]:
    return next(sock for sock in dump.truth["socks"] if sock["label"] == label)


def skb_of(dump: LabDump, label: str, name: str, index: int) -> str:
    queues = sock_of(dump, label)["queues"]
    return str(next(queue for queue in queues if queue["queue"] == name)["skbs"][index])


def places(gdb: Gdb, dump: LabDump) -> Iterator[int]:
    """The offsets of the cases' places in struct sk_buff."""
    words = [f"print/x (unsigned long)&((struct sk_buff *)0)->{case.place}" for case in CASES]
    found = re.findall(r"^\$\d+ = (0x[0-9a-f]+)", gdb(*words, vmcore=dump.vmcore).succeeded().stdout, re.MULTILINE)
    assert len(found) == len(CASES)
    return (int(offset, 16) for offset in found)


def test_each_is_told_by_its_rule_and_nothing_else_is_accused(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    wanted = set()
    for case, offset in zip(CASES, places(gdb_run, dump), strict=True):
        skb = skb_of(dump, case.label, case.queue, case.index)
        addr = int(skb, 16) + offset
        value = int(skb_of(dump, "netlink0", "receive", 0), 16) if case.value is None else case.value
        if case.adds:
            value += int.from_bytes(patched.read(addr, case.size), "little")
        patched.write(addr, value.to_bytes(case.size, "little"))
        wanted.add((case.rule, skb, case.member or case.place))
    checked = gdb_run("skbcheck --all --json", vmcore=patched.path).succeeded().json()
    found = {(f["rule"], f["object"], f["member"]) for f in checked["findings"]}
    assert wanted <= found, wanted - found
    consequences = {(rule, sock_of(dump, label)["sock"]) for rule, label in CONSEQUENCES}
    objects = {skb for _, skb, _ in wanted}
    away = [f for f in checked["findings"] if f["object"] not in objects]
    assert [f for f in away if (f["rule"], f["object"]) not in consequences] == []


def test_segments_of_no_size_are_sound_where_the_socket_is_tcps(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    of_tcp, of_udp = skb_of(dump, "tcp3.server", "ofo", 1), skb_of(dump, "udp0.rx", "receive", 0)
    for skb in (of_tcp, of_udp):
        pointer = f"((struct sk_buff *){skb})"
        words = [f"print/x (unsigned long)&{member.format(pointer)}" for member, _, _ in COLLAPSED]
        printed = gdb_run(*words, vmcore=dump.vmcore).succeeded().stdout
        addresses = re.findall(r"^\$\d+ = (0x[0-9a-f]+)", printed, re.MULTILINE)
        for at, (_, size, value) in zip(addresses, COLLAPSED, strict=True):
            patched.write(int(at, 16), value.to_bytes(size, "little"))
    checked = gdb_run(f"skbcheck --json {of_tcp} {of_udp}", vmcore=patched.path).succeeded().json()
    assert [(f["rule"], f["object"], f["member"]) for f in checked["findings"]] == [("shinfo.gso", of_udp, "gso_size")]
