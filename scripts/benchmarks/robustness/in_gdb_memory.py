"""Sourced in gdb by memory.py: damages a copy of a dump, opens it, runs commands, and repairs it again."""

import json
import mmap
import random
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gdb

from gdb_kdump.errors import KdumpError
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.module.modules import Modules
from gdb_kdump.kernel.net.all_socks import AllSocks
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.session import Session, current
from gdb_kdump.walks import Gaps

PAGE = 4096
ALWAYS = ("kps", "kbt")
COMMANDS = (
    "kinfo", "klog", "klog --json", "bt 30", "bt full 8",
    "kbt -a", "kbt -a --group", "kbt -f -v", "kbt -c 0,1", "klog -T", "kmod", "kmod -s", "ksock", "ksock -n --json",
    "kslab -l", "skbcheck --all", "ktriage", "ktriage --json", "thread apply 1-40 bt 20", "info threads",
    "skbwalk {sock}", "skbwalk {sock} --json", "skbcheck --sock {sock}", "skbcheck {skb}", "shinfo {skb}",
    "shinfo {skb} --json", "kstruct sk_buff {skb} -p", "kstruct sock {sock}", "kstruct task_struct {task} --json",
    "kslab {skb}", "kslab {sock}", "kslab {task}", "kbt {task}", "kps {task}", "kinfo layout", "p $task(1)->comm",
    "p *$skb_shinfo({skb})", "p $per_cpu(\"runqueues\", 1).nr_running", "skbwalk {sock} --pcap /dev/null/x",
)  # fmt: skip
# Variables of the kernel that walks begin with.
VARIABLES = (
    "init_task", "runqueues", "modules", "slab_caches", "tcp_hashinfo", "udp_table", "net_namespace_list", "init_net",
    "nl_table", "proto_list", "prb", "printk_rb_static", "page_offset_base", "vmemmap_base", "vmalloc_base", "max_pfn",
    "nr_cpu_ids", "__per_cpu_offset", "__cpu_online_mask", "__cpu_possible_mask", "nr_node_ids", "panic_cpu",
    "crashing_cpu", "crash_notes", "skbuff_head_cache", "skbuff_fclone_cache", "skbuff_cache", "net_hotdata",
    "__kfence_pool", "kfence_metadata", "slab_kset", "stack_pools", "stack_slabs", "init_uts_ns", "tk_core",
    "unix_socket_table", "raw_v4_hashinfo", "raw_v6_hashinfo", "ping_table", "task_state_array",
)  # fmt: skip


def run(seed: int, first: int, rounds: int, copy: str, vmlinux: str, report: str, errors: str) -> None:
    """The rounds from `first` on; every line of `report` is a JSON object, `errors` is where gdb's stderr goes."""
    gdb.execute("set python print-stack full")
    gdb.execute("set pagination off")
    gdb.execute(f"target kdump {copy} {vmlinux}", to_string=True)
    kinds = places(current())
    with open(copy, "r+b") as stream, mmap.mmap(stream.fileno(), 0) as file, open(report, "a", buffering=1) as lines:
        pages = Locator(file, current())
        members = Members(current())
        plan = [
            list(damage(random.Random(f"{seed} {number}"), kinds, pages, members)) for number in range(first, rounds)
        ]
        for number, (kind, *patches) in enumerate(plan, start=first):
            source = random.Random(f"{seed} {number} commands")
            lines.write(json.dumps({"what": "begin", "round": number, "kind": kind, "mutations": len(patches)}) + "\n")
            undo = [(at, bytes(file[at : at + len(data)])) for at, data in patches]
            for at, data in patches:
                file[at : at + len(data)] = data
            try:
                names = {name: hex(source.choice(kinds[name])[0]) for name in ("skb", "sock", "task")}
                chosen = [*ALWAYS, *(text.format(**names) for text in source.sample(COMMANDS, 5))]
                for command in (f"target kdump {copy} {vmlinux}", *chosen):
                    Path(report).with_suffix(".current").write_text(command)
                    lines.write(json.dumps(attempt(command, errors)) + "\n")
            finally:
                for at, data in reversed(undo):
                    file[at : at + len(data)] = data


