"""Stacks of real crashes: what the kernel printed of them, and of hundreds of sleeping tasks, must be what kbt says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, dump_names, printed_trace

CRASHES = (
    "null-module", "softirq-bug", "softlockup", "stack-overflow", "nmi", "bug-syscall", "warn-syscall", "divide",
)  # fmt: skip

_FRAME = re.compile(r"(?:RIP: 0010:)?\s*([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\])?")


@pytest.fixture(params=dump_names(*CRASHES))
def crash(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(request.param)


@pytest.fixture(params=KERNELS)
def tasks(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-tasks")


def plain(function: str | None) -> str:
    """A function's name without what the compiler and the assembler have added to it; 5.10 has one with three names."""
    name = re.sub(r"(\.(constprop|isra|part|cold)(\.\d+)*)+$|_after_hwframe$", "", function or "?")
    return re.sub(r"^asm_call_(irq|sysvec)_on_stack$", "asm_call_on_stack", name)


def printed(lines: Iterable[str]) -> list[str]:
    """The functions in a trace that the kernel printed, without its guesses, which it marks with `?`."""
    return [plain(found[1]) for line in lines if (found := _FRAME.fullmatch(line.strip()))]


def last_trace(call_trace: list[str]) -> list[str]:
    """The last trace in what the log says of a panic: a soft lockup prints those of other CPUs before it."""
    starts = [number for number, line in enumerate(call_trace) if line.strip() == "Call Trace:"]
    return printed_trace(call_trace, starts[-1])


def in_thread(crash: LabDump) -> bool:
    """Whether a kernel thread panicked: with PREEMPT_RT soft interrupts have threads."""
    pid = crash.truth["panic_task"]["pid"]
    return any(task["kernel"] for task in crash.truth["tasks"] if task["pid"] == pid)


def missing_in_order(wanted: list[str], found: list[str]) -> list[str]:
    """Those of `wanted` that are not in `found` in that order."""
    at, missing = 0, []
    for name in wanted:
        if name in found[at:]:
            at = found.index(name, at) + 1
        else:
            missing.append(name)
    return missing


def test_the_panic_tasks_trace_is_the_kernels(gdb_run: Gdb, crash: LabDump) -> None:
    run = gdb_run("kbt --json", "bt", vmcore=crash.vmcore).succeeded()
    (task,) = run.json()["tasks"]
    functions = [plain(frame["function"]) for frame in task["frames"]]
    wanted = printed(last_trace(crash.truth["call_trace"]))
    # It printed the trace and had returned when the machine went down.
    printer = ("dump_stack_lvl", "dump_stack")
    assert len(wanted) >= 5
    assert missing_in_order([name for name in wanted if name not in printer], functions) == []
    assert functions[0] == "machine_kexec"
    thread = in_thread(crash)
    assert task["ended"] == ("kthread" if thread else "user")
    assert task["frames"][-1]["kind"] == ("normal" if thread else "syscall")
    assert task["note"] == ""
    frames = [line for line in run.stdout.splitlines() if re.match(r"#\d+ ", line)]
    assert len(frames) >= 8
    assert not [line for line in frames if "?? ()" in line]


def test_frames_of_a_module_have_its_name(gdb_run: Gdb, crash: LabDump) -> None:
    # In that scenario the module is on the CPU that was stopped, not on the one that panicked.
    which = "kbt -c 0 --json" if crash.name.endswith("nmi") else "kbt --json"
    (task,) = gdb_run(which, vmcore=crash.vmcore).succeeded().json()["tasks"]
    of_module = [frame["function"] for frame in task["frames"] if frame["module"] == "kdump_lab"]
    assert ("lab_softirq_bug_handler" if in_thread(crash) else "lab_ioctl") in of_module
    assert all(name.startswith("lab_") for name in of_module)


