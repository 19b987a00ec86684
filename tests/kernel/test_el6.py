"""The reference case on a dump of its own kernel: every value that the published walk-through shows.

tests/fixtures/el6 makes the dump; what it has beyond the walk-through is marked as ours there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures import el6
from fixtures.el6 import case, cpus
from fixtures.el6.sockets import ROWS
from fixtures.el6.system import LOG
from pytest_gdb_fixtures import Gdb, Run


@pytest.fixture(scope="session", params=["with CFI", "without CFI"])
def dump(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The vmlinux and the vmcore; debug packages of that age have .debug_frame, a kernel built without it has not."""
    return el6.make(tmp_path_factory.mktemp("el6"), debug_frame=request.param == "with CFI")


def run(gdb_run: Gdb, dump: tuple[Path, Path], *commands: str, **options: Any) -> Run:
    vmlinux, vmcore = dump
    return gdb_run(*commands, vmcore=vmcore, vmlinux=vmlinux, **options).succeeded()


def text(addr: int) -> str:
    return f"0x{addr:016x}"


def test_the_backtrace(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    (task,) = run(gdb_run, dump, "kbt --json").json()["tasks"]
    assert (task["pid"], task["task"], task["cpu"], task["comm"]) == (case.PID, text(case.TASK), case.CPU, case.COMM)
    assert (task["ended"], task["note"]) == ("user", "")
    frames = [frame for frame in task["frames"] if not frame["inlined"]]
    # crash does not list the function that the exception struck, only its address: it called no other.
    struck = frames.pop(6)
    assert struck["function"] == "put_page"
    found = [(frame["function"], int(frame["stack"], 16), int(frame["pc"], 16)) for frame in frames]
    assert found == list(case.FRAMES)
    kinds = {frame["function"]: frame["kind"] for frame in frames if frame["kind"] != "normal"}
    assert kinds == {"general_protection": "exception", "system_call_fastpath": "syscall"}
    assert frames[5]["registers"]["r12"] == text(case.SKB)


def test_what_lies_on_the_stack(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    (task,) = run(gdb_run, dump, "kbt -T -e --json").json()["tasks"]
    sure = {(int(word["address"], 16), int(word["pc"], 16)) for word in task["text_symbols"] if not word["guess"]}
    assert {(stack, pc) for _, stack, pc in case.FRAMES} <= sure
    entry, user = (frame for frame in task["exception_frames"] if not frame["guess"])
    assert (entry["function"], entry["registers"]["r12"]) == ("put_page", text(case.SKB)) and user["user_mode"]


WITHOUT = ("crashing_cpu", "per_cpu__current_task", "__per_cpu_offset", "cpu_online_mask", "nr_cpu_ids", "crash_notes")


@pytest.mark.parametrize("notes", ["of every CPU", "of the panic task's CPU", "from the end"])
@pytest.mark.parametrize("absent", [(), WITHOUT], ids=["with symbols", "without"])
def test_the_backtrace_with_less(gdb_run: Gdb, tmp_path: Path, notes: str, absent: tuple[str, ...]) -> None:
    """The same from fewer registers or other ones, and without what says which CPU was where."""
    vmlinux = el6.make_vmlinux(tmp_path)
    image = el6.make_image(vmlinux)
    if notes == "of the panic task's CPU":
        image.registers = [image.registers[case.CPU]]
    elif notes == "from the end":
        # In machine_kexec, behind its last call: its frame's link stands below its return address.
        (_, called_at, pc), (_, returns_to, _) = case.FRAMES[:2]
        regs = {"rip": pc, "rsp": called_at + 8, "rbp": returns_to - 8, "cs": 0x10, "pid": case.PID}
        image.registers[case.CPU] = regs
    image.write(tmp_path / "vmcore")
    subprocess.run(["objcopy", *(f"--strip-symbol={name}" for name in absent), vmlinux], check=True)
    (task,) = run(gdb_run, (vmlinux, tmp_path / "vmcore"), "kbt --json").json()["tasks"]
    assert (task["pid"], task["cpu"], task["ended"], task["note"]) == (case.PID, case.CPU, "user", "")
    frames = [(frame["function"], int(frame["pc"], 16)) for frame in task["frames"] if not frame["inlined"]]
    assert [frame for frame in frames if frame[0] != "put_page"] == [(name, pc) for name, _, pc in case.FRAMES]


def test_gdbs_own_backtrace(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    shown = run(gdb_run, dump, "backtrace", "frame function skb_release_data", "print/x $r12", "print/x $rip")
    functions = [function for function, _, _ in case.FRAMES[6:-1]]
    at = [shown.stdout.index(f" in {function} (") for function in functions]
    assert at == sorted(at)
    assert "??" not in shown.stdout and "Backtrace stopped" not in shown.output
    assert f"= {case.SKB:#x}\n" in shown.stdout
    assert f"= {case.FRAMES[6][2]:#x}\n" in shown.stdout


def test_the_disassembly(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    shown = run(gdb_run, dump, "info line *0xffffffff8142c700", "x/5i 0xffffffff8142c700")
    assert 'Line 340 of "net/core/skbuff.c" starts at address 0xffffffff8142c700 <skb_release_data>' in shown.stdout
    code = [
        line.split("\t", 1)[1] for line in shown.stdout.splitlines() if "<skb_release_data" in line and "\t" in line
    ]
    assert [" ".join(line.split()) for line in code] == [
        "push %rbp", "mov %rsp,%rbp", "push %r12", "push %rbx", "nopl 0x0(%rax,%rax,1)",
    ]  # fmt: skip


def test_the_sk_buff(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    shown = run(gdb_run, dump, f"kstruct sk_buff {case.SKB:x} --json", f"x/16xg {case.HEAD:#x}")
    document = shown.json()
    assert document["size"] == 232
    value = document["value"]
    zero = "0x" + 16 * "0"
    assert {name: value[name] for name in ("next", "prev", "dev", "sp")} == dict.fromkeys(
        ("next", "prev", "dev", "sp"), zero
    )
    assert (
        value["tstamp"]["tv64"] == value["_skb_dst"] == value["data_len"] == value["mac_len"] == value["hdr_len"] == 0
    )
    assert value["sk"] == text(case.SOCK)
    assert set(value["cb"]) <= {"\0"}
    assert (value["head"], value["data"]) == (text(case.HEAD), text(case.DATA))
    assert (value["len"], value["end"], value["truesize"], value["users"]["counter"]) == (1500, 1536, 1768, 1)
    words = [word for line in shown.stdout.splitlines() if line.startswith("0x") for word in line.split("\t")[1:]]
    assert [int(word, 16) for word in words] == list(case.BUFFER)


def test_the_shared_info(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    document = run(gdb_run, dump, f"shinfo {case.SKB:x} --json").json()
    assert document["shinfo"] == document["end"] == "0xffff881161aa4e00"
    fields = document["fields"]
    assert fields["dataref"]["counter"] == 10749386
    numbers = {"nr_frags": 36864, "gso_size": 51745, "gso_segs": 4753, "gso_type": 33323, "ip6_frag_id": 203}
    assert {name: fields[name] for name in numbers} == numbers
    assert fields["tx_flags"]["flags"] == 0
    assert fields["frag_list"] == "0x017306e8a8ed53c9"
    stamps = {name: fields["hwtstamps"][name]["tv64"] for name in ("hwtstamp", "syststamp")}
    assert stamps == {"hwtstamp": -3881663074131507766, "syststamp": 650841363090}
    assert {"shinfo.nr_frags", "shinfo.frag_list"} <= {finding["rule"] for finding in document["findings"]}


def test_the_sock_and_its_queue(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    commands = (
        f"kstruct sock {case.SOCK:x} --json",
        f"skbwalk {case.SOCK:x} --json",
        f"kstruct sk_buff {case.NEXT_SKB:x} --json",
    )
    sock, walk, queued = run(gdb_run, dump, *commands).documents
    common = sock["value"]["__sk_common"]
    for node in ("skc_node", "skc_nulls_node"):
        assert common[node] == {"next": "0xffff8810debddb80", "pprev": "0xffff881204a84ec0"}
    numbers = {"skc_hash": 33728, "skc_family": 2, "skc_state": 1, "skc_reuse": 1}
    assert {name: common[name] for name in numbers} == numbers
    assert common["skc_refcnt"]["counter"] == 2
    head = {"next": text(case.NEXT_SKB), "prev": text(case.NEXT_SKB), "qlen": 1, "lock": {"raw_lock": {"slock": 0}}}
    assert sock["value"]["sk_write_queue"] == head
    (write,) = (queue for queue in walk["queues"] if queue["queue"] == "write")
    assert write["head"] == "0xffff88114b4f0c08"
    assert (write["qlen"], write["walked"], write["complete"], write["findings"]) == (1, 1, True, [])
    (skb,) = write["skbs"]
    assert (skb["skb"], skb["len"], skb["data_len"]) == ("0xffff8810d3f26780", 1500, 1432)
    value = queued["value"]
    assert value["next"] == value["prev"] == text(case.WRITE_QUEUE)
    assert (value["sk"], value["mac_len"], value["hdr_len"]) == (text(case.SOCK), 0, 0)


def test_triage_tells_the_case(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    story = run(gdb_run, dump, "ktriage --json").json()
    assert (story["skb"], story["sock"], story["verdict"]) == (text(case.SKB), text(case.SOCK), "corrupt")
    assert story["panic"]["pid"] == case.PID
    overrun = story["overrun"]
    assert (overrun["kind"], overrun["period"], overrun["first"]) == ("payload", 32, "0xffff881161aa4e00")
    assert "records of 32 bytes run on across end" in story["summary"]
    assert "behind an IPv4 header at offset 30" in story["summary"]
    assert "shinfo.overrun" in {finding["rule"] for finding in story["findings"]}
    (write,) = (queue for queue in story["queues"] if queue["queue"] == "write")
    assert write["skbs"] == [text(case.NEXT_SKB)]


def test_what_stands_around_the_case(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    shown = run(gdb_run, dump, "kinfo --json", "kps --json", "klog --json", "kmod --json", "kbt -a --json")
    info, tasks, log, modules, traces = shown.documents
    assert info["release"] == el6.RELEASE
    assert info["panic"]["message"].startswith("general protection fault: 0000 [#1] SMP")
    assert (info["panic"]["pid"], info["panic"]["cpu"]) == (case.PID, case.CPU)
    by_pid = {task["pid"]: task for task in tasks["tasks"]}
    assert {by_pid[pid]["comm"] for pid in (1, 1844, 27481, 27600)} == {"init", "rsyslogd", case.COMM, "sh"}
    assert sum(task["pid"] == 0 for task in tasks["tasks"]) == 8
    assert [record["text"] for record in log["records"]] == [line[3:] for line in LOG]
    assert [module["name"] for module in modules["modules"]] == ["udp_media"]
    ended = {trace["pid"]: trace["ended"] for trace in traces["tasks"] if trace["pid"]}
    assert ended == {
        1: "user",
        2: "kthread",
        23: "kthread",
        1844: "user",
        27481: "user",
        27528: "user",
        27600: "user",
        4242: "user",
    }
    sleeping = next(trace for trace in traces["tasks"] if trace["pid"] == 1844)
    assert [f["function"] for f in sleeping["frames"]] == [
        "schedule",
        "do_select",
        "sys_select",
        "system_call_fastpath",
    ]


SOFTIRQ = ["net_rx_action", "__do_softirq", "call_softirq", "do_softirq"]


@pytest.mark.parametrize(
    ("cpu", "functions", "kinds", "ended"),
    [
        (0, ["mwait_idle", "cpu_idle", "start_secondary"], {}, "idle"),
        (
            cpus.INTERRUPTED,
            [*SOFTIRQ, "irq_exit", "do_IRQ", "common_interrupt", "mwait_idle", "cpu_idle", "start_secondary"],
            {"common_interrupt": "irq"},
            "idle",
        ),
        (cpus.SENDING, [*SOFTIRQ, "sys_sendto", "system_call_fastpath"], {"system_call_fastpath": "syscall"}, "user"),
        (cpus.CALLED, ["mwait_idle", "cpu_idle", "start_secondary"], {}, "idle"),
    ],
)
def test_the_other_cpus(
    gdb_run: Gdb, dump: tuple[Path, Path], cpu: int, functions: list[str], kinds: dict[str, str], ended: str
) -> None:
    """Across the IRQ stack, with the link at its end, and from a function's first instruction."""
    shown = run(gdb_run, dump, f"kbt -c {cpu} --json", f"thread {cpu + 1}", "thread apply all -q bt")
    (task,) = shown.json()["tasks"]
    assert [frame["function"] for frame in task["frames"]] == functions
    assert {f["function"]: f["kind"] for f in task["frames"] if f["kind"] != "normal"} == kinds
    assert task["ended"] == ended
    if cpu == cpus.INTERRUPTED:
        assert task["frames"][6]["registers"]["rip"] == task["frames"][7]["pc"]
    assert "crash_note_area" not in shown.stdout  # what stands at address 0
    assert "??" not in shown.stdout and "Backtrace stopped" not in shown.output
    # Without ORC GDB cannot be led to a stack below, and says so.
    assert "GDB's backtrace ends here: previous frame inner to this frame" in shown.stdout


def test_every_socket(gdb_run: Gdb, dump: tuple[Path, Path]) -> None:
    """In a table of an old kind each, and the case's socket between its neighbours; who has it open."""
    found, judged = run(gdb_run, dump, "ksock --json", "skbcheck --all --json").documents
    assert found["problems"] == []
    keys = ("family", "type", "protocol", "state", "local", "peer", "pid", "fd")
    rows = [(*(row[key] for key in keys), sorted(row["tables"])) for row in found["socks"]]
    assert sorted(map(str, rows)) == sorted(map(str, ROWS))
    udp = [row["sock"] for row in found["socks"] if "udp" in row["tables"]]
    assert udp == [text(case.NODE_PPREV), text(case.SOCK), text(case.NODE_NEXT)]
    assert {finding["object"] for finding in judged["findings"]} == {text(case.SKB)}
    assert judged["checked"]["skbs"] == 2


def test_the_allocator_is_slab(gdb_run: Gdb, in_gdb: Callable[..., Any], dump: tuple[Path, Path]) -> None:
    def body(addresses: list[int]) -> list[list[Any]]:
        from gdb_kdump import session
        from gdb_kdump.kernel.mm.allocations import Allocations
        from gdb_kdump.kernel.net.skb_caches import SkbObjects
        from gdb_kdump.walks import Gaps

        opened = session.current()
        places = [opened.once(Allocations).of(addr) for addr in addresses]
        return [[p.kind, p.cache, p.start, p.state, p.is_skb] for p in places] + [
            sorted(opened.once(SkbObjects).all(Gaps()))
        ]

    vmlinux, vmcore = dump
    first, last = case.SKB - 2 * 256, case.SKB + 12 * 256  # of the 15 objects of its slab
    asked = [case.SKB, case.SKB + 100, first, last, case.HEAD + 0x500, case.SOCK, last + 256]
    *places, skbs = in_gdb(body, asked, vmcore=vmcore, vmlinux=vmlinux)
    assert places[:6] == [
        ["slab", "skbuff_head_cache", case.SKB, "allocated", True],
        ["slab", "skbuff_head_cache", case.SKB, "allocated", True],
        ["slab", "skbuff_head_cache", first, "free", True],  # in the slab's chain
        ["slab", "skbuff_head_cache", last, "free", True],  # in a CPU's array
        ["slab", "size-2048", case.HEAD, "allocated", False],
        ["slab", "UDP", case.SOCK, "allocated", False],
    ]
    assert places[6][0] == "page"  # behind the last object
    assert skbs == sorted([case.SKB, case.NEXT_SKB])
    shown = gdb_run(f"skbcheck {case.SKB:x} {first:x}", "kslab -l", vmcore=vmcore, vmlinux=vmlinux)
    assert "kslab: the kernel's allocator is SLAB: only SLUB's slabs can be shown" in shown.stderr
    assert "not judged" not in shown.stdout
    assert "skb.freed" in shown.stdout


def test_the_vmlinux_of_another_build_is_refused(gdb_run: Gdb, tmp_path: Path) -> None:
    """Its VMCOREINFO has no BUILD-ID: the banner tells."""
    vmlinux, vmcore = el6.make(tmp_path)
    other = tmp_path / "other"
    other.write_bytes(vmlinux.read_bytes().replace(b"#1 SMP Wed Nov 9 08:03:13", b"#2 SMP Wed Nov 9 08:03:14"))
    shown = gdb_run(vmcore=vmcore, vmlinux=other)
    assert "is the vmlinux of another kernel: its banner is" in shown.stderr
    assert len(shown.errors) == 1


def test_the_vmlinux_is_found_by_its_banner(gdb_run: Gdb, tmp_path: Path) -> None:
    vmlinux, vmcore = el6.make(tmp_path)
    shown = gdb_run("kinfo --json", vmcore=vmcore).succeeded()
    assert shown.json()["vmlinux"] == str(vmlinux)
