"""gdb-kdump VMCORE [VMLINUX]: from a shell to the first screen, or to a document a line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from gdb_kdump.errors import KdumpError, UsageError, words_of
from gdb_kdump.launcher import vmlinux
from gdb_kdump.launcher.arguments import Arguments, parse
from gdb_kdump.launcher.asking import say
from gdb_kdump.launcher.crashes import CRASHES, choose_newest
from gdb_kdump.launcher.debuggers import find_debugger
from gdb_kdump.launcher.running import run
from gdb_kdump.launcher.versions import versions

_ERROR, _INTERRUPTED = 1, 130


def main(words: list[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse(sys.argv[1:] if words is None else words)
    try:
        if arguments.version:
            sys.stdout.write("".join(f"{line}\n" for line in versions()))
            return 0
        return _open(arguments)
    except KdumpError as error:
        say(str(error))
        return _ERROR
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return _INTERRUPTED


def _open(arguments: Arguments) -> int:
    debugger = find_debugger()
    files = _files(arguments)
    words = [*arguments.hints, *files]
    if arguments.report is not None:
        report = ("run", f"kreport {_made(Path(arguments.report)) / Path(files[0]).name}.html")
        arguments = replace(arguments, steps=[*arguments.steps, report])
    ended = run(debugger, arguments, words, may_fetch=True)
    if ended.lacking is not None:
        wanted = ended.lacking
        path = vmlinux.get(wanted["build_id"], wanted["release"], wanted["sentence"], arguments.debuginfod)
        ended = run(debugger, arguments, [*words, str(path)], may_fetch=False)
    return ended.status


def _made(folder: Path) -> Path:
    """A folder for reports, which have a machine's secrets, absolute; raises UsageError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {words_of(error)}") from None
    return folder.resolve()


def _files(arguments: Arguments) -> list[str]:
    """The files that are named, the first one chosen where it is a folder or none."""
    first, *others = arguments.files or [str(CRASHES)]
    if arguments.files and not Path(first).is_dir():
        return arguments.files
    return [str(choose_newest(Path(first), arguments.yes)), *others]