@pytest.mark.parametrize("name", dump_names("nmi"))
def test_a_cpu_stopped_by_nmi_in_a_module(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str) -> None:
    dump = lab_dump(name)
    (task,) = gdb_run("kbt -c 0 --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    functions = [frame["function"] for frame in task["frames"]]
    assert missing_in_order(["lab_spin_for_ever", "lab_spin_irqs_off", "lab_ioctl"], functions) == []
    assert task["ended"] == "user"


def test_every_task_is_there_as_the_kernel_has_it(gdb_run: Gdb, tasks: LabDump) -> None:
    run = gdb_run("kps --json", "info threads", vmcore=tasks.vmcore).succeeded()
    found = {task["task"]: task for task in run.json()["tasks"]}
    truth = {task["task"]: task for task in tasks.truth["tasks"]}
    assert len(truth) > 600
    assert set(truth) - set(found) == set()
    # What is not in the truth is each CPU's idle task.
    assert all(found[task]["pid"] == 0 for task in set(found) - set(truth))
    assert {t: found[t]["pid"] for t in truth} == {t: truth[t]["pid"] for t in truth}
    assert len(re.findall(r"^\*? +\d+ +Thread ", run.stdout, re.MULTILINE)) == len(found)


def test_sleeping_tasks_have_the_kernels_stacks(gdb_run: Gdb, tasks: LabDump) -> None:
    document = gdb_run("kbt -a --json", vmcore=tasks.vmcore).succeeded().json()
    assert document["problems"] == []
    traces = {trace["task"]: trace for trace in document["tasks"]}
    compared = 0
    wrong: dict[str, Any] = {}
    for task in tasks.truth["tasks"]:
        if not task.get("stack_trace"):
            continue
        functions = [plain(frame["function"]) for frame in traces[task["task"]]["frames"]]
        wanted = [plain(line.split("+")[0].split()[-1]) for line in _lines(task["stack_trace"]) if "+0x" in line]
        missing = missing_in_order(wanted, functions)
        compared += 1
        if missing:
            wrong[task["comm"]] = (missing, functions)
    assert compared > 500
    assert wrong == {}


def _lines(stack: str | list[str]) -> list[str]:
    return stack.splitlines() if isinstance(stack, str) else stack


def test_no_trace_leaves_the_kernel_or_stops_without_a_reason(gdb_run: Gdb, tasks: LabDump) -> None:
    traces = gdb_run("kbt -a --json", vmcore=tasks.vmcore).succeeded().json()["tasks"]
    exited = "the task has exited, and its stack has been freed"
    strange = [(t["comm"], t["ended"]) for t in traces if t["ended"] not in ("user", "kthread", "idle", exited)]
    assert strange == []
    assert [t["comm"] for t in traces if t["ended"] == exited and t["state"] not in "ZX"] == []
    nameless = [(t["comm"], f["pc"]) for t in traces for f in t["frames"] if not f["function"]]
    assert nameless == []


def test_gdbs_own_backtraces_of_all_threads_end_where_the_kernel_does(gdb_run: Gdb, tasks: LabDump) -> None:
    run = gdb_run("thread apply all bt", vmcore=tasks.vmcore).succeeded()
    sections = re.split(r"^Thread \d+ ", run.stdout, flags=re.MULTILINE)[1:]
    assert len(sections) > 600
    lost = [text.splitlines()[0] for text in sections if re.search(r"0x[0-9a-f]+ in \?\? \(\)", text)]
    assert lost == []
    assert re.search(r"^#0 +0x[0-9a-f]+ in <user mode> \(\)", run.stdout, re.MULTILINE)
    assert "Backtrace stopped" not in run.output
    assert "Python Exception" not in run.output


def test_identical_traces_are_shown_once(gdb_run: Gdb, tasks: LabDump) -> None:
    run = gdb_run("kbt -a --group --json", "kbt --grep do_sys_poll --json", "kbt --state D --json", vmcore=tasks.vmcore)
    groups, grepped, blocked = run.succeeded().documents
    sizes = [len(group["tasks"]) for group in groups["groups"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 20
    assert len(sizes) < sum(sizes) / 2
    assert grepped["tasks"]
    assert all("do_sys_poll" in [f["function"] for f in trace["frames"]] for trace in grepped["tasks"])
    assert blocked["tasks"]
    assert {trace["state"] for trace in blocked["tasks"]} == {"D"}
