"""The frames that GDB itself has of a task, and the variables in them."""

from __future__ import annotations

from collections.abc import Iterator

import gdb

from gdb_kdump.debuginfo.gdb_settings import changed
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.target.threads import thread_id


def for_each_variable(task: Task) -> Iterator[tuple[gdb.Frame, gdb.Symbol]]:
    """Yield every argument and local of a task's GDB thread with its frame, innermost frame first.

    The thread is selected meanwhile, and the one before it again at the end; a task that GDB lacks has none.
    """
    selected = gdb.selected_thread()
    thread = next((t for t in gdb.selected_inferior().threads() if t.ptid[1] == thread_id(task)), None)
    if thread is None:
        return
    try:
        thread.switch()
        with changed("backtrace limit", None):
            frame: gdb.Frame | None = gdb.newest_frame()
            while frame is not None:
                yield from ((frame, symbol) for symbol in _symbols(frame))
                frame = frame.older()
    finally:
        if selected is not None and selected.is_valid():
            selected.switch()


def _symbols(frame: gdb.Frame) -> Iterator[gdb.Symbol]:
    try:
        block: gdb.Block | None = frame.block()
    except RuntimeError:  # no debug information there
        return
    while block is not None and not block.is_static:
        yield from (symbol for symbol in block if symbol.is_argument or symbol.is_variable)
        if block.function is not None:
            return
        block = block.superblock
