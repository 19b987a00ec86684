"""What every kernel's small system must show: one gdb asks all of it, check() compares it with what was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtures.kernels.system import System
from fixtures.kernels.world import World
from pytest_gdb_fixtures.process import Gdb, Run

DAMAGED = {
    "bad.link": "queue.link",
    "bad.count": "queue.qlen",
    "bad.frags": "shinfo.nr_frags",
    "bad.freed": "skb.freed",
    "bad.page": "shinfo.frag",
    "bad.behind": "shinfo.frag",
    "bad.zerocopy": "shinfo.tx_flags",
    "bad.frag_list": "shinfo.frag_list",
}
HEALTHY = ("tcp", "listener", "udp", "corked", "udp6", "unix", "unix.peer", "netlink", "packet", "raw")
SLABS = ("udp.receive1", "freed", "sheaved", "pair.original", "CPU slab object")
FREE_PAGES = ("free block", "free block, second page")

# A function of each module by an address in it; and the packet of several parts, as it would go over the wire.
_ASK = """
import json
from gdb_kdump import session
from gdb_kdump.kernel.module.sysfs import ModuleSysfs
from gdb_kdump.kernel.module.modules import Modules
from gdb_kdump.kernel.net.packet import SkbData
here = session.current()
modules = here.once(Modules)
found = [modules.find_symbol(modules.find(addr), addr) for addr in (0xffffffffa0000480, 0xffffffffa0100011)]
sysfs, module = here.once(ModuleSysfs), modules.find(0xffffffffa0100011)
placed = [sysfs.build_id(module), dict(sysfs.sections(module))]
packet = here.once(SkbData).read({skb:#x})
print(json.dumps({{"symbols": found, "placed": placed, "packet": packet.data.decode(), "problems": packet.gaps}}))
"""


@dataclass(frozen=True)
class Shown:
    """What gdb printed of a system: JSON documents by the command that printed them."""

    system: System
    run: Run
    documents: dict[str, Any]

    def __getitem__(self, command: str) -> Any:
        return self.documents[command]


def ask(system: System, folder: Path, slub: bool = True) -> Shown:
    """Open a system and ask everything of it, without `slub` nothing of its slabs."""
    at = system.at
    commands = ["kinfo layout", "kps", "ksock", "klog", "kmod", "skbcheck --all", *(["kslab -l"] if slub else [])]
    commands += [f"skbwalk {at[name]:#x}" for name in HEALTHY]
    commands += [f"skbcheck --sock {at[name]:#x}" for name in (*HEALTHY, *DAMAGED)]
    commands += [f"shinfo {at['udp.receive1']:#x}"]
    commands += [f"kslab {at[name]:#x}" for name in (*SLABS, *FREE_PAGES)] if slub else []
    script = folder / "ask.py"
    script.write_text(_ASK.format(skb=at["udp.receive1"]))
    lines = [f"{command} --json" for command in commands] + [f"source {script}"]
    run = Gdb(folder)(*lines, vmcore=system.vmcore, vmlinux=system.vmlinux).succeeded()
    documents = run.documents
    assert len(documents) == len(lines), run.output
    return Shown(system, run, dict(zip([*commands, "ask"], documents)))


def queues(shown: Shown, name: str) -> dict[str, list[str]]:
    """The queues of a socket by name, with the names of what is on them; those that are empty left out."""
    document = shown[f"skbwalk {shown.system.at[name]:#x}"]
    assert all(queue["complete"] and not queue["findings"] for queue in document["queues"]), document
    found = {
        queue["queue"]: [shown.system.name(skb["skb"]) for skb in queue["skbs"]] for queue in document["queues"]
    }  # fmt: skip
    return {queue: skbs for queue, skbs in found.items() if skbs}


def check_machine(shown: Shown) -> None:
    """Names, clocks, tasks, messages, modules."""
    info = shown["kinfo layout"]
    assert (info["release"], info["nodename"], info["cpus"]) == (shown.system.kernel.release, "fixture", 2)
    assert (info["uptime"], info["panic"]["comm"], info["panic"]["cpu"]) == (4711, "crasher", 1)
    assert info["panic"]["message"] == World.MESSAGES[2][2]
    tasks = [(task["pid"], task["comm"], task["state"], task["cpu"]) for task in shown["kps"]["tasks"]]
    assert tasks == [
        (0, "swapper/0", "R", 0), (0, "swapper/1", "R", 1), (1, "init", "S", 0), (12, "worker", "S", 0),
        (2, "kthreadd", "D", 0), (77, "defunct", "Z", 0), (100, "crasher", "R", 1),
    ]  # fmt: skip
    records = [(record["level"], record["ts_nsec"], record["text"]) for record in shown["klog"]["records"]]
    assert records == list(World.MESSAGES)
    assert [record["seq"] for record in shown["klog"]["records"]] == [40, 41, 42, 43]
    modules = [(module["name"], module["base"], module["size"]) for module in shown["kmod"]["modules"]]
    assert modules == [("second", "0xffffffffa0000000", 0x3000), ("first", "0xffffffffa0100000", 0x3000)]
    assert shown["ask"]["symbols"] == [["second_work", 0x80], ["first_init", 1]]
    sections = {".text": 0xFFFFFFFFA0100000, ".data": 0xFFFFFFFFA0101000}
    assert shown["ask"]["placed"] == [b"firs".hex(), sections]


def check_sockets(shown: Shown) -> None:
    """Every socket is found in its table, with its ends, its queues and whoever has it open."""
    found = shown["ksock"]
    assert not found["problems"]
    rows = {
        shown.system.name(row["sock"]): (
            row["family"], row["type"], row["protocol"], row["local"], row["peer"], row["fd"], sorted(row["tables"])
        )
        for row in found["socks"]
    }  # fmt: skip
    peer = f"sock 0x{shown.system.at['unix.peer']:016x}"
    assert rows == {
        "tcp": ("INET", "STREAM", "TCP", "10.0.0.1:443", "10.0.0.2:40000", 3, ["fd", "tcp"]),
        "timewait": ("INET", "", "TCP", "10.0.0.1:443", "10.0.0.3:50000", None, ["tcp"]),
        "listener": ("INET", "STREAM", "TCP", "0.0.0.0:80", "", None, ["tcp"]),
        "udp": ("INET", "DGRAM", "UDP", "0.0.0.0:53", "", 4, ["fd", "udp"]),
        "corked": ("INET", "DGRAM", "UDP", "0.0.0.0:5000", "", None, ["udp"]),
        "udp6": ("INET6", "DGRAM", "UDPv6", "[2001:db8::1]:546", "", None, ["udp"]),
        "unix": ("UNIX", "STREAM", "UNIX", "/run/fixture.sock", peer, 64, ["fd", "unix"]),
        "unix.peer": ("UNIX", "STREAM", "UNIX", "", "/run/fixture.sock", None, ["unix"]),
        "netlink": ("NETLINK", "RAW", "NETLINK", "port 4242", "port 0", None, ["netlink"]),
        "packet": ("PACKET", "RAW", "PACKET", "ethertype 0x0003 ifindex 2", "", None, ["packet"]),
        "raw": ("INET", "RAW", "RAW", "0.0.0.0:1", "", None, ["raw"]),
    }
    assert {row["netns"] for row in found["socks"]} == {4026531992}


def check_queues(shown: Shown) -> None:
    """What waits to be sent, received, sorted; a kernel without an rtx queue keeps what was sent in the write queue."""
    has = shown.system.kernel.has
    sent, unsent = [f"tcp.rtx{number}" for number in range(3)], [f"tcp.write{number}" for number in range(2)]
    sending = {"rtx": sent, "write": unsent} if "rtx" in has else {"write": sent + unsent}
    early = [f"tcp.ofo{number}" for number in range(3)]
    assert queues(shown, "tcp") == {
        **sending, "receive": ["tcp.receive0"], "backlog": ["tcp.backlog0"], "ofo": early
    }  # fmt: skip
    document = shown[f"skbwalk {shown.system.at['tcp']:#x}"]
    kinds = {queue["queue"]: queue["kind"] for queue in document["queues"]}
    assert kinds["ofo"] == ("list" if "ofo_list" in has else "rbtree")
    document = shown[f"skbwalk {shown.system.at['listener']:#x}"]
    accept = next(queue for queue in document["queues"] if queue["queue"] == "accept")
    assert (accept["qlen"], accept["walked"], accept["complete"]) == (1, 1, True)
    reader = {"reader": ["udp.reader0"]} if "reader" in has else {}
    assert queues(shown, "udp") == {"receive": ["udp.receive0", "udp.receive1"], **reader}
    assert queues(shown, "corked") == {"write": ["corked.write0"]}
    assert queues(shown, "unix") == {"receive": ["unix.receive0"]}


def check_packets(shown: Shown) -> None:
    """Fragments and frag_list: with offset and size, or head and tail pages, mixed up the bytes would be others."""
    assert shown["ask"]["problems"] == []
    assert shown["ask"]["packet"] == "H" * 100 + "S" * 1000 + "C" * 5000 + "L" * 300 + "M" * 400
    info = shown[f"shinfo {shown.system.at['udp.receive1']:#x}"]
    assert (info["fields"]["nr_frags"], info["findings"]) == (2, [])
    assert shown.system.name(info["fields"]["frag_list"]) == "udp.receive1.child0"


def check_slabs(shown: Shown) -> None:
    """Allocated and free objects, in slabs of one page and of several, on freelists that are encoded or not."""
    caches = {row["name"]: (row["allocated"], row["free"], row["unknown"]) for row in shown["kslab -l"]["caches"]}
    skbs = 27 + ("reader" in shown.system.kernel.has) + 2 * ("deferred" in shown.system.kernel.has)
    total = {row["name"]: row["objects"] for row in shown["kslab -l"]["caches"]}
    assert shown["kslab -l"]["missing"] == []
    assert caches["skbuff_fclone_cache"] == (2, total["skbuff_fclone_cache"] - 2, 0)
    assert caches["skbuff_head_cache"] == (skbs, total["skbuff_head_cache"] - skbs, 0)
    states = {name: shown[f"kslab {shown.system.at[name]:#x}"] for name in SLABS}
    assert {name: state["state"] for name, state in states.items()} == {
        "udp.receive1": "allocated", "freed": "free", "sheaved": "free", "pair.original": "allocated",
        "CPU slab object": "allocated",
    }  # fmt: skip
    assert (states["sheaved"]["reason"] == "it waits in a sheaf") is ("sheaves" in shown.system.kernel.has)
    # Since 7.0 no CPU has a slab of its own.
    places = ("full", "node 0, partial") if "barns" in shown.system.kernel.has else ("CPU 1, active",)
    assert states["CPU slab object"]["slab"]["place"] in places
    assert states["freed"]["slab"]["place"] in ("node 0, partial", "CPU 1, active")
    assert all(state["findings"] == [] for state in states.values())
    for name in FREE_PAGES:
        page = shown[f"kslab {shown.system.at[name]:#x}"]["page"]
        assert (page["kind"], page["order"], int(page["start"], 16)) == ("buddy", 1, shown.system.at["free block"])


def check_judgement(shown: Shown) -> None:
    """Nothing is said of what is healthy, and of each damage what it is; all sk_buffs are found, clones too."""
    for name in HEALTHY:
        document = shown[f"skbcheck --sock {shown.system.at[name]:#x}"]
        assert (document["verdict"], document["findings"]) == ("clean", []), name
    for name, rule in DAMAGED.items():
        document = shown[f"skbcheck --sock {shown.system.at[name]:#x}"]
        assert document["verdict"] == "corrupt", name
        found = {finding["rule"] for finding in document["findings"]}
        # The link of a freelist stands somewhere in a freed sk_buff, so more may be wrong with that.
        assert found == {rule} or (rule == "skb.freed" and rule in found), document
    everything = shown["skbcheck --all"]
    found = {finding["rule"] for finding in everything["findings"]}
    assert found == {"shinfo.nr_frags", "shinfo.frag", "shinfo.tx_flags", "shinfo.frag_list"}
    has = shown.system.kernel.has
    assert everything["checked"]["skbs"] == 30 + ("reader" in has) + 2 * ("deferred" in has)


CHECKS = (check_machine, check_sockets, check_queues, check_packets, check_slabs, check_judgement)
