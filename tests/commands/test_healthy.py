"""Healthy dumps, end to end, on every kernel: each answer is the kernel's own, and nothing is called corrupt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

# Members that the kernel's own answers and `struct sk_buff` have under one name and in one meaning.
SKB_MEMBERS = ("len", "data_len", "truesize", "cloned", "nohdr", "fclone", "head_frag", "pfmemalloc", "mac_header",
               "network_header", "transport_header", "head", "data")  # fmt: skip
SHINFO_MEMBERS = ("nr_frags", "tx_flags", "gso_size", "gso_segs", "gso_type", "flags", "frag_list")


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def users_tasks(dump: LabDump) -> list[dict[str, Any]]:
    return [task for task in dump.truth["tasks"] if not task["kernel"]]


def comm(text: str) -> str:
    """A comm as the truth has it, a character per byte, in our spelling: UTF-8, with escapes where it is none."""
    return text.encode("latin-1").decode("utf-8", "backslashreplace")


def test_kps_is_the_kernels_task_list(gdb_run: Gdb, dump: LabDump) -> None:
    shown = gdb_run("kps --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    truth = {(task["task"], task["pid"], comm(task["comm"])) for task in dump.truth["tasks"]}
    here = {(task["task"], task["pid"], task["comm"]) for task in shown}
    # The idle task of each CPU that is not the first is on no task list of the kernel.
    assert truth <= here
    assert {pid for _, pid, _ in here - truth} <= {0}
    assert len(shown) == len(here)


def test_kps_states_are_the_kernels(gdb_run: Gdb, dump: LabDump) -> None:
    shown = {task["task"]: task for task in gdb_run("kps --json", vmcore=dump.vmcore).succeeded().json()["tasks"]}
    letters = {0x0: "R", 0x1: "S", 0x2: "D", 0x4: "T", 0x8: "t"}
    for task in users_tasks(dump):
        ended = {0x10: "X", 0x20: "Z"}.get(task["exit_state"])
        assert shown[task["task"]]["state"] == (ended or letters[task["state"] & 0xF]), task


def test_kps_finds_by_pid_address_and_pattern(gdb_run: Gdb, dump: LabDump) -> None:
    task = next(task for task in users_tasks(dump) if task["pid"] == 1)
    patterns = (str(task["pid"]), task["task"], task["task"][2:], "ini?")
    run = gdb_run(*(f"kps --json {pattern}" for pattern in patterns), vmcore=dump.vmcore).succeeded()
    for document in run.documents:
        assert [(found["pid"], found["task"]) for found in document["tasks"]] == [(1, task["task"])]
    assert len(run.documents) == len(patterns)


def test_kbt_of_sleeping_tasks_is_the_kernels_stack_trace(gdb_run: Gdb, dump: LabDump) -> None:
    sleeping = [task for task in dump.truth["tasks"] if task["stack_trace"]]
    assert len(sleeping) >= 5
    bounds = [f"print/x (unsigned long)&__sched_text_{bound}" for bound in ("start", "end")]
    run = gdb_run(*bounds, *(f"kbt --json {task['pid']}" for task in sleeping), vmcore=dump.vmcore).succeeded()
    low, high = (int(value, 16) for value in re.findall(r"^\$\d+ = (.*)$", run.stdout, re.MULTILINE))
    for task, document in zip(sleeping, run.documents, strict=True):
        (shown,) = document["tasks"]
        assert (shown["pid"], shown["task"]) == (task["pid"], task["task"])
        expected = [re.sub(r"\+.*", "", line) for line in task["stack_trace"]]
        frames = [frame for frame in shown["frames"] if not frame["inlined"]]
        # The kernel leaves out what is in the section of the scheduler: kernel/sched/core.c: in_sched_functions.
        left_out = len(frames) - len(expected)
        assert [bare(frame["function"]) for frame in frames[left_out:]] == [bare(name) for name in expected], shown
        assert all(low <= int(frame["pc"], 16) < high for frame in frames[:left_out]), shown
        assert shown["ended"] == ("kthread" if task["kernel"] else "user"), shown


def bare(function: str) -> str:
    """A function's name without what the compiler and the assembler have added to it."""
    return re.sub(r"(\.(constprop|isra|part|cold)(\.\d+)*)+$|_after_hwframe$", "", function)


def test_kbt_takes_pid_and_address_alike(gdb_run: Gdb, dump: LabDump) -> None:
    task = next(task for task in users_tasks(dump) if task["pid"] == 1)
    words = (str(task["pid"]), task["task"], task["task"][2:], f"(struct task_struct *){task['task']}", "$task(1)")
    run = gdb_run(*(f"kbt --json {word}" for word in words), vmcore=dump.vmcore).succeeded()
    assert len(run.documents) == len(words)
    assert all(document == run.documents[0] for document in run.documents)


