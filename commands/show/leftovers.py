"""What was found on a task's stacks, for people and as JSON; a guess has `?` where what the trace has has its level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gdb_kdump.commands.kps import task_json
from gdb_kdump.kernel.module.source import SourceFrame
from gdb_kdump.kernel.stack.leftovers import ExceptionFrame, Leftovers, TextSymbol
from gdb_kdump.kernel.stack.overflows import Overflows
from gdb_kdump.text import escape, hex16

_GUESSES = "? is a guess: no frame of the trace accounts for it, it may be of the past"


def symbols_text(found: Leftovers) -> Iterator[str]:
    """A line for each address of text."""
    yield f"    addresses of text on its stacks ({_GUESSES}):"
    for symbol, stack in _by_stack(found.symbols):
        yield from stack
        source = symbol.source
        where = f"  {source.file}:{source.line}" if source.file else ""
        yield escape(f"{_level(symbol.level)} {hex16(symbol.addr)} {hex16(symbol.pc)} {name_of(source)}{where}")


def exceptions_text(found: Leftovers) -> Iterator[str]:
    """A line and the registers of each exception frame."""
    yield f"    exception frames on its stacks ({_GUESSES}):"
    for frame, stack in _by_stack(found.exceptions):
        yield from stack
        interrupted = "user mode" if frame.from_user else name_of(frame.source) if frame.source else "no kernel text"
        yield escape(f"{_level(frame.level)} {hex16(frame.addr)} {interrupted}")
        yield from registers_text(frame.registers)
    if not found.exceptions and not found.unread:
        yield "    none"


def unread_text(found: Leftovers) -> Iterator[str]:
    """What of the stacks could not be searched."""
    yield from (f"    not searched: {sentence}" for sentence in found.unread)


def overflows_text(overflows: Overflows) -> Iterator[str]:
    """Which stacks have overflowed, or that none has."""
    for overflow in overflows.tasks:
        name = escape(overflow.task.comm)
        yield f"stack overflow: PID {overflow.task.pid} ({name}): {overflow.message}"
    if not overflows.tasks and overflows.checked:
        yield f"no stack overflow: the ends of {overflows.checked} stacks are as the kernel has marked them"
    yield from (f"stack not checked: {sentence}" for sentence in overflows.unread)


def registers_text(registers: Mapping[str, int]) -> Iterator[str]:
    """Registers, three in a line."""
    cells = [f"{name:>8}: {value:016x}" for name, value in registers.items()]
    for start in range(0, len(cells), 3):
        yield "  ".join(cells[start : start + 3])


def name_of(source: SourceFrame) -> str:
    """A function with its offset and module."""
    offset = f"+{source.offset:#x}" if source.offset is not None else ""
    module = f" [{source.module}]" if source.module else ""
    return f"{source.function or '?'}{offset}{module}"


def symbols_json(found: Leftovers) -> list[dict[str, Any]]:
    """Each address of text; `level` is that of the frame that accounts for it, else null, and it is a guess."""
    return [
        {
            "address": hex16(symbol.addr),
            "pc": hex16(symbol.pc),
            "function": symbol.source.function,
            "offset": symbol.source.offset,
            "module": symbol.source.module,
            "file": symbol.source.file,
            "line": symbol.source.line,
            "after_call": symbol.after_call,
            **_common_json(symbol),
        }
        for symbol in found.symbols
    ]


def exceptions_json(found: Leftovers) -> list[dict[str, Any]]:
    """Each exception frame; `level` is that of the trace's entry frame whose registers these are."""
    return [
        {
            "address": hex16(frame.addr),
            "registers": {name: hex16(value) for name, value in frame.registers.items()},
            "user_mode": frame.from_user,
            "function": frame.source.function if frame.source else None,
            "offset": frame.source.offset if frame.source else None,
            "module": frame.source.module if frame.source else None,
            **_common_json(frame),
        }
        for frame in found.exceptions
    ]


def overflows_json(overflows: Overflows) -> dict[str, Any]:
    """How many stacks were looked at, and those that have overflowed."""
    return {
        "checked": overflows.checked,
        "tasks": [
            {
                **task_json(overflow.task),
                "address": hex16(overflow.addr),
                "value": hex16(overflow.value),
                "message": overflow.message,
            }
            for overflow in overflows.tasks
        ],
        "unread": list(overflows.unread),
    }


def _common_json(found: TextSymbol | ExceptionFrame) -> dict[str, Any]:
    return {"stack": found.stack, "level": found.level, "guess": found.level is None}


def _by_stack(items: Any) -> Iterator[tuple[Any, list[str]]]:
    """Each item, with the line that says which stack it is on where that is another one than before."""
    before = ""
    for item in items:
        yield item, [f"    {item.stack or 'its own stack'}:"] if item.stack != before else []
        before = item.stack


def _level(level: int | None) -> str:
    return f"{'?' if level is None else f'#{level}':4}"
