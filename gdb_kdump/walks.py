"""How far a walk goes: to its end, to the limit that the user has set, or to Ctrl-C; and what it says of that.

A damaged kernel is full of lists without an end and of counts that nothing ever had.  Whatever was found before a walk
was stopped is shown, as far as that does not keep the user waiting, and the next walks of the same command end at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.text import hex16, some

T = TypeVar("T")

DEFAULT_MAX_ELEMENTS = 10_000_000  # an engineer's patience: about half a minute of walking
_SHOW_SECONDS = 0.15  # of the second that Ctrl-C may take, on a machine that is slower than ours

# What this module keeps is GDB's, which has one of each: the limit that `set kdump` sets, and the command that runs.
_max_elements = DEFAULT_MAX_ELEMENTS
_running: StoppableCommand | None = None


def max_elements() -> int:
    """The most elements of one list, tree, table or queue that a walk takes: `set kdump max-elements`."""
    return _max_elements


def set_max_elements(number: int) -> None:
    """Change that number, for the walks that begin from now on."""
    global _max_elements
    _max_elements = number


def too_many(what: str) -> str:
    """The sentence for something of which there are more than that."""
    return f"{what}: stopped after {_max_elements} elements (set kdump max-elements)"


class StoppableCommand:
    """A command that shows what it has when Ctrl-C stops it: while it runs, Ctrl-C ends walks and nothing else.

        with StoppableCommand() as running:
            ...

    Commands may follow each other, and one may run within another: Ctrl-C then stops both.
    """

    def __init__(self) -> None:
        self.is_interrupted = False
        self._show_until: float | None = None
        self._outer: StoppableCommand | None = None

    def __enter__(self) -> StoppableCommand:
        global _running
        self._outer, _running = _running, self
        self.is_interrupted = self._outer is not None and self._outer.is_interrupted
        return self

    def __exit__(self, *error: object) -> None:
        global _running
        _running = self._outer
        if _running is not None and self.is_interrupted:
            _running.is_interrupted = True

    def is_time_over(self) -> bool:
        """Whether what is shown after Ctrl-C has taken as long as it may."""
        if not self.is_interrupted:
            return False
        self._show_until = self._show_until or time.monotonic() + _SHOW_SECONDS
        return time.monotonic() > self._show_until

    def restart_the_clock(self) -> None:
        """Give as much time again, for what is done next."""
        self._show_until = None


def is_interrupted() -> bool:
    """Whether the user has stopped the command that runs: what it shows is partial."""
    return _running is not None and _running.is_interrupted


def interrupt() -> str:
    """Note that a walk was stopped by Ctrl-C; returns the words for it.

    Raises KeyboardInterrupt outside of a command, which could show a part.
    """
    if _running is None:
        raise KeyboardInterrupt
    _running.is_interrupted = True
    return "stopped by Ctrl-C"


def shown(items: Iterable[T]) -> Iterator[T]:
    """What a command shows of what it has found: all of it, or after Ctrl-C as much as there is time for.

    There can be a million, and a user who has stopped a command wants the prompt.
    """
    for item in items:
        if _running is not None and _running.is_time_over():
            return
        yield item


class Gaps:
    """What was looked for and is not all here: sentences, each once, in the order of their coming.

    A reader is handed one and notes in it; a reader that keeps what it has read keeps its own, too, and notes that
    again for each caller.  A command prints the one that Command.invoke made.
    """

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def note(self, *sentences: str) -> None:
        """Add sentences; empty ones and those that are there already change nothing."""
        self._sentences.update(dict.fromkeys(filter(None, sentences)))

    @contextmanager
    def about(self, what: str) -> Iterator[Gaps]:
        """Gaps of one thing: in the end they are noted here with `what` before each; of too many the first ones."""
        gaps = Gaps()
        try:
            yield gaps
        finally:
            self.note(*(f"{what}: {sentence}" if what else sentence for sentence in some(list(gaps))))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def __len__(self) -> int:
        return len(self._sentences)


class walk:
    """A loop that may end before its end: at a hole, at damage, at the limit and at Ctrl-C.

        with walk("the task list", gaps) as steps:
            for node in steps(list_for_each(session, head)):
                tasks.append(read(node - offset))

    `what` is walked, in the words of a sentence; `where` is the address (unsigned long) of an item, which items that
    are ints are themselves.  Whether the walk or the body of the loop raises Unreadable, Corrupt or MissingDebugInfo:
    the loop is over, and one sentence with the last good address goes to `gaps` and stays in `ended`.

    Raises KeyboardInterrupt outside of a command, as interrupt() does.
    """

    def __init__(self, what: str, gaps: Gaps | None = None, where: Callable[[Any], int] | None = None) -> None:
        self.ended = ""
        self._what = what
        self._gaps = gaps
        self._where = where
        self._count = 0
        self._last: object = None

    def __enter__(self) -> walk:
        return self

    def __call__(self, items: Iterable[T]) -> Iterator[T]:
        """The items, as far as the walk goes."""
        if is_interrupted():
            self._end(f"{self._what}: {interrupt()} before it began")
            return
        running, most = _running, _max_elements  # there can be millions of items
        for item in items:
            if self._count >= most:
                self._end(too_many(self._what) + self._last_good())
                return
            yield item
            self._count += 1
            self._last = item
            if running is not None and running.is_interrupted:  # in a walk within this one
                break
        if is_interrupted():
            self._end(self._stopped())

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, (Unreadable, Corrupt, MissingDebugInfo)):
            knows_it = isinstance(error, Corrupt) and error.last_good is not None
            self._end(str(error) if knows_it else f"{error}{self._last_good()}")
            return True
        if isinstance(error, KeyboardInterrupt):
            self._end(self._stopped())
            return True
        return False

    def _stopped(self) -> str:
        return f"{self._what}: {interrupt()} after {self._count}{self._last_good()}"

    def _end(self, sentence: str) -> None:
        self.ended = sentence
        if self._gaps is not None:
            self._gaps.note(sentence)

    def _last_good(self) -> str:
        last = self._last
        addr = self._where(last) if self._where is not None and last is not None else last
        return f" (last good: {hex16(addr)})" if isinstance(addr, int) else ""
