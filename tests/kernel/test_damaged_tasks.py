"""Damaged tasks and stacks: the trace says where and why it stops, and every other task is as it was."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

WILD = 0x4002030400585A08

Tasks = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


@pytest.fixture
def patched(dump: LabDump, tmp_path: Path) -> PatchedDump:
    return PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")


def traces(gdb: Gdb, vmcore: Path) -> Tasks:
    """The traces of all tasks by task address, each with what kbt says that it lacks."""
    run = gdb("kbt -a --json", vmcore=vmcore)
    assert "Traceback" not in run.output
    document = run.json()
    return {task["task"]: {**task, "problems": document["problems"]} for task in document["tasks"]}


def offset(gdb: Gdb, dump: LabDump, member: str) -> int:
    """The offset of a member of struct task_struct."""
    run = gdb(f"print/x (unsigned long)&((struct task_struct *)0)->{member}", vmcore=dump.vmcore).succeeded()
    return int(re.findall(r"\$1 = (0x[0-9a-f]+)", run.stdout)[0], 16)


def victim(tasks: Tasks) -> dict[str, Any]:
    return next(task for task in tasks.values() if task["comm"] == "lab-read")


def others(tasks: Tasks, but: dict[str, Any]) -> dict[str, Any]:
    return {addr: (task["frames"], task["ended"]) for addr, task in tasks.items() if addr != but["task"]}


def test_a_stack_of_random_words(gdb_run: Gdb, dump: LabDump, patched: PatchedDump) -> None:
    before = traces(gdb_run, dump.vmcore)
    task = victim(before)
    start = int(task["frames"][0]["sp"], 16)
    source = random.Random(4)
    patched.write_words(start, *(source.getrandbits(64) for _ in range(60)))
    after = traces(gdb_run, patched.path)
    assert others(after, task) == others(before, task)
    damaged = after[task["task"]]
    assert 1 <= len(damaged["frames"]) < len(task["frames"])
    assert re.search(r"0x[0-9a-f]{16}", damaged["ended"]), damaged["ended"]


def test_a_stack_pointer_that_leads_nowhere(gdb_run: Gdb, dump: LabDump, patched: PatchedDump) -> None:
    before = traces(gdb_run, dump.vmcore)
    task = victim(before)
    patched.write_words(int(task["task"], 16) + offset(gdb_run, dump, "thread.sp"), WILD)
    after = traces(gdb_run, patched.path)
    assert others(after, task) == others(before, task)
    assert after[task["task"]]["frames"] == []
    assert f"{WILD:#018x}" in after[task["task"]]["ended"]
    assert "UNMAPPED" in after[task["task"]]["ended"]


def test_a_stack_that_is_not_in_the_dump(gdb_run: Gdb, dump: LabDump, patched: PatchedDump) -> None:
    before = traces(gdb_run, dump.vmcore)
    task = victim(before)
    patched.lose(int(task["frames"][0]["sp"], 16))
    after = traces(gdb_run, patched.path)
    assert others(after, task) == others(before, task)
    assert "TRUNCATED" in after[task["task"]]["ended"]


def test_a_task_list_that_runs_in_a_circle(gdb_run: Gdb, dump: LabDump, patched: PatchedDump) -> None:
    before = traces(gdb_run, dump.vmcore)
    task, tasks = victim(before), offset(gdb_run, dump, "tasks")
    leaders = [int(addr, 16) for addr, entry in before.items() if entry["pid"]]
    earlier = leaders[leaders.index(int(task["task"], 16)) - 10]
    patched.write_words(int(task["task"], 16) + tasks, earlier + tasks)
    after = traces(gdb_run, patched.path)
    # What lies behind the circle is found from the list's other end.
    assert set(after) == set(before)
    assert {addr: entry["frames"] for addr, entry in after.items()} == {a: e["frames"] for a, e in before.items()}
    assert any("circle" in problem for problem in after[task["task"]]["problems"])


def test_a_task_list_that_leads_nowhere(gdb_run: Gdb, dump: LabDump, patched: PatchedDump) -> None:
    before = traces(gdb_run, dump.vmcore)
    task = victim(before)
    patched.write_words(int(task["task"], 16) + offset(gdb_run, dump, "tasks"), WILD)
    run = gdb_run("kps --json", "info threads", vmcore=patched.path)
    assert {entry["task"] for entry in run.json()["tasks"]} == set(before)
    assert any(f"{WILD:#018x}" in problem for problem in run.json()["problems"])
    assert "there may be more tasks" in run.output


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_panic_task_that_is_not_in_the_dump(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path, kernel: str
) -> None:
    dump = lab_dump(f"{kernel}-reference")
    words = ("kbt --json", "ktriage --json")
    traced, told = gdb_run(*words, vmcore=dump.vmcore).succeeded().documents
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    (task,) = traced["tasks"]
    patched.lose(int(task["task"], 16))
    run = gdb_run(*words, "bt 3", vmcore=patched.path).succeeded()
    again, told_again = run.documents
    (found,) = again["tasks"]
    assert (found["task"], found["cpu"], found["pid"], found["comm"]) == (task["task"], task["cpu"], -1, "?")
    assert (found["frames"], found["ended"]) == (task["frames"], task["ended"])
    assert told_again["skb"] == told["skb"] and told_again["verdict"] == told["verdict"] == "corrupt"
    assert "there may be more tasks" in run.output and "#0  " in run.stdout
