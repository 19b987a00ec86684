"""kmod: the loaded modules, and their symbols."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.tables import table
from gdb_kdump.errors import KdumpError, UsageError
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.symbols import ModuleSymbols, Symbols
from gdb_kdump.kernel.module.sysfs import ModuleSysfs
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Row:
    """A module, its build-id (None where it has none or cannot be read), and what is known of its symbols."""

    module: Module
    build_id: str | None
    symbols: Symbols | None


class Kmod(Command["list[Row]"]):
    name = "kmod"
    operands = "[PATTERN [FILE]]"
    summary = """List the loaded modules and where their symbols come from; load symbols.
A module's symbols are loaded when a backtrace first needs them, from the file with its build-id: in the folders of
$KDUMP_VMLINUX_PATH, of the dump, of GDB's debug-file-directory and of the system, in each also by .build-id and below
lib/modules and usr/lib/debug, packed (.ko.zst, .ko.xz, .ko.gz) or not; without a file, function names come from the
dump itself.  FILE names the file of one module."""
    gap_words = "the list of modules ends early"
    options = (
        Option("-s", "load the symbols of the modules shown"),
        Option("-S", "load the symbols of all modules"),
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> list[Row]:
        if len(arguments.operands) > 2:
            raise UsageError("kmod takes a PATTERN, and with -s a FILE")
        modules, symbols = session.once(Modules), session.once(ModuleSymbols)
        pattern = arguments.operands[0] if arguments.operands else "*"
        chosen = [module for module in modules.all(gaps) if fnmatch.fnmatchcase(module.name, pattern)]
        if not chosen and pattern != "*":
            raise UsageError(f"no module matches {pattern}; kmod lists them")
        file = Path(arguments.operands[1]).expanduser().absolute() if len(arguments.operands) > 1 else None
        if file is not None and len(chosen) != 1:
            raise UsageError(f"{pattern} matches {len(chosen)} modules: a FILE belongs to one")
        if arguments.has("-s") or arguments.has("-S") or file is not None:
            for module in chosen:
                symbols.load(module, file)
        return [Row(module, _build_id(session, module), symbols.known(module)) for module in chosen]

    def text(self, result: list[Row]) -> Iterator[str]:
        rows = (
            (row.module.name, hex16(row.module.addr), hex16(row.module.base), row.module.size, _state(row.symbols))
            for row in result
        )
        yield from table(("NAME", "MODULE", "BASE", "SIZE", "SYMBOLS"), rows, right=("SIZE",))

    def json(self, result: list[Row]) -> Any:
        return {
            "modules": [
                {
                    "name": row.module.name,
                    "module": hex16(row.module.addr),
                    "base": hex16(row.module.base),
                    "size": row.module.size,
                    "build_id": row.build_id,
                    "file": str(row.symbols.file) if row.symbols and row.symbols.file else None,
                    "why_not": row.symbols.why_not if row.symbols else None,
                    "placed": row.symbols.how if row.symbols else None,
                }
                for row in walks.shown(result)
            ],
        }

    def gaps_json(self, gaps: list[str]) -> dict[str, Any]:
        return {"cut_short": "; ".join(gaps) or None}


def _build_id(session: Session, module: Module) -> str | None:
    try:
        return session.once(ModuleSysfs).build_id(module)
    except KdumpError:
        return None  # a damaged module is still listed; loading its symbols says why not


def _state(symbols: Symbols | None) -> str:
    if symbols is None:
        return "not needed yet"
    if symbols.file is None:
        return f"none: {symbols.why_not}"
    return f"{symbols.file} ({symbols.how})" if symbols.how else str(symbols.file)
