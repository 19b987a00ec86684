"""Arguments and local variables of a task's frames, as GDB itself finds and formats them."""

from __future__ import annotations

import gdb

from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.target.variables import for_each_variable
from gdb_kdump.text import escape

_MAX_ELEMENTS = 32


def variables_of(task: Task) -> dict[tuple[int, str | None], list[str]]:
    """`name = value` of every variable in each frame of a task's GDB thread, by the frame's pc and function."""
    found: dict[tuple[int, str | None], list[str]] = {}
    for frame, symbol in for_each_variable(task):
        lines = found.setdefault((frame.pc(), frame.name()), [])
        line = _line(frame, symbol)
        if line and line not in lines:
            lines.append(line)
    return found


def _line(frame: gdb.Frame, symbol: gdb.Symbol) -> str:
    """`name = value`, or nothing for a local that the compiler left nowhere."""
    try:
        value = symbol.value(frame)
        if value.is_optimized_out and not symbol.is_argument:
            return ""
        text = value.format_string(max_elements=_MAX_ELEMENTS, max_depth=2, pretty_structs=False)
    except gdb.error as error:
        text = f"<{error}>"
    return f"{symbol.name} = {escape(' '.join(text.split()))}"
