"""What lies on stacks of real crashes: against what the kernel printed, its guesses too, and against kbt's traces."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, dump_names, printed_trace

CRASHES = ("stack-overflow", "null-module", "softirq-bug")

_SYMBOL = re.compile(r"\s*(\? )?([\w.]+\+0x[0-9a-f]+)/(0x[0-9a-f]+)(?: \[(\w+)\])?")
_REGISTER = re.compile(r"\b(R[A-Z0-9]{2}|EFLAGS|ORIG_RAX): (?:[0-9a-f]{4}:)?([0-9a-f]{8,16})\b")


@pytest.fixture(params=dump_names(*CRASHES))
def crash(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(request.param)


@pytest.fixture(params=KERNELS)
def healthy(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def uncovered(task: dict[str, Any]) -> set[str]:
    """The pcs of a task's frames that are not among the addresses of text on its stacks."""
    found = {symbol["pc"] for symbol in task["text_symbols"]}
    return {frame["pc"] for frame in task["frames"] if not frame["inlined"]} - found


def last_trace(lines: list[str]) -> list[str]:
    starts = [number for number, line in enumerate(lines) if line.strip() == "Call Trace:"]
    return printed_trace(lines, starts[-1])


def printed_registers(lines: list[str], rip: str) -> dict[str, int]:
    """The registers that the kernel printed from the line that begins so on, up to R15."""
    start = next(number for number, line in enumerate(lines) if line.strip().startswith(rip))
    registers: dict[str, int] = {}
    for line in lines[start + 1 :]:
        registers |= {name.lower().replace("r0", "r"): int(value, 16) for name, value in _REGISTER.findall(line)}
        if "r15" in registers:
            return registers
    return {}


def test_what_the_kernel_printed_is_found(gdb_run: Gdb, crash: LabDump) -> None:
    """Every address of text that it saw on the stack, its own guesses (`?`) too, and the exception frame."""
    run = gdb_run("kbt -T -e --json", "kbt -e", vmcore=crash.vmcore).succeeded()
    (task,) = run.json()["tasks"]
    assert task["unread"] == []
    has_all_text(task, last_trace(crash.truth["call_trace"]))
    frame = exception_frame(task, crash.truth["call_trace"])
    name = f"{frame['function']}+{frame['offset']:#x}"
    assert re.search(rf"^#{frame['level']}\s+{frame['address']} {re.escape(name)}", run.stdout, re.MULTILINE)


def has_all_text(task: dict[str, Any], trace: list[str]) -> None:
    assert uncovered(task) == set()
    found = {(f"{symbol['function']}+{symbol['offset']:#x}", symbol["module"]) for symbol in task["text_symbols"]}
    lines = [match for match in map(_SYMBOL.fullmatch, trace) if match]
    # Of what points to where a function begins the kernel names the one before it.
    lines = [line for line in lines if line[2].partition("+")[2] != line[3]]
    missing = [line[0] for line in lines if (line[2], line[4]) not in found and "dump_stack" not in line[2]]
    assert len(lines) >= 8 and missing == []
    # What a frame accounts for is where kbt shows it, and nothing else is said to be more than a guess.
    slots = {frame["stack"]: frame for frame in task["frames"] if not frame["inlined"]}
    for symbol in task["text_symbols"]:
        assert symbol["guess"] == (symbol["level"] is None)
        if symbol["address"] in slots and slots[symbol["address"]]["pc"] == symbol["pc"]:
            assert symbol["level"] == slots[symbol["address"]]["level"]
    sure = [symbol for symbol in task["text_symbols"] if not symbol["guess"]]
    pcs = {frame["level"]: frame["pc"] for frame in task["frames"]}
    assert len(sure) == len({symbol["level"] for symbol in sure}) >= 8 and len(sure) < len(task["text_symbols"])
    assert all(pcs[symbol["level"]] == symbol["pc"] for symbol in sure)


