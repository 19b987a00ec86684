"""kbt: backtraces of kernel tasks."""

from __future__ import annotations

import fnmatch
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kps import display_name, task_json
from gdb_kdump.commands.show.leftovers import (
    exceptions_json,
    exceptions_text,
    overflows_json,
    overflows_text,
    registers_text,
    symbols_json,
    symbols_text,
    unread_text,
)
from gdb_kdump.commands.show.variables import variables_of
from gdb_kdump.errors import MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.kernel.module.generated import GeneratedCode
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import task_on
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.kernel.stack.crash_path import backtrace
from gdb_kdump.kernel.stack.leftovers import LeftoverReader, Leftovers
from gdb_kdump.kernel.stack.overflows import Overflows, StackEnds
from gdb_kdump.kernel.stack.return_addresses import ReturnAddresses
from gdb_kdump.kernel.stack.unwind import Frame, Trace
from gdb_kdump.records.recursion import find_recursions
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16
from gdb_kdump.walks import Gaps

NOTHING_CRASHED = "nothing crashed: the kernel was running when the dump was taken"
_MOST_NAMES = 8
_HEX = re.compile("0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}")
_ENDED = {"user": "user mode", "kthread": "start of a kernel thread", "idle": "start of an idle task"}


@dataclass(frozen=True)
class Group:
    """The tasks that have the same trace, that of the first of them."""

    trace: Trace
    tasks: list[Task]


@dataclass(frozen=True)
class Backtraces:
    """Traces, in groups of identical ones where asked for, and what else to show of them.

    `words(low, high)` reads a stack; `crashed` is False where there is no panic task. `leftovers` are by task, where
    they were asked for, and so are `overflows`.
    """

    groups: tuple[Group, ...]
    options: Arguments
    words: Callable[[int, int], bytes]
    crashed: bool
    leftovers: dict[int, Leftovers]
    overflows: Overflows | None

    @property
    def is_grouped(self) -> bool:
        return self.options.has("--group")


