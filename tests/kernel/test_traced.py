"""Stacks with the marks of tracing: kretprobes, function_graph, BPF trampolines, and CPUs inside BPF programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, printed_trace

# Who sleeps under what; scripts/lab/scenarios.py: traced.
MARKED = {"lab-poll": "do_sys_poll", "lab-read": "pipe_read", "lab-nanosleep": "hrtimer_nanosleep"}

_FRAME = re.compile(r"(?:RIP: 0010:)?\s*([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+")
_BARE = re.compile(r"0x[0-9a-f]{16}")  # how the kernel prints an ftrace trampoline
_IN_BT = re.compile(r"#\d+ +(?:0x[0-9a-f]+ in )?([\w.]+)(?:\+0x[0-9a-f]+)?(?: \[\w+\])? \(")


@pytest.fixture(params=KERNELS)
def traced(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-traced")


def plain(name: str) -> str:
    """A function's name without the compiler's suffixes, and without that of a label in entry code."""
    return re.sub(r"(\.(constprop|isra|part|cold)(\.\d+)*)+$|_after_hwframe$", "", name)


def functions(frames: list[dict[str, Any]]) -> list[str]:
    """The functions of frames without those inlined, as the kernel prints them."""
    return [plain(frame["function"] or "?") for frame in frames if not frame["inlined"]]


def stacks(dump: LabDump) -> dict[str, list[str]]:
    """The kernel's own traces (/proc/PID/stack) by task."""
    traces = {task["task"]: task["stack_trace"] for task in dump.truth["tasks"] if task["stack_trace"]}
    return {task: [plain(line.split("+")[0]) for line in trace] for task, trace in traces.items()}


def test_sleeping_tasks_have_exactly_the_frames_of_proc_stack(gdb_run: Gdb, traced: LabDump) -> None:
    bounds = ("output/x (long)&__sched_text_start", "echo \\n", "output/x (long)&__sched_text_end", "echo \\n")
    run = gdb_run(*bounds, "kbt -a --json", vmcore=traced.vmcore).succeeded()
    low, high = (int(word, 16) for word in re.findall(r"^0x[0-9a-f]+$", run.stdout, re.MULTILINE))
    traces = {trace["task"]: trace for trace in run.json()["tasks"]}
    wanted = stacks(traced)
    found = {
        # /proc/PID/stack is without the scheduler's functions; kernel/stacktrace.c: in_sched_functions.
        task: functions([frame for frame in traces[task]["frames"] if not low < int(frame["pc"], 16) <= high])
        for task in wanted
    }
    assert found == wanted
    assert {traces[task]["ended"] for task in wanted} == {"user"}
    by_comm = {traces[task]["comm"]: trace for task, trace in wanted.items()}
    assert {comm for comm, function in MARKED.items() if function in by_comm[comm]} == set(MARKED)
    assert [name for name in by_comm["lab-nanosleep"] if name.startswith("bpf_trampoline_")] != []


@pytest.mark.parametrize(("cpu", "program"), [(0, "lab_spin"), (2, "lab_probe")])
def test_a_cpu_inside_a_bpf_program(gdb_run: Gdb, traced: LabDump, cpu: int, program: str) -> None:
    (lines,) = [trace["lines"] for trace in traced.truth["earlier_nmi_traces"] if trace["cpu"] == cpu]
    run = gdb_run(f"kbt -c {cpu} --json", vmcore=traced.vmcore).succeeded()
    (trace,) = run.json()["tasks"]
    names = [match for line in printed_trace(lines, 0) if (match := _name(line.strip()))]
    found = functions(trace["frames"])
    assert trace["ended"] == "user"
    program_at, at = (
        next((number for number, name in enumerate(one) if name.endswith(program)), None) for one in (names, found)
    )
    if program == "lab_probe" and None in (program_at, at):
        # The guest's NMI or the crash may come between two calls of the probed function; CPU 0 never leaves its own.
        assert at is not None or "__do_sys_getppid" in found or len(found) <= 2, found
        return
    wanted = names[program_at:]
    assert program_at is not None and found[at:] == wanted
    assert ("ftrace_trampoline" in wanted) == (program == "lab_probe")


def _name(line: str) -> str | None:
    if _BARE.fullmatch(line):
        return "ftrace_trampoline"
    match = _FRAME.match(line)
    return plain(match[1]) if match else None


def test_gdbs_own_backtraces_have_the_same_frames(gdb_run: Gdb, traced: LabDump) -> None:
    run = gdb_run("thread apply all bt", vmcore=traced.vmcore).succeeded()
    text = run.stdout
    sections = re.split(r"^Thread \d+ ", text, flags=re.MULTILINE)[1:]
    by_pid = {int(match[1]): _IN_BT.findall(section) for section in sections
              if (match := re.match(r"\(Thread (\d+) ", section))}  # fmt: skip
    pids = {task["task"]: task["pid"] for task in traced.truth["tasks"]}
    for task, wanted in stacks(traced).items():
        shown = [plain(name) for name in by_pid[pids[task]]]
        rest = iter(shown)
        assert [name for name in wanted if name not in rest and not name.startswith("entry_")] == [], shown
        assert shown[-1].startswith("entry_SYSCALL_64")
    assert "arch_rethook_trampoline" not in text
    assert "return_to_handler" not in text


def test_what_stands_for_a_return_address_has_its_own_name(in_gdb: Callable[..., Any], traced: LabDump) -> None:
    """No call stands before it, so it is not the end of the function before."""

    def names() -> list[str | None]:
        from gdb_kdump import session
        from gdb_kdump.kernel.stack.unwind import Hop, Stacks

        opened = session.current()
        arch, find = opened.arch, opened.debuginfo.address
        found = []
        for name in ("arch_rethook_trampoline", "return_to_handler"):
            state = arch.after_call({arch.pc: find(name), arch.sp: find("init_stack")})
            found.append(opened.once(Stacks).frames([Hop(state, None, "user")])[-1].source.function)
        return found

    assert in_gdb(names, vmcore=traced.vmcore) == ["arch_rethook_trampoline", "return_to_handler"]
