"""knet: hooks, devices and neighbours, against what the lab's guest published of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-locks")


def by_place(hooks: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(hook["kind"], hook["where"], hook["address"]): hook for hook in hooks}


def test_hooks_are_those_of_the_guest(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run("knet --hooks --json", "knet --hooks", "knet --hooks -a", vmcore=dump.vmcore).succeeded()
    document = run.json()
    assert document["problems"] == []
    found = by_place(document["hooks"])
    assert len(dump.truth["hooks"]) == 4
    (namespace,) = dump.truth["netns"]
    for hook in dump.truth["hooks"]:
        ours = found[hook["kind"], hook["where"], hook["function"]]
        assert (ours["function"], ours["module"], ours["taint"]) == (hook["name"], "kdump_lab", "OE")
        assert ours["place"] == "module"
        if hook["kind"] == "netfilter":
            assert (ours["net"], ours["netns"], ours["priority"]) == (hook["net"], namespace["inum"], hook["priority"])
        else:
            assert (ours["net"], ours["netns"]) == (None, None)
    # Nothing else is the module's, and nothing of the kernel's is tainted.
    assert len([hook for hook in document["hooks"] if hook["module"] == "kdump_lab"]) == 4
    assert all(hook["function"] and not hook["taint"] for hook in document["hooks"] if hook["place"] == "kernel")
    lines = run.stdout.splitlines()
    assert sum("lab_hook_in" in line and "OE" in line for line in lines) == 3  # in JSON, too
    assert sum("tcp_v4_rcv" in line for line in lines) == 2  # in JSON, and with -a
    assert any(line.endswith("protocols of the kernel's own (-a)") for line in lines)


def test_packet_types_are_those_of_proc(gdb_run: Gdb, dump: LabDump) -> None:
    document = gdb_run("knet --hooks --json", vmcore=dump.vmcore).succeeded().json()
    lines = [line.split() for line in dump.truth["files"]["/proc/net/ptype"][1:]]
    theirs = {(words[0], words[1].partition("+")[0]) for words in lines}
    ours = {(hook["where"], hook["function"]) for hook in document["hooks"] if hook["kind"] == "packet_type"}
    assert ours == theirs and len(theirs) >= 4


def test_programs_are_on_their_devices(gdb_run: Gdb, dump: LabDump) -> None:
    document = gdb_run("knet --hooks --json", vmcore=dump.vmcore).succeeded().json()
    hooks = [hook for hook in document["hooks"] if hook["place"] == "bpf"]
    ours = {(hook["kind"], hook["device"], hook["function"].split("_", 3)[3]) for hook in hooks}
    assert ours == {(program["kind"], program["device"], program["name"]) for program in dump.truth["programs"]}
    assert all(hook["detail"].startswith(("xdp, tag", "sched_cls, tag")) for hook in hooks)


def test_a_hook_of_no_module_and_a_wild_table(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump("6.1-locks")
    before = gdb_run("knet --hooks --json", vmcore=dump.vmcore).succeeded().json()["hooks"]
    by_name = {hook["function"]: hook for hook in before}
    inward, outward = by_name["lab_hook_in"], by_name["lab_hook_out"]
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    patched.write_words(int(inward["hook"], 16), 0xFFFFFFFFC0FFE000)
    # The array begins before its first hook with how many there are.
    first = min(int(hook["hook"], 16) for hook in before
                if (hook["net"], hook["where"]) == (outward["net"], outward["where"]))  # fmt: skip
    patched.write(first - 8, (5000).to_bytes(2, "little"))
    run = gdb_run("knet --hooks --json", "knet --hooks", vmcore=patched.path).succeeded()
    after = run.json()
    (stray,) = [hook for hook in after["hooks"] if hook["place"] == "nowhere"]
    assert (stray["where"], stray["address"]) == ("IPv4 PRE_ROUTING", "0xffffffffc0ffe000")
    assert (stray["function"], stray["module"], stray["priority"]) == (None, None, None)
    assert "lab_hook_out" not in [hook["function"] for hook in after["hooks"]]
    (problem,) = after["problems"]
    assert problem.startswith("netfilter hooks, IPv6 POST_ROUTING: no struct nf_hook_entries: 5000 hooks at 0x")
    assert "-: in no loaded module; the last one that was unloaded: none" in run.stdout
