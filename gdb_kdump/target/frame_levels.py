"""What GDB itself calls a frame: its number in `bt`, for `frame N`."""

from __future__ import annotations

import gdb

from gdb_kdump.debuginfo.gdb_settings import changed
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.target.threads import thread_id


def ways_to_frame(task: Task, pc: int) -> list[str]:
    """The commands that select the real (not inlined) frame of a task at a pc; empty where GDB has none such."""
    selected = gdb.selected_thread()
    thread = next((t for t in gdb.selected_inferior().threads() if t.ptid[1] == thread_id(task)), None)
    if thread is None:
        return []
    try:
        thread.switch()
        level = _level(pc)
    finally:
        if selected is not None and selected.is_valid():
            selected.switch()
    if level is None:
        return []
    is_selected = selected is not None and selected.ptid == thread.ptid
    return [f"frame {level}"] if is_selected else [f"thread {thread.num}", f"frame {level}"]


def _level(pc: int) -> int | None:
    with changed("backtrace limit", None):
        frame: gdb.Frame | None = gdb.newest_frame()
        while frame is not None:
            if frame.pc() == pc and frame.type() != gdb.INLINE_FRAME:
                return frame.level()
            frame = frame.older()
    return None