def attempt(command: str, errors: str) -> dict[str, object]:
    """Run one command: "answer", "error" of ours or of GDB, or "bug"."""
    before = Path(errors).stat().st_size
    started, outcome, failure, output = time.monotonic(), "answer", "", ""
    try:
        output = gdb.execute(command, to_string=True)
    except gdb.error as error:
        outcome, output = "error", str(error)
    except KeyboardInterrupt:
        outcome, failure = "bug", "KeyboardInterrupt"
    seconds = time.monotonic() - started
    gdb.flush(gdb.STDERR)
    with open(errors, errors="replace") as stream:
        stream.seek(before)
        said = stream.read()
    for sign in ("Traceback (most recent", "Python Exception", "Error occurred in Python", "internal-error"):
        if sign in output or sign in said:
            outcome, failure = "bug", " | ".join((output[-300:] + " " + said[-1500:]).split("\n"))
    name = "target kdump" if command.startswith("target kdump") else command
    return {"what": "command", "command": name, "outcome": outcome, "failure": failure, "seconds": seconds,
            "bytes": len(output)}  # fmt: skip


def places(session: Session) -> dict[str, list[tuple[int, int]]]:
    """(address, size) of the objects of each kind."""
    find, layout = session.debuginfo.find_address, session.layout
    size = lambda tag: layout.size(tag)  # noqa: E731
    tasks = session.once(Tasks).all(Gaps())
    skbs = list(session.once(SkbObjects).all(Gaps()))
    socks = [info.sock.addr for info in session.once(AllSocks).all(Gaps())]
    slabs, pages = session.once(SlubAllocator), session.once(Pages)
    caches = slabs.caches(Gaps())
    structs = [page for cache in caches for page in slabs.slabs_of(cache, Gaps())]
    shinfos = [session.once(Skbs).skb_end_pointer(skb) for skb in skbs]
    kinds = {
        "task": [(task.addr, size("task_struct")) for task in tasks],
        "stack": [(task.sp & -64, 512) for task in tasks if task.stack and not task.running],
        "panic stack": _panic_stack(),
        "skb": [(skb, size("sk_buff")) for skb in skbs],
        "shinfo": [(at, size("skb_shared_info")) for at in shinfos],
        "sock": [(sock, 1024) for sock in socks],
        "slab": [(page, 64) for page in structs],
        "object": [(pages.address_of(page), 512) for page in structs],
        "cache": [(cache.addr, size("kmem_cache")) for cache in caches],
        "module": [(module.addr, size("module")) for module in session.once(Modules).all(Gaps())],
        "log": list(_log(session)),
        "variable": [(at, 64) for name in VARIABLES if (at := find(name)) is not None],
        "percpu": [(session.once(PerCpu).symbol(name, cpu), 64) for name in ("runqueues", "softnet_data")
                   for cpu in (0, 1) if find(name) is not None],
    }  # fmt: skip
    kinds["percpu"] += [(session.once(PerCpu).pointer(cache.cpu_slab, cpu), 32) for cache in caches for cpu in (0, 1)]
    return {kind: found for kind, found in kinds.items() if found}


def _panic_stack() -> list[tuple[int, int]]:
    sp = int(gdb.parse_and_eval("(unsigned long)$sp"))
    return [(sp & -64, 512), (sp + 512 & -64, 1024)]


def _log(session: Session) -> Iterator[tuple[int, int]]:
    ring = gdb.parse_and_eval("*prb")
    yield int(ring.address), ring.type.sizeof
    descs, infos = ring["desc_ring"]["descs"], ring["desc_ring"]["infos"]
    for index in range(0, 200, 3):
        yield int(descs) + index * descs.dereference().type.sizeof, descs.dereference().type.sizeof
        yield int(infos) + index * infos.dereference().type.sizeof, 32
    yield int(ring["text_data_ring"]["data"]), 4096


