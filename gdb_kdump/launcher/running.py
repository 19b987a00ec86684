"""Run GDB with a request: in its terminal, and back comes how it ended, and what it wants fetched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdb_kdump.errors import DumpError, words_of
from gdb_kdump.launcher.arguments import Arguments
from gdb_kdump.launcher.debuggers import Debugger

_INIT = Path(__file__).resolve().parents[1] / "init.py"


@dataclass(frozen=True)
class Ended:
    """How GDB ended; `lacking` is what it says of the vmlinux that it did not find."""

    status: int
    lacking: Mapping[str, Any] | None


def run(debugger: Debugger, arguments: Arguments, words: list[str], may_fetch: bool) -> Ended:
    """Have GDB do what was asked for; with `may_fetch` a missing vmlinux is left to the caller.  Raises DumpError."""
    documents = os.dup(sys.stdout.fileno()) if arguments.json else None
    answer = os.memfd_create("gdb-kdump-answer", 0)
    request = {
        "words": words,
        "steps": arguments.steps,
        "documents": documents,
        "ask": answer if may_fetch else None,
        "prompt": arguments.prompt,
        "columns": _columns() if not arguments.prompt and not arguments.json else None,
    }
    given = os.memfd_create("gdb-kdump-request", 0)
    os.write(given, json.dumps(request).encode("utf-8", "surrogateescape"))
    os.lseek(given, 0, os.SEEK_SET)
    passed = [given, answer, *([documents] if documents is not None else [])]
    try:
        status = _wait_for(debugger, arguments, given, passed)
        text = os.pread(answer, os.lseek(answer, 0, os.SEEK_END), 0)
    finally:
        for descriptor in passed:
            os.close(descriptor)
    return Ended(status, json.loads(text) if text else None)


def _wait_for(debugger: Debugger, arguments: Arguments, given: int, passed: list[int]) -> int:
    lend = f"python import sys; sys.path.extend({list(debugger.lent)!r})"
    carry_out = f"python from gdb_kdump.commands import launched; launched.carry_out({given})"
    batch = [] if arguments.prompt else ["-batch"]
    command = [debugger.path, "-q", *batch, "-iex", lend, "-iex", f"source {_INIT}", "-ex", carry_out]
    if not arguments.prompt:
        command += ["-ex", "quit 1"]  # where it has failed, and only there it comes to this
    with _signals_are_for_gdb():
        try:
            process = subprocess.Popen(
                command,
                stdin=None if arguments.prompt else subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if arguments.json else None,
                pass_fds=passed,
            )
        except OSError as error:
            raise DumpError(f"cannot start {debugger.path}: {words_of(error)}") from error
        status = process.wait()
    return 128 - status if status < 0 else status  # as a shell has it of a process that a signal ended


def _columns() -> int | None:
    """The columns of the terminal that a GDB without a prompt does not ask for."""
    return shutil.get_terminal_size((0, 0)).columns or None if sys.stdout.isatty() else None


@contextmanager
def _signals_are_for_gdb() -> Iterator[None]:
    """The terminal's Ctrl-C and Ctrl-\\ reach GDB as well, which knows what to do; a handler is not inherited."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
