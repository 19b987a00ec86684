"""Hooks of GDB's own commands: those that would run a program are refused, and `info symbol` knows all modules.

Each is a hook as a user would define one: it comes first, and its error keeps the command from being executed.
Without it GDB asks the dump server to run, which refuses, and shows that as a stop of the program.
"""

from __future__ import annotations

import gdb

from gdb_kdump.errors import DumpError, MissingDebugInfo
from gdb_kdump.kernel.module.symbols import ModuleSymbols
from gdb_kdump.target.connection import find_selected, is_selected

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


class _NameModules(gdb.Function):
    """$_kdump_name_modules(): GDB has the names of the functions of all modules, which it is not given before."""

    def __init__(self) -> None:
        super().__init__("_kdump_name_modules")

    def invoke(self, *words: gdb.Value) -> int:
        """Hand over the names; raises gdb.GdbError where the dump cannot be read any more."""
        opened = find_selected()
        try:
            if opened is not None:
                opened.once(ModuleSymbols).name_all()
        except (DumpError, MissingDebugInfo) as error:
            raise gdb.GdbError(str(error)) from error
        return 0


def register() -> None:
    """Define the hooks, except where the user has one of that name."""
    _Refuse()
    _NameModules()
    for command in _COMMANDS:
        _define(f"hook-{command}", f'$_kdump_refuse("{command}")')
    _define("info hook-symbol", "$_kdump_name_modules()")


def _define(hook: str, function: str) -> None:
    if not _is_defined(hook):
        gdb.execute(f"define {hook}\nif {function}\nend\nend", to_string=True)


def _is_defined(command: str) -> bool:
    try:
        gdb.execute(f"show user {command}", to_string=True)
    except gdb.error:
        return False
    return True
