"""kwhat: addresses of every kind, against what the kernel itself said of them before it crashed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump, Run, dump_names


def said(run: Run) -> dict[int, Any]:
    """What kwhat says, by address."""
    return {int(one["address"], 16): one for one in run.json()}


def links(what: Any) -> set[tuple[str, int]]:
    """Every step of every chain of owners: what it is, and its address."""
    return {(link["what"], int(link["address"], 16)) for chain in what["owners"] for link in chain}


@pytest.mark.parametrize("name", dump_names("queues", "healthy"))
def test_every_sk_buff_of_the_truth_has_its_owners(name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump(name)
    skbs, socks = dump.skbs(), dump.truth["socks"]
    inside = {int(skb["data"], 16) for skb in skbs.values()} | {int(skb["shinfo"], 16) + 2 for skb in skbs.values()}
    addresses = [*map("{:#x}".format, inside), *skbs, *(sock["sock"] for sock in socks)]
    what = said(gdb_run("kwhat --json " + " ".join(addresses), vmcore=dump.vmcore).succeeded())
    holders = {skb: sock for sock in socks for queue in sock["queues"] for skb in queue["skbs"]}
    for skb in skbs.values():
        addr, head = int(skb["skb"], 16), int(skb["head"], 16)
        chains = [what[addr], what[int(skb["data"], 16)], what[int(skb["shinfo"], 16) + 2]]
        for chain in chains:
            assert ("sk_buff", addr) in links(chain), (skb, chain)
        assert ("head", head) in links(chains[1]) and ("head", head) in links(chains[2])
        sock = holders.get(skb["skb"])
        if sock is not None:
            for chain in chains:
                assert ("sock", int(sock["sock"], 16)) in links(chain), (skb, chain)
    for sock in socks:
        steps = links(what[int(sock["sock"], 16)])
        assert ("sock", int(sock["sock"], 16)) in steps
        assert sock["file"] == "0x0000000000000000" or ("file", int(sock["file"], 16)) in steps, (sock, steps)
        if sock["file"] != "0x0000000000000000":
            assert any(step == "task_struct" for step, _ in steps), (sock, steps)


@pytest.mark.parametrize("name", dump_names("queues"))
def test_tasks_and_their_stacks(name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump(name)
    tasks = {int(task["task"], 16): task for task in dump.truth["tasks"]}
    stacks = {int(task["stack"], 16) + 0x3F80: task for task in tasks.values()}
    what = said(
        gdb_run("kwhat --json " + " ".join(map("{:#x}".format, [*tasks, *stacks])), vmcore=dump.vmcore).succeeded()
    )
    for addr, task in tasks.items():
        assert ("task_struct", addr) in links(what[addr])
        assert f"PID {task['pid']} ({task['comm']})" in what[addr]["text"]
    for addr, task in stacks.items():
        assert what[addr]["kind"] == "stack" and links(what[addr]) >= {("task_struct", int(task["task"], 16))}
        assert what[addr]["owners"][0][0]["what"] == "frame"


def test_what_is_no_address(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    commands = ("kwhat", "kwhat 0x1234", "kwhat 0x8888888888888888", "kwhat no_such_symbol", "kwhat -p 0xffffffffffff",
                "kwhat 0xfffffffffffffff8", "kwhat -p 0x1000")  # fmt: skip
    run = gdb_run(*commands, vmcore=lab_dump("6.1-queues").vmcore)
    assert "Traceback" not in run.output
    refusals = [line for line in run.errors if line.startswith("kwhat: ")]
    assert len(refusals) == 3
    assert "name an address" in refusals[0] and "no_such_symbol" in refusals[1] and "no memory at" in refusals[2]
    assert "is an address of user space, or a physical one (kwhat -p)" in run.stdout
    assert "it is not canonical" in run.stdout and "KIND: nowhere" in run.stdout
    assert "pfn 0x1)" in run.stdout
