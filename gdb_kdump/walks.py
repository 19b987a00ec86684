"""How far a walk goes: to its end, to the limit that the user has set, or to Ctrl-C; and what it says of that.

A damaged kernel is full of lists without an end and of counts that nothing ever had.  Whatever was found before a walk
was stopped is shown, as far as that does not keep the user waiting, and the next walks of the same command end at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.text import hex16

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_MAX_ELEMENTS = 10_000_000  # an engineer's patience: about half a minute of walking
_SHOW_SECONDS = 0.15  # of the second that Ctrl-C may take, on a machine that is slower than ours

_max_elements = DEFAULT_MAX_ELEMENTS
_in_command = False
_is_interrupted = False
_show_until: float | None = None


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


def is_interrupted() -> bool:
    """Whether the user has stopped the command that runs: what it shows is partial."""
    return _is_interrupted


def interrupt() -> str:
    """Note that a walk was stopped by Ctrl-C; returns the words for it.

    Outside of a command there is nobody to show a part to: raises KeyboardInterrupt there.
    """
    global _is_interrupted
    if not _in_command:
        raise KeyboardInterrupt
    _is_interrupted = True
    return "stopped by Ctrl-C"


def begin() -> None:
    """A command begins that shows what it has when it is stopped: until end(), Ctrl-C ends walks and nothing else."""
    global _in_command, _is_interrupted, _show_until
    _in_command, _is_interrupted, _show_until = True, False, None


def end() -> None:
    """The command has ended."""
    global _in_command, _is_interrupted
    _in_command = _is_interrupted = False


def shown(items: Iterable[T]) -> Iterator[T]:
    """What a command shows of what it has found: all of it, or after Ctrl-C as much as there is time for.

    There can be a million, and who has stopped a command wants the prompt.
    """
    global _show_until
    for item in items:
        if _is_interrupted:
            _show_until = _show_until or time.monotonic() + _SHOW_SECONDS
            if time.monotonic() > _show_until:
                return
        yield item


def restart_the_clock() -> None:
    """Give shown() as much time again, for what is done next."""
    global _show_until
    _show_until = None


def gather(items: Iterable[T], take: Callable[[T], object], what: str, where: Callable[[T], int] | None = None) -> str:
    """Hand every item to `take`; returns "" at the end, or the sentence why it ended before that.

    `where` is the address of an item, for that sentence; items that are ints are addresses themselves.
    It ends early at a hole, at damage, at a member that this kernel's types lack, at the limit and at Ctrl-C, whether
    that strikes the walk or `take`; raises KeyboardInterrupt as interrupt() does.
    """
    count = 0
    last: T | None = None
    try:
        if _is_interrupted:
            return f"{what}: {interrupt()} before it began"
        for item in items:
            if count >= _max_elements:
                return too_many(what) + _last_good(last, where)
            take(item)
            count += 1
            last = item
            if _is_interrupted:  # in a walk within this one
                break
    except (Unreadable, Corrupt, MissingDebugInfo) as error:
        knows_it = isinstance(error, Corrupt) and error.last_good is not None
        return str(error) if knows_it else f"{error}{_last_good(last, where)}"
    except KeyboardInterrupt:
        interrupt()
    return f"{what}: {interrupt()} after {count}{_last_good(last, where)}" if _is_interrupted else ""


def collect(
    items: Iterable[T], make: Callable[[T], R], what: str, where: Callable[[T], int] | None = None
) -> tuple[list[R], str]:
    """What `make` makes of each item, and the sentence that gather() gives."""
    found: list[R] = []
    ended = gather(items, lambda item: found.append(make(item)), what, where)
    return found, ended


def _last_good(item: T | None, where: Callable[[T], int] | None) -> str:
    addr = where(item) if where is not None and item is not None else item
    return f" (last good: {hex16(addr)})" if isinstance(addr, int) else ""
