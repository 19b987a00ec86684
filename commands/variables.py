"""Arguments and local variables of a task's frames, as GDB itself finds and formats them."""

from __future__ import annotations

import gdb

from gdb_kdump.kernel.tasks import Task
from gdb_kdump.kernel.threads import thread_id
from gdb_kdump.text import escape

_MAX_ELEMENTS = 32


def variables_of(task: Task) -> dict[tuple[int, str | None], list[str]]:
    """`name = value` of every variable in each frame of a task's GDB thread, by the frame's pc and function."""
    found: dict[tuple[int, str | None], list[str]] = {}
    selected = gdb.selected_thread()
    # Asking for the threads makes GDB fetch the list; a task that it lacks has no frames to show.
    thread = next((t for t in gdb.selected_inferior().threads() if t.ptid[1] == thread_id(task)), None)
    if thread is None:
        return found
    try:
        thread.switch()
        frame: gdb.Frame | None = gdb.newest_frame()
        while frame is not None:
            found.setdefault((frame.pc(), frame.name()), _of_frame(frame))
            frame = frame.older()
    finally:
        if selected is not None and selected.is_valid():
            selected.switch()
    return found


def _of_frame(frame: gdb.Frame) -> list[str]:
    lines: list[str] = []
    try:
        block: gdb.Block | None = frame.block()
    except RuntimeError:  # no debug information there
        return lines
    while block is not None and not block.is_static:
        lines += [line for symbol in block if (line := _line(frame, symbol)) not in ("", *lines)]
        if block.function is not None:
            break
        block = block.superblock
    return lines


def _line(frame: gdb.Frame, symbol: gdb.Symbol) -> str:
    """`name = value`, or nothing for what is no variable and for a local that the compiler left nowhere."""
    if not symbol.is_argument and not symbol.is_variable:
        return ""
    try:
        value = symbol.value(frame)
        if value.is_optimized_out and not symbol.is_argument:
            return ""
        text = value.format_string(max_elements=_MAX_ELEMENTS, max_depth=2, pretty_structs=False)
    except gdb.error as error:
        text = f"<{error}>"
    return f"{symbol.name} = {escape(' '.join(text.split()))}"
