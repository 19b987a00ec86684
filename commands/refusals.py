"""GDB's commands that would run a program: refused with one sentence while a dump is what they would run.

Each gets a hook, as a user would define one: it comes first, and its error keeps the command from being executed.
Without it GDB asks the dump server, which refuses, and shows that as a stop of the program.
"""

from __future__ import annotations

import gdb

from gdb_kdump.target.connection import is_selected

_COMMANDS = (
    "run", "start", "starti", "continue", "step", "next", "stepi", "nexti", "finish", "until", "advance", "jump",
    "signal", "queue-signal", "return", "load", "reverse-continue", "reverse-step", "reverse-next", "reverse-stepi",
    "reverse-nexti", "reverse-finish",
)  # fmt: skip


class _Refuse(gdb.Function):
    """$_kdump_refuse(COMMAND): fails when GDB's target is a dump, which cannot run."""

    def __init__(self) -> None:
        super().__init__("_kdump_refuse")

    def invoke(self, *words: gdb.Value) -> int:
        """Refuse a command by its name; raises gdb.GdbError with one sentence."""
        if is_selected():
            name = " ".join(word.string() for word in words)
            raise gdb.GdbError(f"{name}: this is a dump of a dead kernel: nothing in it can run or change")
        return 0


def register() -> None:
    """Define the hooks, except where the user has one of that name."""
    _Refuse()
    for command in _COMMANDS:
        if not _is_defined(f"hook-{command}"):
            body = f'if $_kdump_refuse("{command}")\nend'
            gdb.execute(f"define hook-{command}\n{body}\nend", to_string=True)


def _is_defined(command: str) -> bool:
    try:
        gdb.execute(f"show user {command}", to_string=True)
    except gdb.error:
        return False
    return True
