"""GDB's own backtraces as they should read: names of modules' functions, of code made by the kernel and of entry code.

An argument that cannot be read is one, and does not end the trace; where GDB gives up, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gdb
from gdb.FrameDecorator import FrameDecorator

from gdb_kdump.errors import KdumpError, words_of
from gdb_kdump.kernel.module.source import Source, SourceFrame
from gdb_kdump.target.connection import find_selected

_USER_LIMIT, _ADDRESS = 1 << 63, (1 << 64) - 1
_PROPER_ENDS = (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_NULL_ID, gdb.FRAME_UNWIND_OUTERMOST)


class ModuleFrameFilter:
    """A frame filter that names the frames which GDB would show as ??; the dump's own kallsyms know them.

    `say` is told why a trace ends too early, where GDB itself says nothing.
    """

    name = "gdb-kdump"
    priority = 100
    enabled = True

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        gdb.frame_filters[self.name] = self

    def filter(self, frames: Iterator[Any]) -> Iterator[Any]:
        """GDB's frames, those without a name replaced by ones that have it."""
        opened = find_selected()
        return frames if opened is None else self._shown(_Namer(opened.once(Source)), frames)

    def _shown(self, namer: _Namer, frames: Iterator[Any]) -> Iterator[Any]:
        last = None
        for frame in frames:
            last = frame.inferior_frame()
            if not _is_the_kernels(last):
                return
            yield namer(frame)
        reason = None if last is None else _why_it_ends(last)
        if reason is not None:
            self._say(f"GDB's backtrace ends here: {reason}; `kbt` shows the rest\n")


def _is_the_kernels(frame: gdb.Frame) -> bool:
    """Whether a frame is neither a program's nor the one at address 0 that GDB makes where idle tasks begin.

    secondary_startup_64 puts that return address there, and no unwinding information says so.
    """
    try:
        return bool(frame.level() == 0 or frame.pc() >= _USER_LIMIT)
    except gdb.error:  # the only frame of a task that has exited
        return True


def _is_a_programs(frame: gdb.Frame) -> bool:
    """Whether code without a name is that of a program: with a stack of its own, unlike a call of NULL."""
    try:
        return frame.pc() < _USER_LIMIT and int(frame.read_register("sp")) & _ADDRESS < _USER_LIMIT
    except gdb.error:
        return False


def _why_it_ends(frame: gdb.Frame) -> str | None:
    """GDB's words for why it does not go on, or None at the proper end of a stack."""
    try:
        reason = frame.unwind_stop_reason()
    except gdb.error:
        return None
    return None if reason in _PROPER_ENDS else str(gdb.frame_stop_reason_string(reason))


class _Namer:
    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, frame: Any) -> Any:
        inner = frame.inferior_frame()
        try:
            if inner.type() == gdb.SIGTRAMP_FRAME:
                return _Entry(frame, self._source.frames(inner.pc(), not _is_interrupted(inner))[-1])
            name = inner.name() or self._source.find_symbol_outside(inner.pc())
        except gdb.error:
            return _WithoutPc(frame)
        except KdumpError:  # the dump server is gone: the next command says so
            return frame
        if inner.name():
            return _Readable(frame)
        return _Named(frame, name or ("<user mode>" if _is_a_programs(inner) else "??"))


def _is_interrupted(frame: gdb.Frame) -> bool:
    """Whether its pc is not where a call returns to."""
    newer = frame.newer()
    return newer is None or newer.type() == gdb.SIGTRAMP_FRAME


class _Readable(FrameDecorator):
    """A frame whose arguments and locals can be shown, be they where they cannot be read."""

    def frame_args(self) -> Iterator[Any] | None:
        return self._readable(super().frame_args())

    def frame_locals(self) -> Iterator[Any] | None:
        return self._readable(super().frame_locals())

    def _readable(self, variables: Iterable[Any] | None) -> Iterator[Any] | None:
        """GDB would print the words of a Python exception in the midst of the line, and no frame after it."""
        return None if variables is None else iter([self._or_why(variable) for variable in variables])

    def _or_why(self, variable: Any) -> Any:
        symbol = variable.symbol()
        if not isinstance(symbol, gdb.Symbol) or variable.value() is not None:
            return variable
        try:
            self.inferior_frame().read_var(symbol).fetch_lazy()
        except gdb.error as error:
            if "optimized out" not in words_of(error):
                # A value of words is not shown among scalars, but the name is.
                return _Unreadable(f"{symbol.name} <{words_of(error)}>")
        return variable


class _Unreadable:
    """A variable, in GDB's interface of symbols and values: a name, and no value."""

    def __init__(self, name: str) -> None:
        self._name = name

    def symbol(self) -> str:
        return self._name

    def value(self) -> str:
        return ""


class _Named(_Readable):
    def __init__(self, frame: Any, name: str) -> None:
        super().__init__(frame)
        self._name = name

    def function(self) -> str:
        return self._name


class _Entry(_Readable):
    """Entry code, that GDB takes for a handler of signals: it has a name and a line."""

    def __init__(self, frame: Any, source: SourceFrame) -> None:
        super().__init__(frame)
        self._source = source

    def function(self) -> str | None:
        return self._source.function

    def filename(self) -> str | None:
        return self._source.file

    def line(self) -> int | None:
        return self._source.line


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