class Kbt(Command[Backtraces]):
    name = "kbt"
    operands = "[PID|TASK]..."
    summary = """Print the backtrace of the panic task, or of the tasks named by PID or task address.
For the panic task the trace begins where the dying kernel ended; the line with the registers is the fault.
Where nothing crashed (a dump that a hypervisor took of a running kernel) the running tasks of all CPUs are shown.
The first number is where the frame's return address stands, as in crash; inlined functions have none.
An entry frame shows the registers of what it interrupted.
-T and -e show what lies on the stacks, whether or not unwinding leads there; of a task on a CPU on that one's IRQ and
exception stacks, too.  What no frame of the trace accounts for has ? and is a guess: a stack is full of the past."""
    gap_words = "there may be more tasks"
    options = (
        Option("-a", "every task; with -c the running tasks of those CPUs"),
        Option("-c", "the running tasks of these CPUs (0,2 or 0-3)", "CPU"),
        Option("-f", "the words of each stack frame"),
        Option("-s", "symbol and offset of each frame"),
        Option("-l", "as crash's option: file and line are always shown"),
        Option("-v", "arguments and local variables, as GDB sees them; and which tasks' stacks have overflowed"),
        Option("-T", "instead of frames every address of text on the stacks, for when unwinding fails"),
        Option("-e", "instead of frames the exception frames that are found on the stacks"),
        Option("-R", "only tasks whose trace has this function, or this address of text", "FUNC"),
        Option("--state", "only tasks in these states, as ps shows them (D, RD)", "LETTERS"),
        Option("--grep", "only tasks whose trace has this function (shell pattern)", "FUNC"),
        Option("--group", "identical traces once, the most frequent first, with the names and PIDs of their tasks"),
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Backtraces:
        _refuse_what_contradicts(arguments)
        traces = (backtrace(session, task) for task in _chosen(session, arguments))
        if arguments.has("-R"):
            is_wanted = _reference(arguments.options["-R"])
            traces = (trace for trace in traces if any(map(is_wanted, trace.frames)))
        if arguments.has("--grep"):
            pattern = arguments.options["--grep"]
            traces = (trace for trace in traces if _has_function(trace, pattern))
        words = lambda low, high: session.memory.read_prefix(low, high - low)[0]  # noqa: E731
        groups, leftovers = _Groups(arguments.has("--group")), dict[int, Leftovers]()
        with walks.walk("the traces", where=lambda trace: trace.task.addr) as walked:
            for trace in walked(traces):
                if arguments.has("-T") or arguments.has("-e"):
                    leftovers[trace.task.addr] = session.once(LeftoverReader).find(trace, arguments.has("-T"))
                groups.add(trace)
        if not arguments.operands and not arguments.has("-c"):  # all tasks were asked for
            session.once(Tasks).all(gaps)
        gaps.note(walked.ended, *session.once(GeneratedCode).gaps, *session.once(ReturnAddresses).gaps)
        return Backtraces(
            groups=groups.all(),
            options=arguments,
            words=words,
            crashed=session.once(Panic).happened(),
            leftovers=leftovers,
            overflows=_overflows(session, arguments, groups) if arguments.has("-v") else None,
        )

    def text(self, result: Backtraces) -> Iterator[str]:
        if not result.crashed and not result.options.operands and not result.options.options:
            yield f"{NOTHING_CRASHED}; these are the running tasks of its CPUs:"
            yield ""
        for number, group in enumerate(walks.shown(result.groups)):
            if number:
                yield ""
            if len(group.tasks) > 1:
                yield from _tasks_text(group.tasks)
            else:
                yield _headline(group.tasks[0])
            if result.leftovers:
                yield from _leftovers_text(group.trace, result)
            else:
                yield from _trace_text(group.trace, result)
        if not result.groups:
            wanted = [result.options.options[name] for name in ("-R", "--grep") if result.options.has(name)]
            yield f"no task's trace has {' and '.join(wanted)}" if wanted else "no such task"

    def closing(self, result: Backtraces) -> Iterator[str]:
        if result.overflows is not None:
            yield from overflows_text(result.overflows)

    def json(self, result: Backtraces) -> Any:
        more = {"overflow": overflows_json(result.overflows)} if result.overflows is not None else {}
        if not result.is_grouped:
            tasks = [_trace_json(group.trace, result) for group in walks.shown(result.groups)]
            return {"tasks": tasks, "crashed": result.crashed, **more}
        groups = [
            {**_trace_json(group.trace, result), "tasks": [task_json(task) for task in walks.shown(group.tasks)]}
            for group in walks.shown(result.groups)
        ]
        return {"tasks": [], "groups": groups, "crashed": result.crashed, **more}


class _Groups:
    """Puts traces together whose frames are the same, or none where that is not wanted; keeps one trace of each."""

    def __init__(self, together: bool) -> None:
        self._together = together
        self._groups: dict[Any, Group] = {}

    def add(self, trace: Trace) -> None:
        same = (*(frame.pc for frame in trace.frames), trace.ended) if self._together else trace.task.addr
        self._groups.setdefault(same, Group(trace, [])).tasks.append(trace.task)

    def all(self) -> tuple[Group, ...]:
        """The largest group first."""
        return tuple(sorted(self._groups.values(), key=lambda group: len(group.tasks), reverse=True))


def _has_function(trace: Trace, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(frame.source.function or "", pattern) for frame in trace.frames)


def _reference(wanted: str) -> Callable[[Frame], bool]:
    """Whether a frame is of the function of that name, or has that pc."""
    if _HEX.fullmatch(wanted):
        pc = int(wanted, 16)
        return lambda frame: frame.pc == pc
    # What the compiler has split off has a suffix of its own: .cold, .isra.0
    return lambda frame: wanted in (frame.source.function, (frame.source.function or "").partition(".")[0])


def _refuse_what_contradicts(arguments: Arguments) -> None:
    """Raises UsageError for options that want different things shown."""
    instead = [name for name in ("-T", "-e") if arguments.has(name)]
    with_frames = [name for name in ("-f", "-v", "--group") if arguments.has(name)]
    if instead and with_frames:
        raise UsageError(f"{instead[0]} is instead of frames, {with_frames[0]} is about frames: choose one")


def _overflows(session: Session, arguments: Arguments, groups: _Groups) -> Overflows:
    """Of the tasks that were named, else of all."""
    try:
        if arguments.operands or arguments.has("-c"):
            return session.once(StackEnds).check([task for group in groups.all() for task in group.tasks])
        return session.once(StackEnds).check(session.once(Tasks).all(Gaps()))
    except (MissingDebugInfo, Unreadable) as error:
        return Overflows(0, (), (str(error),))


def _chosen(session: Session, arguments: Arguments) -> Iterator[Task]:
    tasks = session.once(Tasks)
    chosen: Iterable[Task]
    if arguments.has("-c"):
        cpus = session.once(Running)
        known = sorted({*cpus.tasks(), *cpus.offline()})
        chosen = [task_on(session, cpu) for cpu in _cpus(arguments.options["-c"], known)]
    elif arguments.operands:
        chosen = [_named(tasks, word) for word in arguments.operands]
    elif any(arguments.has(name) for name in ("-a", "--state", "--grep", "--group", "-R")):
        chosen = tasks.all(Gaps())  # read() notes the gaps
    elif session.once(Panic).happened():
        chosen = [session.once(Panic).task()]
    else:
        chosen = (task_on(session, cpu) for cpu in session.once(Running).tasks())
    letters = arguments.options.get("--state")
    return (task for task in chosen if letters is None or task.state in letters)


def _cpus(text: str, known: list[int]) -> list[int]:
    cpus: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not low.isdecimal() or (high and not high.isdecimal()):
            raise UsageError(f"-c takes CPU numbers such as 0,2 or 0-3, not {text!r}")
        cpus += range(int(low), int(high or low) + 1)
    absent = [cpu for cpu in cpus if cpu not in known]
    if absent:
        raise UsageError(f"there is no CPU {absent[0]}; there are: {', '.join(map(str, known))}")
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


def _tasks_text(tasks: list[Task]) -> Iterator[str]:
    """How many tasks have a trace, what they are called, and the PID of each."""
    yield f"{len(tasks)} tasks with this trace; the stack is that of PID {tasks[0].pid}, TASK {hex16(tasks[0].addr)}:"
    names = Counter(display_name(task) for task in tasks).most_common()
    shown = [name if count == 1 else f"{name} ({count})" for name, count in names[:_MOST_NAMES]]
    more = f", and {len(names) - _MOST_NAMES} other names" if len(names) > _MOST_NAMES else ""
    yield f"    COMMAND: {', '.join(shown)}{more}"
    pids = " ".join(map(str, sorted(task.pid for task in tasks)))
    yield from textwrap.wrap(pids, 110, initial_indent="    PID: ", subsequent_indent="         ")


def _headline(task: Task) -> str:
    return f"PID: {task.pid}  TASK: {hex16(task.addr)}  CPU: {task.cpu}  COMMAND: {escape(display_name(task))}"


def _trace_text(trace: Trace, result: Backtraces) -> Iterator[str]:
    if trace.note:
        yield f"    note: {trace.note}"
    names = [_name(frame, result.options.has("-s")) for frame in trace.frames]
    width = max(map(len, names), default=0)
    variables = variables_of(trace.task) if result.options.has("-v") else {}
    folded = {} if result.options.has("-f") or variables else _folded(trace)
    for frame, name in zip(trace.frames, names):
        if frame.level in folded:
            yield from filter(None, (folded[frame.level],))
            continue
        source = frame.source
        stack = "(inlined)         " if source.inlined else hex16(frame.stack)
        where = f"{source.file}:{source.line}" if source.file else ""
        yield escape(f"#{frame.level:<3} {stack} {hex16(frame.pc)} {name:{width}}  {where}".rstrip())
        yield from (f"        {variable}" for variable in variables.get((frame.pc, frame.source.function), ()))
        if result.options.has("-f"):
            yield from _words_text(trace, frame, result)
        if frame.saved:
            yield from registers_text(frame.saved)
    yield f"    ended: {_ENDED.get(trace.ended, trace.ended)}"


def _leftovers_text(trace: Trace, result: Backtraces) -> Iterator[str]:
    found = result.leftovers[trace.task.addr]
    if not trace.task.stack:
        yield f"    {trace.ended}"
        return
    if result.options.has("-T"):
        yield from symbols_text(found)
    if result.options.has("-e"):
        yield from exceptions_text(found)
    yield from unread_text(found)


def _folded(trace: Trace) -> dict[int, str]:
    """The levels of frames that are not shown, since they repeat those before; the first of them has words instead."""
    levels: dict[int, str] = {}
    for found in find_recursions([(frame.pc, frame.source.function, frame.kind) for frame in trace.frames]):
        hidden = range(found.first + found.length, found.end)
        what = "the same frame" if found.length == 1 else f"the same {found.length} frames"
        levels.update(dict.fromkeys(hidden, ""))
        levels[hidden[0]] = f"     ... {what} {found.count - 1} times more, up to #{hidden[-1]} (-f shows them)"
    return levels


def _name(frame: Frame, with_offset: bool) -> str:
    source = frame.source
    kind = f" <{frame.kind}>" if frame.kind != "normal" else ""
    module = f" [{source.module}]" if source.module else ""
    return f"{source.place if with_offset else source.function or '?'}{module}{kind}"


def _words(trace: Trace, frame: Frame, result: Backtraces) -> list[int]:
    """The words between a frame's stack pointer and the next frame's, where both are on the same stack."""
    if frame.source.inlined:
        return []
    above = next((f.sp for f in trace.frames[frame.level + 1 :] if f.sp != frame.sp), frame.sp + 64)
    high = above if 0 < above - frame.sp <= 16384 else frame.sp + 64
    data = result.words(frame.sp, high)
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - 7, 8)]


