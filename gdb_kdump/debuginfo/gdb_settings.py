"""GDB's settings as our own use of it needs them, and as the user has them: changed for a while, and put back.

A number goes to GDB as 0x...: under `set input-radix 16` it takes the 64 of `set dcache line-size 64` for 100.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Union

import gdb

from gdb_kdump.errors import DumpError, words_of

Setting = Union[str, bool, int, None]

# A gdb.Value made of more bytes than this throws a C++ exception through GDB 13's Python, which is broken after that.
_VALUES = ("max-value-size", None)
# What GDB reads our commands by, and whether it asks before it does them.
_COMMANDS = (("input-radix", 10), ("language", "c"), ("confirm", False), ("pagination", False), _VALUES)
# What decides how GDB names types and the symbol at an address, which we take from it as text.
_NAMES = (("language", "c"), ("print max-symbolic-offset", None), ("print symbol-filename", False), _VALUES)

_users_language: str | None = None  # while it is not the user's own


def execute(command: str) -> None:
    """Have GDB execute a command without its output; raises DumpError with GDB's words, or those of a user's hook."""
    try:
        gdb.execute(command, to_string=True)
    except gdb.error as error:
        raise DumpError(f"GDB cannot `{command}`: {words_of(error)}") from error


def change(name: str, value: Setting) -> None:
    """Set one of GDB's settings; raises DumpError as execute()."""
    if value is None:
        word = "unlimited"
    elif isinstance(value, bool):
        word = "on" if value else "off"
    else:
        word = f"{value:#x}" if isinstance(value, int) else value
    execute(f"set {name} {word}")


@contextmanager
def changed(name: str, value: Setting) -> Iterator[None]:
    """Have a setting for a while, and the user's again after that; raises DumpError as execute()."""
    before = gdb.parameter(name)
    if before == value:
        yield
        return
    change(name, value)
    try:
        yield
    finally:
        change(name, before)


@contextmanager
def for_commands() -> Iterator[None]:
    """GDB as our own commands to it expect it: expressions of C, decimal numbers, no questions, no pager.

    Raises DumpError where GDB does not take one of these.
    """
    with ExitStack() as stack:
        for name, value in _COMMANDS:
            stack.enter_context(changed(name, value))
        yield


@contextmanager
def for_names() -> Iterator[None]:
    """GDB naming types as C does and any symbol whatever its distance; as_user() is the way back."""
    global _users_language
    before, _users_language = _users_language, _users_language or str(gdb.parameter("language"))
    try:
        with ExitStack() as stack:
            for name, value in _NAMES:
                stack.enter_context(changed(name, value))
            yield
    finally:
        _users_language = before


@contextmanager
def as_user() -> Iterator[None]:
    """GDB in the user's language, to evaluate an expression of the user's."""
    with changed("language", _users_language or gdb.parameter("language")):
        yield
