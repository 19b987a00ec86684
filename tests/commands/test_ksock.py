"""ksock against the sockets that the kernel published, and with tables that are damaged or not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

FAMILIES = {1: "UNIX", 2: "INET", 10: "INET6", 16: "NETLINK", 17: "PACKET"}
STATES = {1: "ESTABLISHED", 7: "CLOSE", 10: "LISTEN"}


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def test_every_socket_is_there(gdb_run: Gdb, dump: LabDump) -> None:
    listing = gdb_run("ksock --json", vmcore=dump.vmcore).succeeded().json()
    assert listing["problems"] == []
    addresses = [sock["sock"] for sock in listing["socks"]]
    assert len(set(addresses)) == len(addresses)
    found = {sock["sock"]: sock for sock in listing["socks"]}
    comms = {task["pid"]: task["comm"] for task in dump.truth["tasks"]}
    for truth in dump.truth["socks"]:
        sock = found[truth["sock"]]
        assert sock["numbers"] == {name: truth[name] for name in ("family", "type", "protocol", "state")}
        assert (sock["family"], sock["state"]) == (FAMILIES[truth["family"]], STATES[truth["state"]])
        assert sock["protocol"] == truth["prot"]
        if truth["family"] in (2, 10):
            assert sock["local"].endswith(f":{truth['sport']}")
            assert sock["peer"].endswith(f":{truth['dport']}") if truth["dport"] else sock["peer"] == ""
        # Found twice: in its protocol's own table, and through the descriptor.
        assert len(sock["tables"]) == 2 and sock["tables"][1] == "fd", sock
        assert sock["comm"] == comms[sock["pid"]] == "load"
        assert sock["netns"]
        for queue in truth["queues"]:
            assert sock["queues"][queue["queue"]]["qlen"] == queue["members"]


def test_sockets_that_nobody_has_open(gdb_run: Gdb, dump: LabDump) -> None:
    """The kernel's own netlink sockets, and connections that wait to be accepted."""
    socks = gdb_run("ksock --json", vmcore=dump.vmcore).succeeded().json()["socks"]
    orphans = [sock for sock in socks if sock["pid"] is None]
    assert {(sock["family"], sock["local"]) for sock in orphans if sock["family"] == "NETLINK"} == {
        ("NETLINK", "port 0")
    }
    listener = next(sock for sock in dump.truth["socks"] if sock["label"] == "listen0")
    waiting = [sock for sock in orphans if sock["local"].endswith(f":{listener['sport']}")]
    assert [sock["state"] for sock in waiting] == ["ESTABLISHED"] * 3


def test_patterns(gdb_run: Gdb, dump: LabDump) -> None:
    truth = {sock["label"]: sock for sock in dump.truth["socks"]}
    run = gdb_run(
        "ksock TCP* --json",
        "ksock LISTEN --json",
        f"ksock *:{truth['udp0.rx']['sport']} --json",
        f"ksock {truth['unix0.rx']['sock']} --json",
        f"ksock {truth['unix0.rx']['sock'][2:]} --json",
        "ksock nothing-has-that --json",
        "ksock -n UNIX --json",
        vmcore=dump.vmcore,
    ).succeeded()
    tcp, listening, port, one, bare, none, filled = (document["socks"] for document in run.documents)
    assert {sock["protocol"] for sock in tcp} == {"TCP", "TCPv6"}
    assert truth["listen0"]["sock"] in {sock["sock"] for sock in listening}
    assert {sock["sock"] for sock in port} == {truth["udp0.rx"]["sock"], truth["udp0.tx"]["sock"]}
    assert [sock["sock"] for sock in one] == [sock["sock"] for sock in bare] == [truth["unix0.rx"]["sock"]]
    assert none == []
    assert {sock["sock"] for sock in filled} == {truth["unix0.rx"]["sock"], truth["unix1.rx"]["sock"]}
    by_pid = gdb_run(f"ksock {one[0]['pid']} --json", vmcore=dump.vmcore).json()["socks"]
    assert {sock["sock"] for sock in dump.truth["socks"]} <= {sock["sock"] for sock in by_pid}


