"""One gdb process per run, in an environment of its own, and the proof that nothing of it is left afterwards.

$GDB is another gdb than /usr/bin/gdb.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_gdb_fixtures.lab import ROOT
from pytest_gdb_fixtures.lab import folder as lab_folder

INIT = ROOT / "gdb_kdump" / "init.py"
GDB = os.environ.get("GDB") or "/usr/bin/gdb"

_MARK = "GDB_KDUMP_TEST_RUN"
_PATIENCE = 5.0  # seconds for processes to end by themselves


@dataclass(frozen=True)
class Run:
    """What a gdb said and how it ended."""

    stdout: str
    stderr: str
    status: int
    seconds: float

    @property
    def output(self) -> str:
        """Both streams, for a message about what went wrong."""
        return f"{self.stdout}{self.stderr}"

    @property
    def errors(self) -> list[str]:
        """The lines on stderr, without those that GDB itself writes about the frame it has stopped in."""
        return [line for line in self.stderr.splitlines() if line.strip()]

    @property
    def documents(self) -> list[Any]:
        """Every line of stdout that is a JSON document."""
        return [json.loads(line) for line in self.stdout.splitlines() if line.startswith(("{", "[{"))]

    def json(self) -> Any:
        """The last JSON document on stdout."""
        assert self.documents, f"no JSON document in:\n{self.output}"
        return self.documents[-1]

    def succeeded(self) -> Run:
        """The same run, after making sure that nothing failed in it."""
        assert self.status == 0, self.output
        assert "Traceback" not in self.output and "Python Exception" not in self.output, self.output
        return self


class Gdb:
    """Runs gdb; each run has its own TMPDIR below `folder`, which must be empty when it has ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = 0

    def __call__(
        self,
        *commands: str,
        vmcore: Path | None = None,
        vmlinux: Path | None = None,
        script: bool = False,
        plugin: bool = True,
        init: Path = INIT,
        arguments: Sequence[str] = ("-nx",),
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        wrapper: Sequence[str] = (),
        timeout: float = 120,
    ) -> Run:
        """Run `commands` in a gdb -batch after sourcing the plugin, `init`, and opening `vmcore`.

        With `script` they are a file that gdb executes with -x, which stops at the first error with status 1.
        In `env` None removes a variable; `wrapper` is a command that runs gdb.
        """
        opening = [f"source {init}"] if plugin else []
        if vmcore is not None:
            opening.append(" ".join(["target kdump", str(vmcore), *([str(vmlinux)] if vmlinux else [])]))
        lines = [*opening, *commands]
        self._runs += 1
        private = self._folder / f"gdb-{self._runs}"
        temporary = private / "tmp"
        temporary.mkdir(parents=True)
        temporary.chmod(0o1777)
        if script:
            file = private / "commands.gdb"
            file.write_text("".join(line + "\n" for line in lines))
            given = ["-x", str(file)]
        else:
            given = [word for line in lines for word in ("-ex", line)]
        command = [*wrapper, GDB, *arguments, "-batch", *given]
        return _run(command, _environment(temporary, env or {}), cwd or self._folder, temporary, timeout)


def run_launcher(
    folder: Path,
    *words: str,
    env: Mapping[str, str | None] | None = None,
    python: str = sys.executable,
    timeout: float = 120,
) -> Run:
    """Run `python3 -m gdb_kdump` with these words, without a terminal; nothing of it may be left."""
    command = [python, "-m", "gdb_kdump", *words]
    temporary = folder / f"launcher-{uuid.uuid4().hex}"
    temporary.mkdir()
    return _run(command, launcher_environment(temporary, env or {}), folder, temporary, timeout)


def launcher_environment(temporary: Path, changes: Mapping[str, str | None]) -> dict[str, str]:
    """What the launcher's environment is in a test: this checkout, and no ~/.gdbinit."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    ours = {"PYTHONPATH": str(ROOT), "HOME": str(temporary), "XDG_CACHE_HOME": cache, "GDB": GDB}
    return _environment(temporary, {**ours, **changes})


def _environment(temporary: Path, changes: Mapping[str, str | None]) -> dict[str, str]:
    # XDG_CACHE_HOME stays the user's: a vmlinux is indexed once, not once per test.
    wanted = {
        **os.environ,
        "TMPDIR": str(temporary),
        "TERM": "dumb",
        "COLUMNS": "200",
        _MARK: uuid.uuid4().hex,
        "DEBUGINFOD_URLS": "",
        # For copies of the lab's dumps; a vmlinux that was not installed is beside the dump.
        "KDUMP_VMLINUX_PATH": str(lab_folder()),
        **changes,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _run(command: list[str], env: dict[str, str], cwd: Path, temporary: Path, timeout: float) -> Run:
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except BaseException as error:
        _kill(descendants(env[_MARK], process.pid))
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            pytest.fail(f"gdb did not end within {timeout:g} s: {' '.join(command)}", pytrace=False)
        raise
    run = Run(stdout, stderr, process.returncode, time.monotonic() - started)
    left = _wait_for_end(env[_MARK], process.pid)
    _kill(left)
    assert not left, f"processes outlived gdb: {left}\n{run.output}"
    files = sorted(path.name for path in temporary.iterdir())
    assert not files, f"gdb left files in its TMPDIR: {files}\n{run.output}"
    return run


def descendants(mark: str, gdb: int) -> dict[int, str]:
    """The running processes of the run with that mark in its environment, whose gdb has or had that PID."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            # A dump server shows its environment to nobody, but its arguments name the gdb that it belongs to.
            if (b"%d" % gdb in words and any(word.endswith(b"/server.py") for word in words)) or _has(folder, mark):
                found[int(folder.name)] = b" ".join(words).decode(errors="backslashreplace")
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def _has(process: Path, mark: str) -> bool:
    return f"{_MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0")


def _wait_for_end(mark: str, gdb: int) -> dict[int, str]:
    deadline = time.monotonic() + _PATIENCE
    while (left := descendants(mark, gdb)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _kill(processes: Mapping[int, str]) -> None:
    for pid in processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