class Locator:
    """Where in the file a virtual address stands: pages are looked for by what they hold."""

    def __init__(self, file: mmap.mmap, session: Session) -> None:
        self._file, self._session = file, session
        self._found: dict[int, int | None] = {}

    def find(self, addr: int) -> int | None:
        """The offset of an address, or None where its page is not there, or there more than once."""
        page = addr & -PAGE
        if page not in self._found:
            try:
                data = self._session.memory.read(page, PAGE)
            except KdumpError:
                self._found[page] = None
            else:
                at = self._file.find(data)
                self._found[page] = at if at > 0 and self._file.find(data, at + 1) < 0 else None
        at = self._found[page]
        return None if at is None else at + addr % PAGE


TAGS = {"task": "task_struct", "skb": "sk_buff", "shinfo": "skb_shared_info", "sock": "sock", "slab": "slab",
        "cache": "kmem_cache", "module": "module"}  # fmt: skip


class Members:
    """Where the members stand that the commands read."""

    def __init__(self, session: Session) -> None:
        for command in ("kbt", "kmod", "skbcheck --all", "ksock", "kslab -l"):
            gdb.execute(command, to_string=True)
        self._layout = session.layout

    def offsets(self, tag: str) -> list[int]:
        """The offsets of the members of a struct that anybody has asked for."""
        names = sorted(name for name in self._layout.chosen if name.startswith(f"{tag}."))
        return [self._layout.offset(name) for name in names]


def damage(
    source: random.Random, kinds: dict[str, list[tuple[int, int]]], pages: Locator, members: Members
) -> Iterator[str | tuple[int, bytes]]:
    """The kind of memory that a round damages, and then (offset in the file, new bytes) for each mutation."""
    kind = source.choice(sorted(kinds))
    yield kind
    for _ in range(source.choice((1, 2, 3, 6))):
        addr, size = source.choice(kinds[kind])
        offsets = members.offsets(TAGS.get(kind, ""))
        if offsets and source.random() < 0.7:  # where it hurts
            addr += source.choice(offsets)
        else:
            addr += source.randrange(max(size // 8, 1)) * 8
        at = pages.find(addr)
        if at is None:
            continue
        room = PAGE - addr % PAGE
        others = [other for other, _ in source.choices(kinds[source.choice(sorted(kinds))], k=2)]
        yield at, source.choice(WAYS)(source, addr, others)[:room]


def _word(value: Callable[[random.Random, int, list[int]], int]) -> Callable[[random.Random, int, list[int]], bytes]:
    return lambda source, addr, others: struct.pack("<Q", value(source, addr, others) & (1 << 64) - 1)


WAYS = (
    _word(lambda source, addr, others: source.getrandbits(64)),
    _word(lambda source, addr, others: source.choice((0, 1, -1, 2**31, 2**32 - 1, 2**63, 4096, 0x4002030400585A08))),
    _word(lambda source, addr, others: source.randrange(300)),
    _word(lambda source, addr, others: others[0]),
    _word(lambda source, addr, others: others[0] + source.choice((1, 4, 8, 16, 24, 512))),
    _word(lambda source, addr, others: addr),
    _word(lambda source, addr, others: addr + source.choice((-8, 8, -4096, 4096, 1))),
    _word(lambda source, addr, others: 0xFFFF888000000000 + source.getrandbits(38)),
    lambda source, addr, others: struct.pack("<I", source.choice((0, 1, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1))),
    lambda source, addr, others: struct.pack("<H", source.getrandbits(16)),
    lambda source, addr, others: bytes((source.getrandbits(8),)),
    lambda source, addr, others: source.randbytes(source.choice((16, 64, 256, 1024))),
    lambda source, addr, others: bytes(source.choice((16, 64, 512))),
)
