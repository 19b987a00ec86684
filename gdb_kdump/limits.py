"""How far a walk goes: to its end, to the limit that the user has set, or to Ctrl-C; and what it says of that.

A damaged kernel is full of lists without an end and of counts that nothing ever had.  Whatever was found before a walk
was stopped is shown, and the next walks of the same command end at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.text import hex16

T = TypeVar("T")

DEFAULT_MAX_ELEMENTS = 10_000_000  # an engineer's patience: about half a minute of walking

_max_elements = DEFAULT_MAX_ELEMENTS
_in_command = False
_is_interrupted = False


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
    global _in_command, _is_interrupted
    _in_command, _is_interrupted = True, False


def end() -> None:
    """The command has ended."""
    global _in_command, _is_interrupted
    _in_command = _is_interrupted = False


def gather(items: Iterable[T], take: Callable[[T], object], what: str) -> str:
    """Hand every item to `take`; returns "" at the end, or the sentence why it ended before that.

    It ends early at a hole, at damage, at a member that this kernel's types lack, at the limit and at Ctrl-C, whether
    that strikes the walk or `take`; raises KeyboardInterrupt as interrupt() does.
    """
    count, last = 0, None
    try:
        if _is_interrupted:
            return f"{what}: {interrupt()} before it began"
        for item in items:
            if count >= _max_elements:
                return too_many(what) + _last_good(last)
            take(item)
            count += 1
            last = item
            if _is_interrupted:  # in a walk within this one
                break
    except (Unreadable, Corrupt, MissingDebugInfo) as error:
        return str(error)
    except KeyboardInterrupt:
        interrupt()
    return f"{what}: {interrupt()} after {count}{_last_good(last)}" if _is_interrupted else ""


def _last_good(item: object) -> str:
    return f" (last good: {hex16(item)})" if isinstance(item, int) else ""
