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


def test_filters_are_on_their_devices(gdb_run: Gdb, dump: LabDump) -> None:
    document = gdb_run("knet --hooks --json", vmcore=dump.vmcore).succeeded().json()
    filters = [hook for hook in document["hooks"] if hook["kind"] == "filter"]
    ours = {(hook["device"], hook["where"], hook["priority"]) for hook in filters}
    assert ours == {(one["device"], one["where"], one["priority"]) for one in dump.truth["filters"]}
    # A module of the kernel's own taints nothing.
    functions = {(hook["function"], hook["module"], hook["taint"]) for hook in filters}
    assert functions == {("mall_classify", "cls_matchall", "")}
    (action,) = [hook for hook in document["hooks"] if hook["kind"] == "action"]
    assert (action["where"], action["function"], action["module"]) == ("gact", "tcf_gact_act", "act_gact")


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


def test_devices_are_those_of_proc(gdb_run: Gdb, dump: LabDump) -> None:
    document = gdb_run("knet --json", vmcore=dump.vmcore).succeeded().json()
    assert document["problems"] == []
    first = document["devices"][0]["net"]
    devices = {device["name"]: device for device in document["devices"] if device["net"] == first}
    lines = dict(line.split(":") for line in dump.truth["files"]["/proc/net/dev"][2:])
    assert {name.strip() for name in lines} == set(devices) == {"lo", "lab0", "lab1"}
    for name, line in lines.items():
        counters = [int(word) for word in line.split()]
        ours = devices[name.strip()]["statistics"]
        receiving = [ours[f"rx_{what}"] for what in ("bytes", "packets", "errors", "dropped")]
        sending = [ours[f"tx_{what}"] for what in ("bytes", "packets", "errors", "dropped")]
        assert (receiving, sending) == (counters[:4], counters[8:12]), name
        assert (ours["multicast"], ours["collisions"]) == (counters[7], counters[13])
    assert devices["lo"]["statistics"]["rx_packets"] > 0
    inum = dump.truth["netns"][0]["inum"]
    assert [device["name"] for device in document["devices"] if device["netns"] == inum] == ["lo"]
    assert devices["lo"]["ipv4"] == ["127.0.0.1/8"] and "::1/128" in devices["lo"]["ipv6"]
    assert devices["lab0"]["ipv4"] == ["10.1.0.1/24"] and devices["lab1"]["ipv4"] == ["10.9.9.1/24"]
    assert all(address.endswith("/64") for address in devices["lab0"]["ipv6"]) and devices["lab0"]["ipv6"]
    assert {device["mtu"] for device in devices.values()} == {1500}
    assert devices["lab0"]["flags"] == ["UP", "BROADCAST", "NOARP", "MULTICAST"]
    assert (devices["lo"]["hard_header_len"], devices["lab0"]["carrier"]) == (14, True)
    assert "tx-scatter-gather" in devices["lo"]["features"]
    assert [cpu["cpu"] for cpu in document["cpus"]] == [0, 1]


def test_one_device_has_its_queues_and_its_driver(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run("knet lab0 --json", "knet lab0", "knet", vmcore=dump.vmcore).succeeded()
    (device,) = run.json()["devices"]
    assert device["mac"] and (device["driver"]["function"], device["driver"]["taint"]) == ("device_xmit", "OE")
    # What was sent, it has refused: the queue is stopped, and its qdisc has the packet back.
    queues = device["queues"]
    assert [queue["kind"] for queue in queues] == ["fq_codel", "fq_codel"]
    truth = [queue for queue in dump.truth["net_queues"] if queue["device"] == "lab0"]
    assert sum(queue["qlen"] for queue in queues) == sum(queue["members"] for queue in truth) > 0
    assert all(queue["state"] == ["DRV_XOFF"] and queue["requeues"] for queue in queues if queue["qlen"])
    (napi,) = device["napis"]
    assert (napi["poll"]["function"], napi["poll"]["module"], napi["weight"]) == ("device_poll", "kdump_lab", 64)
    assert "DRIVER: device_xmit [kdump_lab] (OE)" in run.stdout
    assert sum(line.startswith("lab0 ") for line in run.stdout.splitlines()) == 2


def test_neighbours_are_those_of_proc(gdb_run: Gdb, dump: LabDump) -> None:
    document = gdb_run("knet --neigh --json", vmcore=dump.vmcore).succeeded().json()
    assert document["problems"] == []
    (line,) = dump.truth["files"]["/proc/net/arp"][1:]
    words = line.split()
    # /proc/net/arp leaves those out that need no ARP.
    (ours,) = [one for one in document["neighbours"] if ":" not in one["address"] and one["state"] != ["NOARP"]]
    assert (ours["address"], ours["mac"], ours["device"]) == (words[0], words[3], words[5])
    (truth,) = [queue for queue in dump.truth["net_queues"] if queue["queue"] == "arp_queue"]
    assert (ours["state"], ours["waiting"]) == (["INCOMPLETE"], truth["members"])
    assert all(one["mac"].startswith("33:33:") for one in document["neighbours"] if one["address"].startswith("ff02::"))


def test_what_is_no_device_is_told(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    run = gdb_run("knet eth7", "knet lo lab0", "knet --hooks lo", vmcore=lab_dump("6.1-locks").vmcore)
    many = "knet: one DEVICE at the most, and none with --hooks or --neigh"
    assert run.errors == ["knet: no network device eth7; knet lists them", many, many]


def test_a_damaged_device_costs_itself(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump("6.1-locks")
    before = gdb_run("knet --json", vmcore=dump.vmcore).succeeded().json()["devices"]
    lab0, lab1 = (next(device for device in before if device["name"] == name) for name in ("lab0", "lab1"))
    offsets = gdb_run(
        "print/d (long)&((struct net_device *)0)->ip_ptr", "print/d (long)&((struct net_device *)0)->nd_net",
        vmcore=dump.vmcore,
    ).succeeded().stdout  # fmt: skip
    ip_ptr, net = (int(line.partition("= ")[2]) for line in offsets.splitlines() if line.startswith("$"))
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    patched.write_words(int(lab0["device"], 16) + ip_ptr, 0x4141414141414141)
    patched.write_words(int(lab1["device"], 16) + net, 0x4242424242424240)
    document = gdb_run("knet --json", vmcore=patched.path).succeeded().json()
    after = {device["device"]: device for device in document["devices"]}
    assert after[lab0["device"]] == lab0 | {"ipv4": []}
    assert (after[lab1["device"]]["net"], after[lab1["device"]]["netns"]) == ("0x4242424242424240", None)
    assert after[lab1["device"]] | {"net": lab1["net"], "netns": lab1["netns"]} == lab1
    (problem,) = document["problems"]
    assert problem.startswith("lab0: ")
