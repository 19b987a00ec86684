"""What healthy systems do, but not every day, on every kernel: no rule accuses any of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-unusual")


def sock_of(dump: LabDump, label: str) -> dict[str, Any]:
    found: dict[str, Any] = next(sock for sock in dump.truth["socks"] if sock["label"] == label)
    return found


def skbs_of(dump: LabDump, label: str, name: str) -> list[dict[str, Any]]:
    queue = next(queue for queue in sock_of(dump, label)["queues"] if queue["queue"] == name)
    return [dump.skbs()[skb] for skb in queue["skbs"]]


def test_the_dump_has_what_it_is_about(dump: LabDump) -> None:
    assert sock_of(dump, "zerocopy0.client")["rmem_alloc"] == 0 < len(skbs_of(dump, "zerocopy0.client", "error"))
    # Debian's 5.10 is built without MPTCP, and its loopback wants UDP cut.
    if not dump.name.startswith("5.10"):
        assert any(skb["gso_segs"] == 20 and skb["len"] == 20000 for skb in skbs_of(dump, "gso0.whole", "receive"))
        assert skbs_of(dump, "mptcp0.server", "receive")
    (large,) = skbs_of(dump, "netlink0.rx", "receive")
    assert large["len"] == 150000 and not large["data_len"]
    assert skbs_of(dump, "stamps0.tx", "error")
    assert skbs_of(dump, "packet0", "receive")


def test_nothing_is_accused(gdb_run: Gdb, dump: LabDump) -> None:
    checked = gdb_run("skbcheck --all --json", vmcore=dump.vmcore).succeeded().json()
    assert (checked["findings"], checked["problems"], checked["verdict"]) == ([], [], "clean")
    assert checked["checked"]["skbs"] >= len(dump.skbs()) > 100
