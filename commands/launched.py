"""What the launcher has GDB do: open the dump, run what it was given, end with a status or leave the prompt.

The launcher (gdb_kdump/launcher) starts GDB with a request, a JSON document in a file descriptor, and runs `carry_out`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import gdb

from gdb_kdump.commands import COMMANDS
from gdb_kdump.commands.base import Command, show_notices
from gdb_kdump.commands.show.status import Status, set_status, status, worst
from gdb_kdump.commands.target import open_words
from gdb_kdump.debuginfo.gdb_settings import for_commands
from gdb_kdump.errors import KdumpError, NoVmlinux
from gdb_kdump.text import escape

_SCREEN = "ktriage"


@dataclass(frozen=True)
class Request:
    """What the launcher wants; the keys of its JSON document."""

    words: list[str]  # those of `target kdump`
    steps: list[tuple[str, str]]  # in order: ("file", a file of GDB's commands) or ("run", a command)
    documents: int | None  # where JSON documents go: a file descriptor
    ask: int | None  # a file descriptor that takes a missing vmlinux, for the launcher to fetch
    prompt: bool
    columns: int | None  # of the terminal, where GDB itself does not ask for them


def carry_out(descriptor: int) -> None:
    """Do what the request in the file descriptor says."""
    with os.fdopen(descriptor, "rb") as file:
        request = Request(**json.load(file))
    for passed in (request.documents, request.ask):
        if passed is not None:
            os.set_inheritable(passed, False)  # they are not for what GDB's `shell` runs
    if request.columns:
        gdb.execute(f"set width {request.columns:#x}", to_string=True)
    if not _opened(request):
        _leave(Status.ERROR)
        return
    try:
        came_to = worst([_step(request, kind, text) for kind, text in _steps(request)])
    except KeyboardInterrupt:
        _say("stopped by Ctrl-C: what follows was not run")
        came_to = Status.ERROR
    except BrokenPipeError:  # nobody reads the documents any more
        came_to = Status.ERROR
    if request.prompt:
        return
    gdb.execute("disconnect", to_string=True)  # else GDB says on stdout that it does
    _leave(came_to)


def _leave(came_to: Status) -> None:
    gdb.execute(f"quit {int(came_to)}")


def _opened(request: Request) -> bool:
    try:
        with for_commands():
            open_words(request.words, quietly=True)
    except KdumpError as error:
        if isinstance(error, NoVmlinux) and request.ask is not None and error.build_id is not None:
            wanted = {"build_id": error.build_id, "release": error.release, "sentence": str(error)}
            os.write(request.ask, json.dumps(wanted).encode())
        else:
            _say(str(error))
        return False
    except KeyboardInterrupt:
        _say("stopped by Ctrl-C before the dump was open")
        return False
    finally:
        show_notices()
    return True


def _steps(request: Request) -> list[tuple[str, str]]:
    """What is to be done; the first screen where nothing else was asked for, or the prompt follows."""
    asked = [(kind, text) for kind, text in request.steps]
    return [("run", _SCREEN), *asked] if request.prompt or not asked else asked


def _step(request: Request, kind: str, text: str) -> Status:
    set_status(Status.FINE)
    command = f"source {text}" if kind == "file" else text
    try:
        if kind == "run" and request.documents is not None:
            _write(request.documents, _document(command))
        else:
            gdb.execute(command)
    except gdb.error as error:
        _say(str(error), "")
        if kind == "run" and request.documents is not None:
            _write(request.documents, json.dumps({"command": command, "error": str(error)}) + "\n")
        return Status.ERROR
    finally:
        gdb.flush()
    return status()


def _document(command: str) -> str:
    """The line of JSON that a command makes; raises gdb.error for one that makes none."""
    names = {str(getattr(known, "name", "")) for known in COMMANDS if issubclass(known, Command)}
    name = command.split(maxsplit=1)[0] if command.strip() else command
    if name not in names:
        raise gdb.error(f"{name} makes no JSON: leave --json out, or run one of {', '.join(sorted(names))}")
    words = command if "--json" in command.split() else f"{command} --json"
    return gdb.execute(words, to_string=True)


def _write(descriptor: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


def _say(sentence: str, who: str = "gdb-kdump: ") -> None:
    gdb.write(escape(f"{who}{sentence}") + "\n", gdb.STDERR)