def test_the_text_has_states_ends_and_owners(gdb_run: Gdb, dump: LabDump) -> None:
    lines = gdb_run("ksock", vmcore=dump.vmcore).succeeded().stdout.splitlines()
    truth = {sock["label"]: sock for sock in dump.truth["socks"]}
    (line,) = (line for line in lines if line.startswith(truth["tcp0.client"]["sock"]))
    for cell in ("INET ", "STREAM/TCP ", "ESTABLISHED ", f":{truth['tcp0.client']['sport']} ", " load"):
        assert cell in line, line
    (line,) = (line for line in lines if line.startswith(truth["listen0"]["sock"]))
    assert "LISTEN" in line and "accept 3" in line


def list_damaged(what: str) -> Any:
    """The sockets of a dump in which something is wrong, and the problems."""
    import dataclasses

    from gdb_kdump import session
    from gdb_kdump.errors import Why
    from gdb_kdump.kernel.net.all_socks import AllSocks
    from gdb_kdump.memory import Memory
    from gdb_kdump.records.runs import Hole
    from gdb_kdump.walks import Gaps

    opened = session.current()
    find = opened.debuginfo.address
    first = next(i for i in opened.once(AllSocks).all(Gaps()) if i.tables[0] == "udp")
    node = first.sock.addr + opened.layout.offset("sock.node")
    ehash = opened.memory.ptr(find("tcp_hashinfo") + opened.layout.offset("inet_hashinfo.ehash"))

    class Damaged:
        def read(self, start: int, size: int) -> list[Any]:
            runs, at = [], start
            for run in opened.server.read(start, size):
                length = len(run) if isinstance(run, bytes) else run.size
                if what == "hole" and at <= ehash < at + length:
                    run = Hole(length, Why.FILTERED)
                elif isinstance(run, bytes) and what in ("wild", "circle", "other") and at <= node < at + length:
                    value = {"wild": 0x5A5A5A5A5A5A5A58, "circle": node, "other": find("init_net")}[what]
                    data = bytearray(run)
                    data[node - at : node - at + 8] = value.to_bytes(8, "little")
                    run = bytes(data)
                runs.append(run)
                at += length
            return runs

    hidden = {"missing": "nl_table", "unlisted": "net_namespace_list"}.get(what)
    debuginfo = opened.debuginfo
    memory = Memory(Damaged())  # type: ignore[arg-type]
    if hidden is not None:
        debuginfo._addresses[hidden] = None
    gaps = Gaps()
    socks = dataclasses.replace(opened, memory=memory, _readers={}).once(AllSocks).all(gaps)
    return [[f"0x{info.sock.addr:016x}" for info in socks], list(gaps)]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("wild", "the udp table: a hash chain leads out of memory at 0x5a5a5a5a5a5a5a58"),
        ("circle", "the udp table: a hash chain runs in a circle"),
        ("other", "which is no socket: "),
        ("hole", "the tcp table: cannot read"),
        ("missing", "the netlink table: the debug information has no symbol nl_table"),
        ("unlisted", None),
    ],
)
def test_what_is_broken_is_told_and_the_rest_is_listed(
    in_gdb: Callable[..., Any], dump: LabDump, what: str, said: str | None
) -> None:
    socks, problems = in_gdb(list_damaged, what, vmcore=dump.vmcore)
    # All of the lab's sockets have a descriptor, too.
    assert {sock["sock"] for sock in dump.truth["socks"]} <= set(socks)
    if said is None:
        assert problems == []
    else:
        assert problems and all(
            said in problem or "udp" in problem or "more of this kind" in problem for problem in problems
        ), problems
        assert any(said in problem for problem in problems), problems
