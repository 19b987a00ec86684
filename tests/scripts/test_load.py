"""Dumps with many tasks, sk_buffs and modules: all of them found, in a time that grows no faster than they do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fixtures.load import PATHS, Loaded, write_load
from pytest_gdb_fixtures import Gdb

TASKS = 3000


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return write_load(tmp_path_factory.mktemp("load"), tasks=TASKS, skbs=20000, modules=500)


def test_every_task_is_found(gdb_run: Gdb, load: Loaded) -> None:
    run = gdb_run("kps --json", "kps", "info threads", vmcore=load.vmcore).succeeded()
    tasks = run.json()["tasks"]
    assert sorted(task["pid"] for task in tasks) == list(range(TASKS + 1))
    assert len({task["task"] for task in tasks}) == TASKS + 1
    assert {task["comm"] for task in tasks} == {"swapper/0", *(f"worker-{n % 4}-{n}" for n in range(TASKS))}
    assert len(re.findall(r"^ .*\] *worker|worker-\d-\d+$", run.stdout, re.MULTILINE)) >= TASKS
    assert len(re.findall(r"^[* ] +\d+ +Thread \d+", run.stdout, re.MULTILINE)) == TASKS + 1


def test_gdb_knows_every_thread_when_a_dump_is_open(gdb_run: Gdb, load: Loaded) -> None:
    """Without asking for the list again, as `info threads` does."""
    run = gdb_run(f"thread {TASKS + 1}", "thread", vmcore=load.vmcore).succeeded()
    assert f"[Current thread is {TASKS + 1} (Thread {TASKS})]" in run.stdout


def test_identical_stacks_are_grouped(gdb_run: Gdb, load: Loaded) -> None:
    run = gdb_run("kbt --group --json", "kbt --group", vmcore=load.vmcore).succeeded()
    groups = run.json()["groups"]
    sleeping = {tuple(frame["function"] for frame in group["frames"]): group["tasks"] for group in groups[: len(PATHS)]}
    assert set(sleeping) == set(PATHS)
    assert sum(len(group["tasks"]) for group in groups) == TASKS + 1
    for path, tasks in sleeping.items():
        assert {task["comm"].split("-")[1] for task in tasks} == {str(PATHS.index(path))}
    counts = re.findall(r"^(\d+) tasks with this trace", run.stdout, re.MULTILINE)
    assert list(map(int, counts)) == [len(group["tasks"]) for group in groups if len(group["tasks"]) > 1]
    pids = re.findall(r"(?<=^    PID: ).*(?:\n {9}[\d ]+)*", run.stdout, re.MULTILINE)
    assert sorted(int(pid) for text in pids for pid in text.split()) == sorted(
        task["pid"] for group in groups for task in group["tasks"] if len(group["tasks"]) > 1
    )


def test_a_long_queue_and_many_modules(gdb_run: Gdb, load: Loaded) -> None:
    walk = f"skbwalk {load.sock:#x} --queue receive"
    run = gdb_run(f"{walk} --json", "kmod --json", walk, "kmod", vmcore=load.vmcore).succeeded()
    queue = run.documents[0]["queues"][0]
    assert (queue["qlen"], queue["walked"], queue["complete"]) == (20000, 20000, True)
    assert len({skb["skb"] for skb in queue["skbs"]}) == 20000
    assert [module["name"] for module in run.json()["modules"]] == [f"module_{number}" for number in range(500)]
    assert len(re.findall(r"^ *\d+  0x[0-9a-f]{16} +100 ", run.stdout, re.MULTILINE)) == 20000
    assert len(re.findall(r"^module_\d+ ", run.stdout, re.MULTILINE)) == 500


def test_the_descriptors_of_a_terabyte_are_sampled(gdb_run: Gdb, tmp_path: Path) -> None:
    vmcore = write_load(tmp_path, spread=12_000_000).vmcore
    run = gdb_run("kinfo --json", "kps --json", vmcore=vmcore).succeeded()
    missing = run.documents[0]["missing"]
    assert missing["pages"] > 12_000_000 and not missing["exact"] and missing["pages_missing"] == 0
    assert len(run.json()["tasks"]) == 11
    with vmcore.open("r+b") as file:  # cut where the pages begin: descriptors are there, what they speak of is not
        file.truncate(vmcore.stat().st_size - 40000)
    run = gdb_run("kinfo", "kps", vmcore=vmcore)
    assert "Traceback" not in run.output
    assert re.search(r"pages are missing|truncated", run.output), run.output


TIMED = "python from time import process_time as t; s = t(); gdb.execute({!r}, to_string=True); print('@', t() - s)"


@pytest.mark.parametrize(
    ("what", "command"), [("tasks", "kps"), ("tasks", "kbt --group"), ("skbs", "skbwalk &socket_of_all")]
)
def test_time_grows_no_faster_than_the_load(
    gdb_run: Gdb, tmp_path_factory: pytest.TempPathFactory, what: str, command: str
) -> None:
    """Eight times as many take at the most sixteen times as long: of the processor's time, the least of three runs."""
    small, large = (2000, 16000) if what == "tasks" else (20000, 160000)
    seconds = []
    for count in (small, large):
        vmcore = write_load(tmp_path_factory.mktemp(what), **{what: count}).vmcore
        opened = f"target kdump {vmcore}"
        run = gdb_run(*[line for _ in range(3) for line in (opened, TIMED.format(command))]).succeeded()
        taken = [float(line[2:]) for line in run.stdout.splitlines() if line.startswith("@ ")]
        assert len(taken) == 3
        seconds.append(min(taken))
    assert seconds[1] < 16 * seconds[0], seconds