def exception_frame(task: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """The one whose registers the kernel printed."""
    registers = printed_registers(lines, "RIP: 0010:")
    where = next(line.strip().removeprefix("RIP: 0010:") for line in lines if line.strip().startswith("RIP: 0010:"))
    symbol = _SYMBOL.fullmatch(where)
    assert symbol and len(registers) >= 16
    found: list[dict[str, Any]] = [
        frame
        for frame in task["exception_frames"]
        if not frame["guess"] and f"{frame['function']}+{frame['offset'] or 0:#x}" == symbol[2]
    ]
    (frame,) = found
    assert frame["module"] == symbol[4] and not frame["user_mode"]
    assert {name: int(frame["registers"][name], 16) for name in registers} == registers
    entry = task["frames"][frame["level"]]
    assert entry["kind"] == "exception" and entry["registers"].items() <= frame["registers"].items()
    return frame


def test_where_a_program_called_the_kernel(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump("6.12-stack-overflow")
    (task,) = gdb_run("kbt -e --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    registers = printed_registers(dump.truth["call_trace"], "RIP: 0033:")
    (frame,) = [frame for frame in task["exception_frames"] if frame["user_mode"] and not frame["guess"]]
    assert {name: int(frame["registers"][name], 16) for name in registers} == registers and len(registers) >= 16


def test_all_tasks(gdb_run: Gdb, healthy: LabDump) -> None:
    """Of every task all frames are covered, and each program has called the kernel from where kbt says."""
    document = gdb_run("kbt -a -T -e --json", vmcore=healthy.vmcore).succeeded().json()
    tasks = [task for task in document["tasks"] if task["frames"]]
    assert len(tasks) > 50
    by_registers = {task["task"]: task["frames"][0]["pc"] for task in tasks if task["frames"][0]["level"] == 0}
    for task in tasks:
        # Where a CPU was stopped its crash note says, not its stack.
        assert uncovered(task) <= {by_registers[task["task"]]}, task["comm"]
        if task["ended"] == "user":
            levels = [frame["level"] for frame in task["exception_frames"] if frame["user_mode"]]
            assert len(task["frames"]) - 1 in levels, task["comm"]
        elif task["ended"] == "kthread":
            assert not any(frame["user_mode"] for frame in task["exception_frames"]), task["comm"]


def test_only_tasks_whose_trace_has_a_function(gdb_run: Gdb, healthy: LabDump) -> None:
    find = (
        "python import json; tasks = json.loads(gdb.execute('kbt -a --json', to_string=True))['tasks']; "
        "pc = next(f['pc'] for t in tasks for f in t['frames'] if f['function'] == 'worker_thread')"
    )
    run = gdb_run(
        "kbt -a --json", "kbt -R worker_thread --json", "kbt -R schedule_timeout --json", find,
        "python gdb.execute(f'kbt -R {pc} --json')", "kbt -R no_such_function --json", "kbt -R no_such_function",
        vmcore=healthy.vmcore,
    ).succeeded()  # fmt: skip
    every, *found, by_pc, none = run.documents
    for name, document in zip(("worker_thread", "schedule_timeout"), found):
        wanted = [task for task in every["tasks"] if name in [frame["function"] for frame in task["frames"]]]
        assert document["tasks"] == wanted
        assert 0 < len(wanted) < len(every["tasks"])
    pc = next(frame["pc"] for frame in found[0]["tasks"][0]["frames"] if frame["function"] == "worker_thread")
    assert by_pc["tasks"] == [task for task in every["tasks"] if pc in [frame["pc"] for frame in task["frames"]]]
    assert none["tasks"] == [] and "no task's trace has no_such_function" in run.stdout.splitlines()


def test_where_unwinding_fails(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump("6.1-reference")
    copy = PatchedDump(dump.vmcore, tmp_path / "vmcore")
    tasks = gdb_run("kbt -a --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    task = next(task for task in tasks if task["comm"] == "lab-read")
    frames = [frame for frame in task["frames"] if not frame["inlined"]]
    kept = [frame for frame in frames if int(frame["stack"], 16) >= int(frame["sp"], 16) - 8][3:]
    start, source = int(frames[0]["sp"], 16), random.Random(5)
    copy.write_words(start, *(source.getrandbits(64) for _ in range((int(kept[0]["stack"], 16) - start) // 8)))
    (broken,) = gdb_run(f"kbt {task['pid']} -T --json", vmcore=copy.path, vmlinux=dump.vmlinux).json()["tasks"]
    lost = {frame["pc"] for frame in kept} - {frame["pc"] for frame in broken["frames"]}
    guesses = {symbol["pc"] for symbol in broken["text_symbols"] if symbol["guess"]}
    assert len(lost) >= 3 and lost <= guesses
    assert broken["ended"] not in ("user", "kthread")


@pytest.mark.parametrize("name", dump_names("stack-overflow"))
def test_a_stack_that_has_overflowed(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str) -> None:
    dump = lab_dump(name)
    run = gdb_run("kbt -v --json", "kbt -v", "kbt -v 1 --json", vmcore=dump.vmcore).succeeded()
    document, one = run.documents
    (overflow,) = document["overflow"]["tasks"]
    assert overflow["pid"] == dump.truth["panic_task"]["pid"]
    sp = printed_registers(dump.truth["call_trace"], "RIP: 0010:")["rsp"]
    below = int(overflow["address"], 16) - sp
    assert 0 <= below < 4096 and (f"{sp:#x}" if below else "not STACK_END_MAGIC") in overflow["message"]
    assert f"stack overflow: PID {overflow['pid']} (load): {overflow['message']}" in run.stdout.splitlines()
    assert document["overflow"]["checked"] > 50
    assert one["overflow"] == {"checked": 1, "tasks": [], "unread": []}


def test_a_stack_whose_end_was_overwritten(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump("6.1-healthy")
    copy = PatchedDump(dump.vmcore, tmp_path / "vmcore")
    run = gdb_run("print/x $task(1)->stack", "kbt -v --json", "kbt -v", vmcore=dump.vmcore).succeeded()
    before = run.json()["overflow"]
    tasks = len(dump.truth["tasks"]) + len(dump.truth["cpus"])
    assert before["tasks"] == before["unread"] == [] and 50 < before["checked"] <= tasks
    sentence = f"no stack overflow: the ends of {before['checked']} stacks are as the kernel has marked them"
    assert sentence in run.stdout.splitlines()
    stack = int(re.findall(r"^\$1 = (0x[0-9a-f]+)", run.stdout, re.MULTILINE)[0], 16)
    copy.write_to_one_of_many(stack, b"overrun!")
    after = gdb_run("kbt -v --json", vmcore=copy.path, vmlinux=dump.vmlinux).json()["overflow"]
    (overflow,) = after["tasks"]
    assert (overflow["pid"], int(overflow["address"], 16)) == (1, stack)
    assert bytes.fromhex(overflow["value"][2:])[::-1] == b"overrun!"
    assert "not STACK_END_MAGIC" in overflow["message"] and after["checked"] == before["checked"]


REFUSED = {
    "-T -f": "-T is instead of frames, -f is about frames: choose one",
    "-e -v": "-e is instead of frames, -v is about frames: choose one",
    "-a --group -T": "-T is instead of frames, --group is about frames: choose one",
    "-R": "option -R needs a value: -R FUNC",
}


def test_what_contradicts_itself_is_refused(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    run = gdb_run(*(f"kbt {words}" for words in REFUSED), vmcore=lab_dump("6.1-reference").vmcore)
    assert run.errors == [f"kbt: {sentence}" for sentence in REFUSED.values()]
