"""kbt: backtraces of kernel tasks."""

from __future__ import annotations

from typing import Any, Iterator

from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kps import display_name, task_json
from gdb_kdump.commands.tables import table
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.crashpath import backtrace
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.percpu import PerCpu
from gdb_kdump.kernel.stack import Frame, Trace
from gdb_kdump.kernel.tasks import Task, Tasks
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16

_ENDED = {"user": "user mode", "kthread": "start of a kernel thread", "idle": "start of an idle task"}


class Kbt(Command[list[Trace]]):
    name = "kbt"
    operands = "[PID|TASK]..."
    summary = """Print the backtrace of the panic task, or of the tasks named by PID or task address.
A frame that an exception or interrupt struck shows its registers; inlined functions have no stack address."""
    options = (
        Option("-a", "the running task of every CPU"),
        Option("-c", "the running task of that CPU", "CPU"),
        Option("-l", "accepted for crash's sake: file and line are always shown"),
    )

    def read(self, session: Session, arguments: Arguments) -> list[Trace]:
        return [backtrace(session, task) for task in _chosen(session, arguments)]

    def text(self, result: list[Trace]) -> Iterator[str]:
        for number, trace in enumerate(result):
            if number:
                yield ""
            yield from _trace_text(trace)

    def json(self, result: list[Trace]) -> Any:
        return {"tasks": [_trace_json(trace) for trace in result]}


def _chosen(session: Session, arguments: Arguments) -> list[Task]:
    tasks = session.once(Tasks)
    if arguments.has("-a") or arguments.has("-c"):
        running = session.once(PerCpu).running()
        cpus = _cpus(arguments.options["-c"], list(running)) if arguments.has("-c") else list(running)
        return [tasks.read(running[cpu]) for cpu in cpus]
    if not arguments.operands:
        return [session.once(Panic).task()]
    return [_named(tasks, word) for word in arguments.operands]


def _cpus(text: str, online: list[int]) -> list[int]:
    try:
        cpus = [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"-c takes CPU numbers separated by commas, not {text!r}") from None
    absent = [cpu for cpu in cpus if cpu not in online]
    if absent:
        raise UsageError(f"CPU {absent[0]} was not online; online: {', '.join(map(str, online))}")
    return cpus


def _named(tasks: Tasks, word: str) -> Task:
    if word.isdecimal() and len(word) < 10:
        found = tasks.find_by_pid(int(word))
        kind = "PID"
    else:
        found = tasks.find_by_address(address(word))
        kind = "address"
    if found is None:
        raise UsageError(f"no task has {kind} {word}; kps lists them")
    return found


def _trace_text(trace: Trace) -> Iterator[str]:
    task = trace.task
    yield f"PID: {task.pid}  TASK: {hex16(task.task)}  CPU: {task.cpu}  COMMAND: {escape(display_name(task))}"
    if trace.note:
        yield f"    note: {trace.note}"
    rows = []
    for frame in trace.frames:
        where = f"{frame.source.file}:{frame.source.line}" if frame.source.file else ""
        sp = "(inlined)" if frame.source.inlined else hex16(frame.sp)
        rows.append((f"#{frame.level}", sp, hex16(frame.pc), _name(frame), where))
    lines = list(table(("", "STACK", "PC", "FUNCTION", "SOURCE"), rows))
    yield from lines[:1]
    for frame, line in zip(trace.frames, lines[1:]):
        yield line
        if frame.saved:
            yield from _registers_text(frame)
    yield f"    ended: {_ENDED.get(trace.ended, trace.ended)}"


def _name(frame: Frame) -> str:
    source = frame.source
    offset = f"+{source.offset:#x}" if source.offset is not None else ""
    kind = f" <{frame.kind}>" if frame.kind != "normal" else ""
    module = f" [{source.module}]" if source.module else ""
    return f"{source.function or '?'}{offset}{module}{kind}"


def _registers_text(frame: Frame) -> Iterator[str]:
    cells = [f"{name:>8}: {value:016x}" for name, value in frame.saved.items()]
    for start in range(0, len(cells), 3):
        yield "  ".join(cells[start : start + 3])


def _trace_json(trace: Trace) -> dict[str, Any]:
    return {**task_json(trace.task), "frames": [_frame_json(frame) for frame in trace.frames], "ended": trace.ended, "note": trace.note}


def _frame_json(frame: Frame) -> dict[str, Any]:
    source = frame.source
    return {
        "level": frame.level,
        "pc": hex16(frame.pc),
        "sp": hex16(frame.sp),
        "function": source.function,
        "offset": source.offset,
        "file": source.file,
        "line": source.line,
        "inlined": source.inlined,
        "module": source.module,
        "kind": frame.kind,
        "registers": {name: hex16(value) for name, value in frame.saved.items()},
    }
