"""kps: the tasks of the dump."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.tables import table
from gdb_kdump.commands.show.times import elapsed
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.sched.last_ran import LastRan
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Listed:
    """Tasks, and where that was asked for how long ago each ran (ns, None where nothing tells), the latest first."""

    tasks: tuple[Task, ...]
    last_ran: dict[int, int | None] | None = None


class Kps(Command[Listed]):
    name = "kps"
    operands = "[PATTERN]"
    gap_words = "there may be more tasks"
    options = (
        Option("-m", "how long ago each was given a CPU, the latest first; [days hours:minutes:seconds]"),
        Option("--state", "only tasks in these states (D, RD)", "LETTERS"),
    )
    summary = """List the tasks: PID, CPU, address, state, command; > marks those that were running.
PATTERN is a PID, a task address, or a command name with the shell's * ? [].
State letters are those of ps; a command in [brackets] is a kernel thread."""

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Listed:
        if len(arguments.operands) > 1:
            raise UsageError("one PATTERN at the most; quote a name with spaces")
        pattern = arguments.operands[0].strip("\"'") if arguments.operands else "*"
        letters = arguments.options.get("--state")
        tasks = (task for task in session.once(Tasks).all(gaps) if letters is None or task.state in letters)
        chosen = tuple(task for task in tasks if _matches(task, pattern))
        if not arguments.has("-m"):
            return Listed(chosen)
        reader = session.once(LastRan)
        last_ran = {task.addr: reader.nanoseconds(task) for task in chosen}
        return Listed(tuple(sorted(chosen, key=lambda task: _age(last_ran[task.addr]))), last_ran)

    def text(self, result: Listed) -> Iterator[str]:
        times = result.last_ran
        rows = (
            (
                ">" if task.running else "", task.pid, task.cpu, hex16(task.addr), task.state,
                *(() if times is None else (elapsed(times[task.addr]),)), display_name(task),
            )
            for task in result.tasks
        )  # fmt: skip
        extra = () if times is None else ("LAST RAN",)
        yield from table(("", "PID", "CPU", "TASK", "ST", *extra, "COMM"), rows, right=("PID", "CPU", *extra))

    def json(self, result: Listed) -> Any:
        times = result.last_ran
        return {
            "tasks": [
                task_json(task) if times is None else {**task_json(task), "last_ran_ns": times[task.addr]}
                for task in walks.shown(result.tasks)
            ]
        }


def _age(nanoseconds: int | None) -> float:
    return math.inf if nanoseconds is None else nanoseconds


def task_json(task: Task) -> dict[str, Any]:
    """A task as every JSON document of ours has it."""
    return {
        "pid": task.pid,
        "comm": task.comm.decode("utf-8", "backslashreplace"),
        "task": hex16(task.addr),
        "state": task.state,
        "cpu": task.cpu,
    }


def display_name(task: Task) -> str:
    """A task's name as ps shows it: kernel threads in brackets."""
    comm = task.comm.decode("utf-8", "backslashreplace")
    return f"[{comm}]" if task.is_kthread or task.pid == 0 else comm


def _matches(task: Task, pattern: str) -> bool:
    if pattern.isdecimal() and task.pid == int(pattern):
        return True
    if pattern.lower() in (hex16(task.addr), f"{task.addr:x}"):
        return True
    return fnmatch.fnmatchcase(task.comm.decode("utf-8", "backslashreplace"), pattern)