def _words_text(trace: Trace, frame: Frame, result: Backtraces) -> Iterator[str]:
    words = _words(trace, frame, result)
    for start in range(0, len(words), 2):
        yield f"    {hex16(frame.sp + 8 * start)}: " + " ".join(f"{word:016x}" for word in words[start : start + 2])


def _trace_json(trace: Trace, result: Backtraces) -> dict[str, Any]:
    variables = variables_of(trace.task) if result.options.has("-v") else None
    frames = []
    for frame in trace.frames:
        document = _frame_json(frame)
        if result.options.has("-f"):
            document["words"] = [hex16(word) for word in _words(trace, frame, result)]
        if variables is not None:
            document["variables"] = variables.get((frame.pc, frame.source.function), [])
        frames.append(document)
    shown = {**task_json(trace.task), "frames": frames, "ended": trace.ended, "note": trace.note}
    found = result.leftovers.get(trace.task.addr)
    if found is not None:
        shown["unread"] = list(found.unread)
        if result.options.has("-T"):
            shown["text_symbols"] = symbols_json(found)
        if result.options.has("-e"):
            shown["exception_frames"] = exceptions_json(found)
    return shown


def _frame_json(frame: Frame) -> dict[str, Any]:
    source = frame.source
    return {
        "level": frame.level,
        "pc": hex16(frame.pc),
        "sp": hex16(frame.sp),
        "stack": hex16(frame.stack),
        "function": source.function,
        "offset": source.offset,
        "part": source.part,
        "file": source.file,
        "line": source.line,
        "inlined": source.inlined,
        "module": source.module,
        "kind": frame.kind,
        "registers": {name: hex16(value) for name, value in frame.saved.items()},
    }
