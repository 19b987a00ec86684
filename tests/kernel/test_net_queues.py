"""Queues that are no socket's, on every kernel, against what the kernel itself published; and damage on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-queues")


@pytest.fixture(params=KERNELS)
def damaged(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-faults-queues")


def walk_all() -> tuple[list[dict[str, Any]], list[str]]:
    from gdb_kdump.kernel.net.net_queues import net_queues
    from gdb_kdump.session import current
    from gdb_kdump.text import hex16
    from gdb_kdump.walks import Gaps

    gaps = Gaps()
    queues = [
        {"name": queue.name, "head": hex16(queue.head), "qlen": queue.qlen, "skbs": [hex16(skb) for skb in queue.skbs]}
        for queue in net_queues(current(), gaps)
    ]
    return queues, list(gaps)


# What the names of our queues say of those that the truth has.
WORDS = {
    "gso_skb": "gso_skb",
    "q": "qdisc pfifo of",
    "ring": "band",
    "flow": "flow",
    "gro_hash": "GRO of",
    "rx_list": "rx_list of",
    "arp_queue": "arp_queue of",
    "input_pkt_queue": "input_pkt_queue of CPU 0",
    "fragments": "fragments of",
}


def test_every_queue_is_the_kernels(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    walked, problems = in_gdb(walk_all, vmcore=dump.vmcore)
    assert problems == []
    by_place = {(queue["head"], word): queue for queue in walked for word in WORDS.values() if word in queue["name"]}
    assert {truth["queue"] for truth in dump.truth["net_queues"]} == set(WORDS)
    for truth in dump.truth["net_queues"]:
        if truth["queue"] == "ring":
            continue  # the truth's head is the ring in the skb_array
        found = by_place[truth["head"], WORDS[truth["queue"]]]
        where = "" if truth["queue"] in ("arp_queue", "input_pkt_queue", "fragments") else truth["device"]
        assert where in found["name"], found
        if truth["queue"] == "fragments":
            continue
        assert found["skbs"] == truth["skbs"], truth
        if truth["qlen"] >= 0:
            assert found["qlen"] == truth["qlen"], truth


def test_every_sk_buff_is_found_where_the_kernel_has_it(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    walked, _ = in_gdb(walk_all, vmcore=dump.vmcore)
    for word in ("band", "fragments of"):
        ours = [skb for queue in walked if word in queue["name"] for skb in queue["skbs"]]
        name = next(name for name, words in WORDS.items() if words == word)
        theirs = [skb for queue in dump.truth["net_queues"] if queue["queue"] == name for skb in queue["skbs"]]
        assert sorted(ours) == sorted(theirs)
        assert len(theirs) > 10


def test_qdiscs_in_modules_and_in_others(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    """Each device got as many packets: fq's are in flows that only its module's types tell, tbf's in a bfifo below."""
    walked, _ = in_gdb(walk_all, vmcore=dump.vmcore)
    qdiscs = [queue for queue in walked if queue["name"].startswith("qdisc ")]
    held = {
        device: sum(len(queue["skbs"]) for queue in qdiscs if f"of {device}" in queue["name"])
        for device in ("lab0", "lab1", "lab2", "lab3", "lab4")
    }
    # What tbf's device held when it came, the kernel dropped.
    assert held["lab0"] == held["lab1"] == held["lab2"] == held["lab3"] and held["lab0"] - held["lab4"] in (0, 1), held
    assert any(queue["name"].startswith("qdisc fq of lab3, flow") and queue["skbs"] for queue in walked)
    assert any(queue["name"].startswith("qdisc bfifo") and queue["skbs"] for queue in walked)


def test_nothing_sound_is_accused(gdb_run: Gdb, dump: LabDump) -> None:
    checked = gdb_run("skbcheck --all --json", vmcore=dump.vmcore).succeeded().json()
    assert (checked["findings"], checked["problems"], checked["verdict"]) == ([], [], "clean")
    assert checked["checked"]["skbs"] >= sum(queue["members"] for queue in dump.truth["net_queues"])


def test_damage_is_found_by_the_right_rule_on_the_right_object(gdb_run: Gdb, damaged: LabDump) -> None:
    checked = gdb_run("skbcheck --all --json", vmcore=damaged.vmcore).succeeded().json()
    corrupt = [finding for finding in checked["findings"] if finding["severity"] == "corrupt"]
    for fault in damaged.truth["faults"]:
        right = [f for f in corrupt if f["rule"] in fault["rule"] and f["object"] in fault["objects"]]
        assert right, (fault, [f for f in checked["findings"] if f["object"] in fault["objects"]])
    explained = [
        (rule, where)
        for fault in damaged.truth["faults"]
        for rule, where in [*fault["also"], *((rule, at) for rule in fault["rule"] for at in fault["objects"])]
    ]
    for finding in corrupt:
        assert (finding["rule"], finding["object"]) in explained or ("*", finding["object"]) in explained, finding
