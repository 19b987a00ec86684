"""Names in GDB's own backtraces for functions of modules, and code made by the kernel, that GDB has no symbols of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import gdb
from gdb.FrameDecorator import FrameDecorator

from gdb_kdump.errors import KdumpError
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.target.connection import find_selected


class ModuleFrameFilter:
    """A frame filter that names the frames which GDB would show as ??; the dump's own kallsyms know them."""

    name = "gdb-kdump"
    priority = 100
    enabled = True

    def __init__(self) -> None:
        gdb.frame_filters[self.name] = self

    def filter(self, frames: Iterator[Any]) -> Iterator[Any]:
        """GDB's frames, those without a name replaced by ones that have it."""
        opened = find_selected()
        return frames if opened is None else map(_Namer(opened.once(Source)), takewhile(_is_a_caller, frames))


def _is_a_caller(frame: Any) -> bool:
    """Whether a frame is not the one at address 0 that GDB makes of the return address where idle tasks begin.

    secondary_startup_64 puts it there, and no unwinding information says so.
    """
    inner = frame.inferior_frame()
    try:
        return bool(inner.level() == 0 or inner.pc())
    except gdb.error:  # the only frame of a task that has exited
        return True


class _Namer:
    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, frame: Any) -> Any:
        inner = frame.inferior_frame()
        try:
            name = self._source.find_symbol_outside(inner.pc()) if inner.name() is None else None
        except gdb.error:
            return _WithoutPc(frame)
        except KdumpError:  # the dump server is gone: the next command says so
            return frame
        return frame if name is None else _Named(frame, name)


class _Named(FrameDecorator):
    def __init__(self, frame: Any, name: str) -> None:
        super().__init__(frame)
        self._name = name

    def function(self) -> str:
        return self._name


class _WithoutPc(FrameDecorator):
    """The only frame of a task that has exited: GDB's own decorator fails over it."""

    def function(self) -> str:
        return "<no registers>"

    def address(self) -> None:
        return None

    def filename(self) -> None:
        return None

    def line(self) -> None:
        return None