def test_kbt_of_every_task_ends_where_it_should(gdb_run: Gdb, dump: LabDump) -> None:
    tasks = [task for task in dump.truth["tasks"] if task["pid"]]
    words = " ".join(task["task"] for task in tasks)
    traces = gdb_run(f"kbt --json {words}", vmcore=dump.vmcore).succeeded().json()["tasks"]
    assert [trace["task"] for trace in traces] == [task["task"] for task in tasks]
    for task, trace in zip(tasks, traces, strict=True):
        if task["exit_state"]:
            # PREEMPT_RT of 5.10 frees its stack later.
            died = any(frame["function"] == "do_task_dead" for frame in trace["frames"])
            assert died or "exited" in trace["ended"], trace
            continue
        assert trace["ended"] == ("kthread" if task["kernel"] else "user"), trace
        assert trace["frames"], trace


def test_kbt_a_shows_every_task(gdb_run: Gdb, dump: LabDump) -> None:
    traces = gdb_run("kbt -a --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    assert {task["task"] for task in dump.truth["tasks"]} <= {trace["task"] for trace in traces}


def test_kbt_c_shows_what_the_cpus_ran(gdb_run: Gdb, dump: LabDump) -> None:
    traces = gdb_run("kbt -c 0,1 --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    assert {trace["cpu"]: trace["task"] for trace in traces} == {cpu["cpu"]: cpu["task"] for cpu in dump.truth["cpus"]}
    for trace in traces:
        assert trace["ended"] == ("idle" if trace["pid"] == 0 else "user"), trace


def test_kbt_of_a_panic_is_the_kernels_call_trace(gdb_run: Gdb, dump: LabDump) -> None:
    """From panic() on: the kernel prints its trace before it goes on to the capture kernel."""
    (task,) = gdb_run("kbt --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    functions = [bare(frame["function"]) for frame in task["frames"] if not frame["inlined"]]
    found = [re.match(r" ?([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+$", line) for line in dump.truth["call_trace"]]
    printed = [bare(match[1]) for match in found if match]
    assert functions[functions.index("panic") :] == printed[printed.index("panic") :]
    assert "__crash_kexec" in functions[: functions.index("panic")]
    assert task["ended"] == "user"


def test_kstruct_has_the_kernels_members(gdb_run: Gdb, dump: LabDump) -> None:
    skbs = dump.skbs()
    run = gdb_run(*(f"kstruct sk_buff {skb} --json" for skb in skbs), vmcore=dump.vmcore).succeeded()
    assert len(run.documents) == len(skbs)
    for truth, document in zip(skbs.values(), run.documents, strict=True):
        assert document["type"] == "struct sk_buff"
        assert document["address"] == truth["skb"]
        shown = {name: document["value"][name] for name in SKB_MEMBERS if name in document["value"]}
        assert len(shown) >= len(SKB_MEMBERS) - 1, shown
        assert shown == {name: truth[name] for name in shown}


def test_shinfo_has_the_kernels_members(gdb_run: Gdb, dump: LabDump) -> None:
    skbs = dump.skbs()
    run = gdb_run(*(f"shinfo {skb} --json" for skb in skbs), vmcore=dump.vmcore).succeeded()
    assert len(run.documents) == len(skbs)
    for truth, shown in zip(skbs.values(), run.documents, strict=True):
        assert (shown["skb"], shown["head"], shown["end"]) == (truth["skb"], truth["head"], truth["end"])
        assert shown["shinfo"] == truth["shinfo"]
        fields = shown["fields"]
        assert ("flags" in fields) == (truth["flags"] >= 0)
        there = [name for name in SHINFO_MEMBERS if name in fields]
        assert {name: fields[name] for name in there} == {name: truth[name] for name in there}
        assert len(there) >= len(SHINFO_MEMBERS) - 1
        assert fields["dataref"]["counter"] == truth["dataref"]
        assert shown["findings"] == [], truth


def test_every_skb_is_clean(gdb_run: Gdb, dump: LabDump) -> None:
    skbs = dump.skbs()
    checked = gdb_run(f"skbcheck {' '.join(skbs)} --json", vmcore=dump.vmcore).succeeded().json()
    assert checked["findings"] == []
    assert checked["checked"]["skbs"] == len(skbs)
    assert checked["verdict"] == "clean"


def test_skbwalk_finds_what_the_kernel_counted(gdb_run: Gdb, dump: LabDump) -> None:
    socks = dump.truth["socks"]
    run = gdb_run(*(f"skbwalk {sock['sock']} --json" for sock in socks), vmcore=dump.vmcore).succeeded()
    skbs = dump.skbs()
    for sock, walk in zip(socks, run.documents, strict=True):
        assert walk["sock"] == sock["sock"]
        walked = {queue["queue"]: queue for queue in walk["queues"]}
        for truth in sock["queues"]:
            if truth["queue"] not in walked and not truth["members"]:
                continue  # a queue that sockets of this kind do not have
            queue = walked[truth["queue"]]
            where = f"{sock['label']} {truth['queue']}"
            assert queue["head"] == truth["head"], where
            assert queue["walked"] == truth["members"], where
            assert queue["complete"] is True, where
            assert queue["findings"] == [], where
            if truth["kind"] == "list":
                assert queue["qlen"] == truth["qlen"], where
            assert [skb["skb"] for skb in queue["skbs"]][: len(truth["skbs"])] == truth["skbs"], where
            for skb in queue["skbs"][: len(truth["skbs"])]:
                members = ("len", "data_len", "nr_frags", "truesize")
                assert {name: skb[name] for name in members} == {name: skbs[skb["skb"]][name] for name in members}


def test_skbcheck_of_every_socket_is_clean(gdb_run: Gdb, dump: LabDump) -> None:
    socks = dump.truth["socks"]
    run = gdb_run(*(f"skbcheck --sock {sock['sock']} --json" for sock in socks), vmcore=dump.vmcore).succeeded()
    for sock, checked in zip(socks, run.documents, strict=True):
        assert (checked["verdict"], checked["findings"]) == ("clean", []), sock["label"]


def test_convenience_functions_agree(gdb_run: Gdb, dump: LabDump) -> None:
    skb = next(skb for skb in dump.truth["skbs"] if skb["nr_frags"])
    pointer = f"((struct sk_buff *){skb['skb']})"
    task = next(task for task in users_tasks(dump) if task["pid"] == 1)
    counter = "init_net.loopback_dev->pcpu_refcnt"
    run = gdb_run(
        f"print/x (unsigned long)$skb_shinfo({pointer})",
        f"print/d $skb_shinfo({pointer})->nr_frags",
        f"print/x (unsigned long)$skb_end_pointer({pointer})",
        "print/x (unsigned long)$task(1)",
        "print $task(1)->pid",
        f'print/x (unsigned long)$container_of(&{pointer}->len, "sk_buff", "len")',
        'print $per_cpu("runqueues", 1).cpu',
        "print $per_cpu(runqueues, 0).cpu",
        "print $per_cpu(&runqueues, 1).cpu",
        "print $per_cpu(&runqueues.cpu, 1)",
        f"print &$per_cpu({counter}, 0) == (int *)((char *){counter} + __per_cpu_offset[0])",
        vmcore=dump.vmcore,
    ).succeeded()
    values = re.findall(r"^\$\d+ = (.*)$", run.stdout, re.MULTILINE)
    assert values == [
        hex(int(skb["shinfo"], 16)), str(skb["nr_frags"]), hex(int(skb["end"], 16)),
        hex(int(task["task"], 16)), "1", hex(int(skb["skb"], 16)), "1", "0", "1", "1", "1",
    ]  # fmt: skip


def test_json_is_one_line_and_nothing_else(gdb_run: Gdb, dump: LabDump) -> None:
    sock = next(sock for sock in dump.truth["socks"] if any(queue["skbs"] for queue in sock["queues"]))
    skb = next(skb for queue in sock["queues"] for skb in queue["skbs"])
    lookers = ("kinfo", "kps", "kbt", "kbt 1", "kmod", "klog", "kstruct sk_buff", f"kstruct sk_buff {skb}")
    judges = (f"shinfo {skb}", f"skbcheck {skb}", f"skbwalk {sock['sock']}", f"skbcheck --sock {sock['sock']}")
    commands = lookers + judges
    run = gdb_run(*(line for name in commands for line in ("echo @@", f"{name} --json")), vmcore=dump.vmcore)
    parts = run.succeeded().stdout.split("@@")[1:]
    assert len(parts) == len(commands)
    for name, part in zip(commands, parts, strict=True):
        first, *rest = part.splitlines()
        assert json.loads(first), name
        assert [line for line in rest if not line.startswith("[Inferior 1")] == [], name  # GDB's word as it ends


def test_nothing_from_the_dump_commands_the_terminal(gdb_run: Gdb, dump: LabDump) -> None:
    """One task of the lab has a name that would: control bytes, markup and invalid UTF-8."""
    (strange,) = (task for task in dump.truth["tasks"] if "\x01" in task["comm"])
    look = ("kps", f"kbt {strange['pid']}", f"kbt {strange['task']} --json", "klog", "kinfo", "info threads")
    text = gdb_run(*look, vmcore=dump.vmcore).succeeded().stdout
    assert r"\x01" in text
    assert {char for char in text if not char.isprintable()} <= {"\n", "\t"}
