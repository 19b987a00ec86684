"""The reference case with next to no types, symbols and VMCOREINFO: what is there is shown, what is not is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures import bare
from pytest_gdb_fixtures import Gdb, Run


def run(gdb_run: Gdb, case: bare.Case, *commands: str) -> Run:
    """A run in which nothing has gone wrong but what the commands themselves say."""
    shown = gdb_run(*commands, vmcore=case.vmcore, vmlinux=case.vmlinux)
    assert "Traceback" not in shown.output and "Python Exception" not in shown.output, shown.output
    return shown


@pytest.mark.parametrize("version", [4, 5, 6])
def test_the_case_is_told(gdb_run: Gdb, tmp_path: Path, version: int) -> None:
    case = bare.make(tmp_path, version=version)
    commands = [
        "kbt --json", "ktriage --json", f"shinfo {case.skb:x} --json", f"skbwalk {case.sock:x} --json",
        f"skbcheck --sock {case.sock:x} --json", f"kstruct sk_buff {case.skb:x} --json", "kps --json",
        "kinfo --json", f"x/4xg {case.head:#x}", "backtrace", "frame function skb_release_data", "print skb",
    ]  # fmt: skip
    shown = run(gdb_run, case, *commands)
    traces, story, info, walk, judged, struct, tasks, opened = shown.documents
    (trace,) = traces["tasks"]
    assert [frame["function"] for frame in trace["frames"]] == list(reversed(bare.CALLS))
    assert (trace["pid"], trace["cpu"], int(trace["task"], 16)) == (bare.PID, bare.CPU, case.task)
    assert [task["pid"] for task in tasks["tasks"]] == [bare.PID]
    assert (opened["panic"]["cpu"], opened["registers"]) == (bare.CPU, {str(bare.CPU): "dump note"})
    assert (int(story["skb"], 16), int(story["sock"], 16), story["verdict"]) == (case.skb, case.sock, "corrupt")
    assert (story["overrun"]["kind"], story["overrun"]["period"]) == ("payload", 32)
    assert any("what sockets account for" in problem for problem in story["problems"])
    assert int(info["shinfo"], 16) == case.head + bare.END
    assert "the debug information has no member sk_buff.cloned" in info["problems"]
    assert {"shinfo.nr_frags", "shinfo.frag_list"} <= {finding["rule"] for finding in info["findings"]}
    write, *_ = walk["queues"]
    assert ([int(skb["skb"], 16) for skb in write["skbs"]], write["qlen"]) == ([case.queued], 1)
    assert walk["problems"][0] == "the debug information has no member sock.sk_type"
    assert (judged["verdict"], judged["findings"]) == ("unknown", [])
    assert (struct["value"]["len"], struct["value"]["end"]) == (1500, bare.END)
    assert "0x017306e8a8ed53c9" in shown.stdout
    assert [name for name in bare.CALLS if f" {name} (" in shown.stdout] == list(bare.CALLS)
    assert f"(struct sk_buff *) {case.skb:#x}" in shown.stdout


WITHOUT_TYPES = {
    "ksock": "struct proto",
    "klog": "struct printk_log",
    "kmod": "symbol modules",
    "kslab -l": "struct kmem_cache",
    "kslab 0xffff880010000000": "struct page",
    "skbcheck --all": "struct proto",
}


def test_what_is_missing_is_named(gdb_run: Gdb, tmp_path: Path) -> None:
    shown = run(gdb_run, bare.make(tmp_path), *WITHOUT_TYPES)
    for missing in WITHOUT_TYPES.values():
        assert f"the debug information has no {missing}" in shown.output, missing
    assert "warning: the running tasks are those on whose stacks the CPUs were: the debug information" in shown.stderr
    assert "warning: the registers of sleeping tasks are not known: the debug information" in shown.stderr


def test_a_task_that_no_list_has(gdb_run: Gdb, tmp_path: Path) -> None:
    """Found by the struct thread_info at the end of the stack that the registers are on."""
    case = bare.make(tmp_path, listed=False)
    shown = run(gdb_run, case, "ktriage --json", "kbt --json")
    story, traces = shown.documents
    assert (int(story["skb"], 16), story["panic"]["pid"]) == (case.skb, bare.PID)
    assert len(traces["tasks"][0]["frames"]) == len(bare.CALLS)
    assert "warning: there may be more tasks: the task list" in shown.stderr


def test_what_lies_on_the_stack(gdb_run: Gdb, tmp_path: Path) -> None:
    shown = run(gdb_run, bare.make(tmp_path), "kbt -T -e --json", "kbt -v --json")
    found, overflow = shown.documents
    (task,) = found["tasks"]
    callers = [frame["function"] for frame in task["frames"][1:]]
    assert [word["function"] for word in task["text_symbols"] if not word["guess"]] == callers and len(callers) > 4
    assert task["unread"] == ["exception frames: the debug information has no struct pt_regs"]
    assert overflow["overflow"] == {"checked": 0, "tasks": [], "unread": ["this kernel marks the end of no stack"]}


def test_notes_that_no_cpu_is_known_of(gdb_run: Gdb, tmp_path: Path) -> None:
    case = bare.make(tmp_path, idle_notes=3)
    (trace,) = run(gdb_run, case, "kbt --json").json()["tasks"]
    assert [frame["function"] for frame in trace["frames"]] == list(reversed(bare.CALLS))


@pytest.mark.parametrize("how", [{"noted": False}, {"version": 3}], ids=["no note", "a header without notes"])
def test_no_registers_at_all(gdb_run: Gdb, tmp_path: Path, how: dict[str, Any]) -> None:
    case = bare.make(tmp_path, **how)
    shown = run(gdb_run, case, f"shinfo {case.skb:x} --json", f"skbwalk {case.sock:x} --json", "kbt")
    info, walk = shown.documents
    assert int(info["shinfo"], 16) == case.head + bare.END
    assert walk["queues"][0]["walked"] == 1
    assert "warning: what leads to the kernel's tasks is missing (the debug information has no per-CPU" in shown.stderr
    assert "kbt: the debug information has no per-CPU current task" in shown.stderr
