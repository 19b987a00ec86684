"""kps: the tasks of the dump."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.tables import table
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps


class Kps(Command[tuple[Task, ...]]):
    name = "kps"
    operands = "[PATTERN]"
    gap_words = "there may be more tasks"
    summary = """List the tasks: PID, CPU, address, state, command; > marks those that were running.
PATTERN is a PID, a task address, or a command name with the shell's * ? [].
State letters are those of ps; a command in [brackets] is a kernel thread."""

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> tuple[Task, ...]:
        if len(arguments.operands) > 1:
            raise UsageError("one PATTERN at the most; quote a name with spaces")
        pattern = arguments.operands[0].strip("\"'") if arguments.operands else "*"
        return tuple(task for task in session.once(Tasks).all(gaps) if _matches(task, pattern))

    def text(self, result: tuple[Task, ...]) -> Iterator[str]:
        rows = (
            (">" if task.running else "", task.pid, task.cpu, hex16(task.addr), task.state, display_name(task))
            for task in result
        )
        yield from table(("", "PID", "CPU", "TASK", "ST", "COMM"), rows, right=("PID", "CPU"))

    def json(self, result: tuple[Task, ...]) -> Any:
        return {"tasks": [task_json(task) for task in walks.shown(result)]}


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
